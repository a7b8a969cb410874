//! Tests of [`super`].

use super::*;

fn parse(edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> Result<Config> {
    let text = r#"{"architectures":["LlamaForCausalLM"],"hidden_act":"silu","hidden_size":64,"intermediate_size":192,
        "max_position_embeddings":1024,"num_attention_heads":4,"num_hidden_layers":4,"num_key_value_heads":2,
        "rms_norm_eps":1e-5,"vocab_size":4096}"#;
    let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
    edit(value.as_object_mut().unwrap());
    Config::parse(Json::from_value(Path::new("config.json"), "", value))
}

fn with(key: &str, value: &str) -> Result<Config> {
    parse(|map| drop(map.insert(key.into(), serde_json::from_str(value).unwrap())))
}

#[test]
fn defaults_are_those_of_transformers() {
    let c = parse(|_| ()).unwrap();
    assert_eq!((c.head_dim, c.kv_heads, c.rope.theta, c.tied), (16, 2, 10_000.0, false));
    assert_eq!(c.rope.scaling, RopeScaling::None);
    assert_eq!(parse(|map| drop(map.remove("num_key_value_heads"))).unwrap().kv_heads, 4);
}

#[test]
fn both_spellings_of_rope_are_read() {
    let old = with("rope_scaling", r#"{"type":"linear","factor":2}"#).unwrap();
    assert_eq!(old.rope.scaling, RopeScaling::Linear { factor: 2.0 });
    let new = with("rope_parameters", r#"{"rope_type":"default","rope_theta":500000.0}"#).unwrap();
    assert_eq!((new.rope.theta, new.rope.scaling), (500_000.0, RopeScaling::None));
    let llama3 = r#"{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8192}"#;
    let expected = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192 };
    assert_eq!(with("rope_scaling", llama3).unwrap().rope.scaling, expected);
}

#[test]
fn what_cannot_be_converted_is_refused_by_name() {
    let cases = [
        ("architectures", r#"["GPTNeoXForCausalLM"]"#, "GPTNeoXForCausalLM"),
        ("architectures", r#""LlamaForCausalLM""#, "architectures"),
        ("partial_rotary_factor", "0.5", "partial_rotary_factor"),
        ("hidden_act", r#""gelu""#, "hidden_act"),
        ("rope_scaling", r#"{"rope_type":"dynamic","factor":4}"#, "rope_scaling.rope_type"),
        ("rope_scaling", r#"{"rope_type":"longrope","factor":4}"#, "rope_scaling.rope_type"),
        (
            "rope_scaling",
            r#"{"rope_type":"yarn","factor":4,"original_max_position_embeddings":64,"mscale":1}"#,
            "mscale",
        ),
        ("rope_scaling", r#"{"rope_type":"linear","factor":4,"beta_fast":32}"#, "rope_scaling.beta_fast"),
        ("rope_scaling", r#"{"rope_type":"linear"}"#, "rope_scaling.factor"),
        ("num_key_value_heads", "3", "num_key_value_heads"),
        ("hidden_size", r#""64""#, "hidden_size"),
        ("hidden_size", "1e30", "hidden_size"),
        ("num_hidden_layers", "100000", "num_hidden_layers"),
        ("num_hidden_layers", "0", "num_hidden_layers"),
        ("rms_norm_eps", "-1", "rms_norm_eps"),
        ("head_dim", "15", "head_dim"),
        ("sliding_window", "512", "sliding_window"),
        ("vocab_size", "null", "vocab_size"),
    ];
    for (key, value, named) in cases {
        let message = with(key, value).expect_err(key).to_string();
        assert!(message.contains(named) && message.contains("config.json"), "{message}");
    }
}

#[test]
fn remote_code_is_never_needed_for_a_known_architecture() {
    let known = with("auto_map", r#"{"AutoModel":"x.Y"}"#).unwrap();
    assert!(known.notes[0].contains("auto_map"), "{:?}", known.notes);
    let unknown = parse(|map| {
        map.insert("architectures".into(), serde_json::json!(["OwnForCausalLM"]));
        map.insert("auto_map".into(), serde_json::json!({"AutoModel": "x.Y"}));
    });
    let message = unknown.unwrap_err().to_string();
    assert!(["auto_map", "OwnForCausalLM", "Phi3ForCausalLM"].iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn families_are_found_by_class_or_type() {
    let of = |class: &str| with("architectures", &format!("[{class:?}]")).map(|config| config.architecture());
    assert_eq!(of("MistralForCausalLM").unwrap(), "llama");
    assert_eq!(of("Qwen3ForCausalLM").unwrap(), "qwen3");
    let by_type = |name: &str| {
        let config = parse(|map| {
            map.insert("architectures".into(), serde_json::json!([]));
            map.insert("model_type".into(), name.into());
        });
        config.map(|config| config.architecture())
    };
    assert_eq!(by_type("granite").unwrap(), "granite");
    assert!(by_type("gpt_neox").is_err());
}

#[test]
fn long_rope_has_a_number_per_pair() {
    let phi = |factors: usize, part: f64| {
        parse(|map| {
            let list = vec![1.5; factors];
            map.insert("architectures".into(), serde_json::json!(["Phi3ForCausalLM"]));
            map.insert("original_max_position_embeddings".into(), 256.into());
            map.insert("partial_rotary_factor".into(), part.into());
            let rope = serde_json::json!({"type": "su", "short_factor": list.clone(), "long_factor": list});
            map.insert("rope_scaling".into(), rope);
        })
    };
    let config = phi(6, 0.75).unwrap();
    assert_eq!((config.rotary, config.rope.original_context), (12, Some(256)));
    let RopeScaling::LongRope { attention_factor, short, .. } = config.rope.scaling else { panic!() };
    // sqrt(1 + ln 4 / ln 256)
    assert!((attention_factor - 1.25f64.sqrt()).abs() < 1e-12 && short == [1.5; 6]);
    assert!(phi(8, 0.75).unwrap_err().to_string().contains("short_factor"));
    assert!(phi(8, 1.0).is_ok());
    assert!(phi(8, 1.5).is_err());
}

#[test]
fn layers_of_different_kinds_may_have_different_bases() {
    let gemma = |rope: &str| {
        parse(|map| {
            map.remove("hidden_act");
            map.insert("architectures".into(), serde_json::json!(["Gemma3ForCausalLM"]));
            map.insert("rope_parameters".into(), serde_json::from_str(rope).unwrap());
        })
    };
    let both = r#"{"full_attention":{"rope_type":"linear","factor":8.0,"rope_theta":5e5},
        "sliding_attention":{"rope_type":"default","rope_theta":2e4}}"#;
    let config = gemma(both).unwrap();
    assert_eq!((config.rope.theta, config.rope.local_theta), (5e5, Some(2e4)));
    assert_eq!(config.rope.scaling, RopeScaling::Linear { factor: 8.0 });
    assert_eq!((config.head_dim, config.tied), (256, true));
    assert!(gemma(r#"{"full_attention":{}, "rope_theta":1.0}"#).is_err());
    assert!(gemma(r#"{"full_attention":{}, "sliding_attention":{"rope_type":"linear","factor":2.0}}"#).is_err());
}

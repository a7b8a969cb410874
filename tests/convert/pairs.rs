//! Settings that a config.json has twice: the one counts that Transformers take, and is told, or the file is refused.

use loam_convert::Error;
use loam_convert::architecture::Config;
use loam_convert::architecture::rope::RopeScaling;
use loam_tests::folder::Folder;
use serde_json::{Value, json};

fn read(config: &Value) -> loam_convert::Result<Config> {
    let folder = Folder::new();
    std::fs::write(folder.file("config.json"), config.to_string()).unwrap();
    Config::read(&folder.file("config.json"))
}

/// What was read, in the form of the expected values.
fn found(config: &Config, kind: &str) -> Value {
    let rope = &config.rope;
    let mut out = json!({"theta": rope.theta, "part": rope.part});
    match &rope.scaling {
        RopeScaling::None => out["type"] = json!("default"),
        RopeScaling::Linear { factor } => out = with(out, json!({"type": "linear", "factor": factor})),
        RopeScaling::Llama3 { factor, original_context, .. } => {
            out = with(out, json!({"type": "llama3", "factor": factor, "original": original_context}));
        }
        RopeScaling::Yarn { factor, original_context, .. } => {
            out = with(out, json!({"type": "yarn", "factor": factor, "original": original_context}));
        }
        RopeScaling::LongRope { attention_factor, .. } => {
            let original = rope.original_context;
            out = with(out, json!({"type": "longrope", "attention_factor": attention_factor, "original": original}));
        }
    }
    let extra = |key: &str| match config.extras.get(&format!("{}.{key}", config.architecture()))? {
        loam::gguf::Value::U32(value) => Some(u64::from(*value)),
        other => panic!("{other:?}"),
    };
    match kind {
        "gemma3_text" => out["local_theta"] = json!(rope.local_theta.unwrap_or(1e4)),
        "mistral" => out["window"] = json!(extra("attention.sliding_window")),
        "qwen3_moe" => out["experts"] = json!(config.experts.unwrap().count),
        _ => {}
    }
    if kind.starts_with("gemma") {
        let period = extra("attention.sliding_window_pattern").unwrap_or(if kind == "gemma2" { 2 } else { 6 });
        out["windows"] = (1..=config.layers).map(|layer| json!(!layer.is_multiple_of(period))).collect();
    }
    out
}

fn with(mut out: Value, more: Value) -> Value {
    out.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    out
}

/// Numbers alike, whether they are written as integers or not.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs(),
        _ => a == b,
    }
}

#[test]
fn a_setting_that_is_there_twice_is_followed_as_in_transformers() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../assets/golden/config_pairs.json")).unwrap();
    assert!(rows.len() > 80, "{}", rows.len());
    for row in rows {
        let kind = row["config"]["model_type"].as_str().unwrap();
        let config = read(&row["config"]).unwrap_or_else(|error| panic!("{error}: {row}"));
        let (found, expected) = (found(&config, kind), row["found"].as_object().unwrap());
        for (key, value) in expected {
            // A window that is no shorter than the context is none.
            let none = key == "window" && value.as_u64() >= row["config"]["max_position_embeddings"].as_u64();
            let value = if none { &Value::Null } else { value };
            assert!(same(&found[key], value), "{key} is {}, must be {value}: {row}", found[key]);
        }
    }
}

fn base(class: &str, kind: &str) -> Value {
    json!({"architectures": [class], "model_type": kind, "hidden_size": 64, "intermediate_size": 192,
        "max_position_embeddings": 1024, "num_attention_heads": 4, "num_hidden_layers": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5, "vocab_size": 4096, "head_dim": 16, "sliding_window": null})
}

#[test]
fn a_choice_between_two_is_told() {
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256});
    let cases = [
        (json!({"rope_scaling": yarn, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}), "rope_theta"),
        (json!({"rope_scaling": yarn, "rope_parameters": {"rope_type": "default"}}), "rope_scaling"),
        (json!({"rope_parameters": {"rope_theta": 5e5}, "rope_theta": 3e5}), "rope_theta is there twice"),
        (json!({"rope_scaling": {"rope_type": "linear", "type": "yarn", "factor": 2.0}}), "rope_type is \"linear\""),
        (json!({"rope_scaling": yarn, "original_max_position_embeddings": 128}), "original_max_position_embeddings"),
    ];
    for (changes, told) in cases {
        let config = read(&with(base("LlamaForCausalLM", "llama"), changes)).unwrap();
        assert!(config.notes.iter().any(|note| note.contains(told)), "{told}: {:?}", config.notes);
    }
    let once = json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "rope_theta": 5e5});
    assert!(read(&with(base("LlamaForCausalLM", "llama"), once)).unwrap().notes.is_empty());
}

#[test]
fn what_transformers_cannot_follow_is_refused_by_name() {
    let cases = [
        // The class says one family, the type another: Transformers go by the type.
        ("LlamaForCausalLM", "qwen2", json!({}), "model_type"),
        ("LlamaForCausalLM", "mystery", json!({}), "model_type"),
        // Computed as Llama, without the window.
        ("MistralForCausalLM", "llama", json!({"sliding_window": 32}), "sliding_window"),
        ("LlamaForCausalLM", "llama", json!({"text_config": {"hidden_size": 32}}), "text_config"),
        ("Gemma3ForConditionalGeneration", "gemma3", json!({}), "text_config"),
        ("Gemma3ForCausalLM", "gemma3_text", json!({"rope_parameters": {"rope_theta": 5e5}}), "rope_theta"),
        (
            "Qwen3MoeForCausalLM",
            "qwen3_moe",
            json!({"num_experts": 4, "num_local_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
            "num_local_experts",
        ),
    ];
    for (class, kind, changes, named) in cases {
        let error = read(&with(base(class, kind), changes)).err().unwrap_or_else(|| panic!("{kind}: {named}"));
        assert!(matches!(&error, Error::Field { field, .. } if field.contains(named)), "{named}: {error}");
    }
}

#[test]
fn other_names_of_one_function_are_the_same() {
    for name in ["silu", "swish"] {
        assert!(read(&with(base("LlamaForCausalLM", "llama"), json!({"hidden_act": name}))).is_ok(), "{name}");
    }
    for (name, same) in [("gelu_pytorch_tanh", true), ("gelu_new", true), ("gelu", false), ("silu", false)] {
        let config = json!({"hidden_activation": name, "sliding_window": 32});
        assert_eq!(read(&with(base("Gemma2ForCausalLM", "gemma2"), config)).is_ok(), same, "{name}");
    }
    let full = json!({"layer_types": ["attention", "attention", "attention", "attention"]});
    assert!(read(&with(base("Qwen2ForCausalLM", "qwen2"), full)).is_ok());
}

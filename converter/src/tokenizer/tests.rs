//! Small tokenizers, good and broken.

use serde_json::json;

use super::*;

fn good() -> Value {
    json!({
        "added_tokens": [
            {"id": 0, "content": "<|end|>", "special": true},
            {"id": 6, "content": "<tool>", "special": false},
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE",
            "vocab": {"<|end|>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "abc": 5},
            "merges": ["a b", ["ab", "c"]],
        },
    })
}

/// Reads a folder with this tokenizer.json, tokenizer_config.json and change to config.json.
fn read_folder(tokenizer: &Value, config: Value, model: Value) -> Result<Tokenizer> {
    let dir = tempfile::tempdir().unwrap();
    let mut hf = json!({"architectures": ["LlamaForCausalLM"], "hidden_size": 2, "intermediate_size": 2, "vocab_size": 8,
        "max_position_embeddings": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "rms_norm_eps": 1e-5});
    hf.as_object_mut().unwrap().extend(model.as_object().unwrap().clone());
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    put("config.json", hf.to_string().as_bytes());
    put("tokenizer.json", tokenizer.to_string().as_bytes());
    put("tokenizer_config.json", config.to_string().as_bytes());
    put("model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    super::read(&Source::open(dir.path()).unwrap(), None)
}

fn strings(tokenizer: &Tokenizer, key: &str) -> Vec<String> {
    match tokenizer.metadata.get(key) {
        Some(loam::gguf::Value::Array(loam::gguf::Array::String(list))) => {
            list.iter().map(|s| String::from_utf8(s.to_vec()).unwrap()).collect()
        }
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn tokens_types_merges_and_padding() {
    let read = read_folder(&good(), json!({"eos_token": "<|end|>"}), json!({"bos_token_id": 0})).unwrap();
    let tokens = ["<|end|>", "a", "b", "c", "ab", "abc", "<tool>", "[PAD7]"];
    assert_eq!(strings(&read, "tokenizer.ggml.tokens"), tokens);
    assert_eq!(strings(&read, "tokenizer.ggml.merges"), ["a b", "ab c"]);
    let types: loam::gguf::Value = vec![CONTROL, NORMAL, NORMAL, NORMAL, NORMAL, NORMAL, USER_DEFINED, UNUSED].into();
    assert_eq!(read.metadata.get("tokenizer.ggml.token_type"), Some(&types));
    assert_eq!(read.metadata.get("tokenizer.ggml.eos_token_id"), Some(&0u32.into()));
    assert_eq!(read.metadata.get("tokenizer.ggml.bos_token_id"), Some(&0u32.into()));
    assert_eq!(read.metadata.get("tokenizer.ggml.add_bos_token"), Some(&false.into()));
    assert!(read.notes[0].contains("1 ids"), "{:?}", read.notes);
}

#[test]
fn a_template_that_starts_with_bos_adds_it() {
    let mut tokenizer = good();
    tokenizer["post_processor"] = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel"},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|end|>"}}, {"Sequence": {"id": "A"}}]},
    ]});
    let read = |config| {
        read_folder(&tokenizer, config, json!({})).unwrap().metadata.get("tokenizer.ggml.add_bos_token").cloned()
    };
    assert_eq!(read(json!({"bos_token": {"content": "<|end|>"}})), Some(true.into()));
    assert_eq!(read(json!({"bos_token": "<|end|>", "add_bos_token": false})), Some(false.into()));
    assert_eq!(read(json!({"bos_token": "a"})), Some(false.into()));
}

#[test]
fn chat_templates_are_copied() {
    let one = read_folder(&good(), json!({"chat_template": "{{ x }}"}), json!({})).unwrap();
    assert_eq!(one.metadata.get("tokenizer.chat_template"), Some(&"{{ x }}".into()));
    let list = json!({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]});
    let several = read_folder(&good(), list, json!({})).unwrap();
    assert_eq!(several.metadata.get("tokenizer.chat_template"), Some(&"d".into()));
    assert_eq!(several.metadata.get("tokenizer.chat_template.tool_use"), Some(&"t".into()));
    assert_eq!(strings(&several, "tokenizer.chat_templates"), ["tool_use"]);
}

#[test]
fn broken_tokenizers_are_refused_by_name() {
    let edits: [(&str, Value, &str); 16] = [
        ("/model/type", json!("Unigram"), "Unigram"),
        ("/model/byte_fallback", json!(true), "byte_fallback"),
        ("/model/continuing_subword_prefix", json!("##"), "continuing_subword_prefix"),
        ("/model/vocab", json!({"a": 1, "b": "2"}), "model.vocab"),
        ("/model/vocab", json!({"a": 1, "b": 1}), "id 1 belongs"),
        ("/model/vocab", json!({"a": 9}), "vocab_size"),
        ("/model/vocab", json!({"a": -1}), "no id"),
        ("/model/vocab", json!({"a": 2147483648u64}), "vocab_size"),
        ("/model/vocab", json!({"": 1}), "empty"),
        ("/model/merges", json!(["a b c"]), "merges"),
        ("/model/merges", json!(["ab"]), "merges"),
        ("/model/merges", json!([["a", "b", "c"]]), "merges"),
        ("/model/merges", json!(["b c"]), "not in the vocabulary"),
        ("/added_tokens", json!([{"id": 3, "content": "<x>"}]), "id 3 belongs"),
        ("/added_tokens", json!([{"id": 7, "content": "a"}]), "ids 1 and 7"),
        ("/normalizer", json!({"type": "Lowercase"}), "Lowercase"),
    ];
    for (pointer, value, named) in edits {
        let mut tokenizer = good();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        tokenizer.pointer_mut(parent).unwrap()[key] = value;
        let message = read_folder(&tokenizer, json!({}), json!({})).unwrap_err().to_string();
        assert!(message.contains(named) && message.contains("tokenizer.json"), "{pointer}: {message}");
    }
    let message = read_folder(&good(), json!({"eos_token": "<none>"}), json!({})).unwrap_err().to_string();
    assert!(message.contains("eos_token") && message.contains("tokenizer_config.json"), "{message}");
    let message = read_folder(&good(), json!({}), json!({"eos_token_id": [8]})).unwrap_err().to_string();
    assert!(message.contains("eos_token_id") && message.contains("config.json"), "{message}");
}

#[test]
fn an_override_is_a_plain_name() {
    assert_eq!(check_override("llama-bpe").unwrap(), "llama-bpe");
    for name in ["", "a b", "../x", "\x1b[31m"] {
        assert!(check_override(name).is_err());
    }
}

//! Small tokenizers, good and broken.

use serde_json::json;

use super::protobuf::tests::{model, piece};
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
    super::read(&Source::open(folder(tokenizer, config, model).path()).unwrap(), None)
}

fn folder(tokenizer: &Value, config: Value, model: Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut hf = json!({"architectures": ["LlamaForCausalLM"], "hidden_size": 2, "intermediate_size": 2, "vocab_size": 8,
        "max_position_embeddings": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "rms_norm_eps": 1e-5});
    hf.as_object_mut().unwrap().extend(model.as_object().unwrap().clone());
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    put("config.json", hf.to_string().as_bytes());
    put("tokenizer.json", tokenizer.to_string().as_bytes());
    put("tokenizer_config.json", config.to_string().as_bytes());
    put("model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    dir
}

fn strings(tokenizer: &Tokenizer, key: &str) -> Vec<String> {
    match tokenizer.metadata.get(key) {
        Some(loam_files::gguf::Value::Array(loam_files::gguf::Array::String(list))) => {
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
    let types: loam_files::gguf::Value =
        vec![CONTROL, NORMAL, NORMAL, NORMAL, NORMAL, NORMAL, USER_DEFINED, UNUSED].into();
    assert_eq!(read.metadata.get("tokenizer.ggml.token_type"), Some(&types));
    assert_eq!(read.metadata.get("tokenizer.ggml.eos_token_id"), Some(&0u32.into()));
    assert_eq!(read.metadata.get("tokenizer.ggml.bos_token_id"), Some(&0u32.into()));
    assert_eq!(read.metadata.get("tokenizer.ggml.add_bos_token"), Some(&false.into()));
    assert!(read.notes.iter().any(|note| note.contains("1 ids")), "{:?}", read.notes);
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
        ("/model/byte_fallback", json!(true), "otherwise than SentencePiece"),
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

/// A SentencePiece-like BPE: "ab" before "▁ab", a byte, an unknown token.
fn sentencepiece() -> Value {
    json!({
        "added_tokens": [
            {"id": 0, "content": "<unk>", "special": true},
            {"id": 6, "content": "▁▁", "special": false},
            {"id": 9, "content": "<image>", "special": true},
        ],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "model": {
            "type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
            "vocab": {"<unk>": 0, "<0x0A>": 1, "a": 2, "b": 3, "▁": 4, "ab": 5, "▁▁": 6, "▁ab": 7},
            "merges": ["a b", ["▁", "ab"], "▁ ▁"],
        },
    })
}

#[test]
fn merges_in_order_become_scores() {
    let read = read_folder(&sentencepiece(), json!({}), json!({})).unwrap();
    let text = |key: &str| read.metadata.get(key).cloned();
    assert_eq!(text("tokenizer.ggml.model"), Some("llama".into()));
    assert_eq!(text("tokenizer.ggml.add_space_prefix"), Some(true.into()));
    assert_eq!(text("tokenizer.ggml.add_bos_token"), None, "llama.cpp's default");
    assert_eq!(text("tokenizer.ggml.scores"), Some(vec![-3f32, 0.0, -4.0, -5.0, -6.0, 0.0, -1000.0, -1.0].into()));
    let types = vec![UNKNOWN, BYTE, NORMAL, NORMAL, NORMAL, NORMAL, USER_DEFINED, NORMAL];
    assert_eq!(text("tokenizer.ggml.token_type"), Some(types.into()));
    assert_eq!(strings(&read, "tokenizer.ggml.tokens")[6], "  ", "spaces of added tokens are those of plain text");
    assert!(read.notes.iter().any(|note| note.contains("<image>")), "{:?}", read.notes);
}

#[test]
fn byte_fallback_that_is_not_sentencepiece_is_refused() {
    let edits: [(&str, Value, &str); 6] = [
        ("/model/merges", json!(["a b", "▁ ▁", "a b"]), "comes apart"),
        ("/model/merges", json!(["a ▁"]), "not in the vocabulary"),
        ("/model/unk_token", json!("<none>"), "unk_token"),
        ("/normalizer", json!({"type": "NFKC"}), "otherwise than SentencePiece"),
        ("/pre_tokenizer", json!({"type": "Digits"}), "otherwise than SentencePiece"),
        ("/normalizer", Value::Null, "otherwise than SentencePiece"),
    ];
    for (pointer, value, named) in edits {
        let mut tokenizer = sentencepiece();
        *tokenizer.pointer_mut(pointer).unwrap() = value;
        let message = read_folder(&tokenizer, json!({}), json!({})).unwrap_err().to_string();
        assert!(message.contains(named) && message.contains("tokenizer.json"), "{pointer}: {message}");
    }
}

#[test]
fn a_sentencepiece_model_wins() {
    let dir = folder(&sentencepiece(), json!({}), json!({}));
    let pieces = [
        piece("<unk>", 0.0, 2),
        piece("<0x0A>", 0.0, 6),
        piece("a", -9.0, 1),
        piece("b", -9.5, 1),
        piece("▁", -8.0, 1),
        piece("ab", -0.25, 1),
    ];
    std::fs::write(dir.path().join("tokenizer.model"), model(&pieces, false)).unwrap();
    let source = Source::open(dir.path()).unwrap();
    let read = super::read(&source, None).unwrap();
    let scores: Vec<f32> = vec![0.0, 0.0, -9.0, -9.5, -8.0, -0.25, -1000.0, -1000.0];
    assert_eq!(read.metadata.get("tokenizer.ggml.scores"), Some(&scores.into()));
    assert_eq!(read.metadata.get("tokenizer.ggml.add_space_prefix"), Some(&false.into()));
    assert_eq!(strings(&read, "tokenizer.ggml.tokens")[5..], ["ab", "  ", "[PAD7]"]);
    // Without tokenizer.json the added tokens come from the other files.
    std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let decoder = json!({"added_tokens_decoder": {"6": {"content": "<end>", "special": true}}});
    std::fs::write(dir.path().join("tokenizer_config.json"), decoder.to_string()).unwrap();
    std::fs::write(dir.path().join("added_tokens.json"), json!({"<tool>": 7}).to_string()).unwrap();
    let read = super::read(&source, None).unwrap();
    assert_eq!(strings(&read, "tokenizer.ggml.tokens")[5..], ["ab", "<end>", "<tool>"]);
    let types = vec![UNKNOWN, BYTE, NORMAL, NORMAL, NORMAL, NORMAL, CONTROL, USER_DEFINED];
    assert_eq!(read.metadata.get("tokenizer.ggml.token_type"), Some(&types.into()));
    std::fs::write(dir.path().join("tokenizer.model"), b"\x0a\xff").unwrap();
    let message = super::read(&source, None).unwrap_err().to_string();
    assert!(message.contains("tokenizer.model") && message.contains("no SentencePiece model"), "{message}");
}

#[test]
fn unigram_models_keep_their_scores_and_normalisation() {
    let tokenizer = json!({
        "added_tokens": [{"id": 0, "content": "<pad>", "special": true}],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAEC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}]},
        "model": {"type": "Unigram", "unk_id": 1, "vocab": [["<pad>", 0.0], ["<unk>", 0.0], ["▁a", -2.5]]},
    });
    let read = read_folder(&tokenizer, json!({}), json!({})).unwrap();
    let value = |key: &str| read.metadata.get(&format!("tokenizer.ggml.{key}")).cloned();
    assert_eq!(value("model"), Some("t5".into()));
    assert_eq!((value("add_space_prefix"), value("remove_extra_whitespaces")), (Some(true.into()), Some(true.into())));
    let bytes = loam_files::gguf::Value::Array(loam_files::gguf::Array::U8(vec![0, 1, 2]));
    assert_eq!(value("precompiled_charsmap"), Some(bytes));
    assert_eq!(strings(&read, "tokenizer.ggml.tokens")[..3], ["<pad>", "<unk>", "▁a"]);
    let mut broken = tokenizer.clone();
    broken["model"]["unk_id"] = json!(7);
    assert!(read_folder(&broken, json!({}), json!({})).unwrap_err().to_string().contains("unk_id"));
    broken = tokenizer;
    broken["normalizer"] = json!({"type": "Lowercase"});
    assert!(read_folder(&broken, json!({}), json!({})).unwrap_err().to_string().contains("normalizer"));
}

#[test]
fn an_override_is_a_known_name() {
    assert_eq!(check_override("llama-bpe").unwrap(), "llama-bpe");
    for name in ["", "a b", "../x", "\x1b[31m"] {
        assert!(check_override(name).is_err());
    }
}

/// The note that has `part`.
#[track_caller]
fn note<'t>(read: &'t Tokenizer, part: &str) -> &'t str {
    let found = read.notes.iter().find(|note| note.contains(part));
    found.unwrap_or_else(|| panic!("{part}: {:?}", read.notes))
}

#[test]
fn normalizers_that_change_nothing_are_none_in_every_spelling() {
    let list = |inner: &[Value]| json!({"type": "Sequence", "normalizers": inner});
    for (normalizer, noted) in [
        (list(&[]), false),
        (list(&[list(&[])]), false),
        (json!({"type": "Prepend", "prepend": ""}), false),
        (list(&[json!({"type": "NFC"})]), true),
        (list(&[list(&[json!({"type": "NFC"})])]), true),
    ] {
        let mut tokenizer = good();
        tokenizer["normalizer"] = normalizer.clone();
        let read = read_folder(&tokenizer, json!({}), json!({})).unwrap_or_else(|e| panic!("{normalizer}: {e}"));
        assert_eq!(read.notes.iter().any(|note| note.contains("NFC")), noted, "{normalizer}: {:?}", read.notes);
    }
    let mut tokenizer = good();
    tokenizer["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Sequence", "pretokenizers": [good()["pre_tokenizer"]]}]});
    assert_eq!(
        read_folder(&tokenizer, json!({}), json!({})).unwrap().metadata.get("tokenizer.ggml.pre"),
        Some(&"gpt-2".into())
    );
}

#[test]
fn flags_of_added_tokens_are_kept_or_told() {
    let mut tokenizer = good();
    tokenizer["added_tokens"][1]["rstrip"] = json!(true);
    tokenizer["added_tokens"][0]["lstrip"] = json!(true);
    tokenizer["added_tokens"][0]["single_word"] = json!(true);
    let read = read_folder(&tokenizer, json!({}), json!({})).unwrap();
    assert_eq!(read.metadata.get("loam.tokenizer.rstrip_token_ids"), Some(&vec![6u32].into()));
    assert_eq!(read.metadata.get("loam.tokenizer.lstrip_token_ids"), Some(&vec![0u32].into()));
    assert!(note(&read, "white space").starts_with("2 added tokens"));
    assert!(note(&read, "whole words").starts_with("1 added token (\"<|end|>\")"));
    let plain = read_folder(&good(), json!({}), json!({})).unwrap();
    assert_eq!(plain.metadata.get("loam.tokenizer.rstrip_token_ids"), None);
    tokenizer["normalizer"] = json!({"type": "NFC"});
    tokenizer["added_tokens"][1]["normalized"] = json!(true);
    note(&read_folder(&tokenizer, json!({}), json!({})).unwrap(), "normalized text");
}

/// What is read of a folder with this generation_config.json.
fn with_generation(config: Value, model: Value, generation: Value) -> Tokenizer {
    let dir = folder(&good(), config, model);
    std::fs::write(dir.path().join("generation_config.json"), generation.to_string()).unwrap();
    super::read(&Source::open(dir.path()).unwrap(), None).unwrap()
}

#[test]
fn all_end_tokens_are_kept() {
    let ids = |read: &Tokenizer| {
        ["eos", "eot", "eom"].map(|name| match read.metadata.get(&format!("tokenizer.ggml.{name}_token_id")) {
            Some(loam_files::gguf::Value::U32(id)) => Some(*id),
            _ => None,
        })
    };
    let eos = || json!({"eos_token": "<|end|>"});
    let read = with_generation(eos(), json!({}), json!({"eos_token_id": [0, 2]}));
    assert_eq!(ids(&read), [Some(0), Some(2), None]);
    let read = with_generation(eos(), json!({"eos_token_id": [0, 3]}), json!({"eos_token_id": 2}));
    assert_eq!(ids(&read), [Some(0), Some(2), Some(3)], "those of both files");
    let read = with_generation(
        json!({"eos_token": "<|end|>", "eot_token": "c"}),
        json!({"eom_token_id": 5}),
        json!({"eos_token_id": [0, 2]}),
    );
    assert_eq!(
        (ids(&read), read.metadata.get("loam.tokenizer.end_token_ids")),
        ([Some(0), Some(3), Some(5)], Some(&vec![2u32].into()))
    );
    note(&read, "1 more end tokens");
    let read = with_generation(eos(), json!({}), json!({"eos_token_id": [0, 99, -1]}));
    assert_eq!(ids(&read), [Some(0), None, None]);
    note(&read, "99 is the id of no token");
}

#[test]
fn another_token_at_the_end_of_a_text_is_no_eos() {
    let mut tokenizer = good();
    tokenizer["post_processor"] = json!({"type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<tool>"}}]});
    let read = read_folder(&tokenizer, json!({"eos_token": "<|end|>"}), json!({})).unwrap();
    assert_eq!(read.metadata.get("tokenizer.ggml.add_eos_token"), None);
    note(&read, "puts \"<tool>\" after a text");
    tokenizer["post_processor"]["single"][1]["SpecialToken"]["id"] = json!("<|end|>");
    let read = read_folder(&tokenizer, json!({"eos_token": "<|end|>"}), json!({})).unwrap();
    assert_eq!(read.metadata.get("tokenizer.ggml.add_eos_token"), Some(&true.into()));
}

#[test]
fn a_name_of_a_pre_tokenizer_is_for_tokenizers_that_cut() {
    let dir = folder(&good(), json!({}), json!({}));
    let read = |pre: &str| super::read(&Source::open(dir.path()).unwrap(), Some(pre));
    assert_eq!(read("qwen2").unwrap().metadata.get("tokenizer.ggml.pre"), Some(&"qwen2".into()));
    assert!(read("nonsense").unwrap_err().to_string().contains("known"), "known ones are named");
    std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    std::fs::write(dir.path().join("tokenizer.model"), model(&[piece("<unk>", 0.0, 2), piece("a", -1.0, 1)], false))
        .unwrap();
    let error = read("qwen2").unwrap_err().to_string();
    assert!(error.contains("cut no texts"), "{error}");
    assert!(read("default").is_ok());
}

//! The hostile inputs 1 to 39 of the list that tests name by number, and where each is tested. Here are those that no
//! other test program has.
//!
//! | case | what | test |
//! |---|---|---|
//! | 1, 3-9, 11 | GGUF header, lengths, keys, types, arrays, alignment | `gguf`: `hostile::case_N_*`, `handcrafted` |
//! | 2 | cut at every byte | `gguf`: `mutation::case_2_cut_at_every_byte` |
//! | 10, 12-17 | duplicates, shapes, sizes, rows, types, offsets, tail | `gguf`: `hostile_tensors::case_N_*` |
//! | 18, 22, 23 | files that shrink, splits, what is no file | `gguf`: `opening::case_N_*` and the tests of splits |
//! | 19, 20, 21 | hyper-parameters, tensors, values that are not finite | `model` |
//! | 24-27 | safetensors headers and indices | `converter/src/source/safetensors_tests.rs`, here |
//! | 28, 29 | config.json, pickles | `convert`: `failures`, here |
//! | 30 | values that cannot be stored | `convert`: `failures::values_that_cannot_be_stored`, here |
//! | 31-33 | merges, byte tokens, ids | `runtime/text/src/tokenizer/tests.rs`, `converter/src/tokenizer/tests.rs`, here |
//! | 34 | regular expressions of strangers | here |
//! | 35, 36 | long runs, bad UTF-8, control tokens in text | `runtime/text/src/tokenizer/tests.rs`, here, command line `usage` |
//! | 37 | templates without end or bounds: steps, memory, output, depth | `templates`: `hostile`, `runtime/text/src/chat/tests.rs` |
//! | 38, 39 | templates that want files, or with errors | `runtime/text/src/chat/tests.rs`, `templates`: `engine` |
//!
//! Cases 40-50 (data, adapters) are in `runtime/src/data/tests.rs`, `runtime/src/adapter/file_tests.rs`, `convert`:
//! `adapters`; 53-63 (hub) in `hub`.

use std::time::Duration;

use loam::gguf::{Array, Gguf, GgufFile, Value as Entry};
use loam::tokenizer::{Model, Tokenizer, Vocabulary};
use loam_convert::source::Checkpoint;
use loam_convert::{Error, Options, Plan, convert, plan};
use loam_shaders::Format;
use serde_json::{Value, json};

use crate::engine::within;
use crate::seeds::{self, tokenizer};
use loam_tests::budget::measure;
use loam_tests::folder::Folder;

fn safetensors(header: &[u8], data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, &vec![0; data]].concat()
}

/// Opens bytes as a safetensors file, within the budgets.
fn open(bytes: &[u8]) -> loam_convert::Result<Checkpoint> {
    let folder = Folder::new();
    folder.put("m.safetensors", bytes);
    within(bytes.len(), || Checkpoint::open(&folder.file("m.safetensors")))
}

#[test]
fn case_24_headers_of_any_length() {
    for length in [0u64, 1, 7, 8, 100_000_001, 1 << 32, 1 << 63, u64::MAX] {
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        assert!(matches!(open(&bytes), Err(Error::Safetensors { .. })), "length {length}");
    }
    let entry = |i: u32| format!(r#""{i:x}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#);
    let million = format!("{{{}}}", (0..1_000_000).map(entry).collect::<Vec<_>>().join(","));
    assert!(matches!(open(&safetensors(million.as_bytes(), 0)), Err(Error::Safetensors { .. })), "a million entries");
    let metadata = format!(r#"{{"__metadata__":{{"x":"{}"}}}}"#, "y".repeat(40 << 20));
    assert!(matches!(open(&safetensors(metadata.as_bytes(), 0)), Err(Error::Safetensors { .. })), "bloated metadata");
}

#[test]
fn case_25_types_that_are_no_floats_are_named_when_used() {
    for dtype in ["F8_E4M3", "F8_E5M2", "I64", "BOOL", "F64"] {
        let size = match dtype {
            "I64" | "F64" => 16,
            _ => 2,
        };
        let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{size}]}}}}"#);
        let checkpoint = open(&safetensors(header.as_bytes(), size)).expect("a type of the format");
        let message = checkpoint.tensor("a").expect_err("no float that loam reads").to_string();
        assert!(message.contains("tensor a") && message.contains(dtype), "{message}");
    }
    let header = br#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#;
    assert!(open(&safetensors(header, 1)).is_err(), "half bytes");
}

/// Plans the conversion of the seed model with one file replaced, within the budgets.
fn planned(file: &str, bytes: &[u8]) -> loam_convert::Result<Plan> {
    let folder = seeds::model();
    folder.put(file, bytes);
    within(bytes.len(), || plan(folder.path(), "never.gguf".as_ref(), &Options::new(Format::Q8_0)))
}

/// The error of a plan, whose message is short enough for a terminal.
#[track_caller]
fn refused(file: &str, bytes: &[u8]) -> String {
    let message = planned(file, bytes).map(|_| ()).expect_err("must be refused").to_string();
    assert!(message.len() < 2000, "{} bytes of message: {}..", message.len(), &message[..200]);
    message
}

#[test]
fn case_28_configurations() {
    let names = [
        "hidden_size",
        "intermediate_size",
        "vocab_size",
        "num_attention_heads",
        "num_key_value_heads",
        "num_hidden_layers",
        "rms_norm_eps",
        "max_position_embeddings",
        "rope_theta",
    ];
    let values = [
        json!(0),
        json!(-1),
        json!(u64::MAX),
        json!(1u64 << 63),
        json!(1e308),
        json!("32"),
        json!([32]),
        json!({"a": 1}),
        json!(true),
    ];
    for name in names {
        for value in &values {
            let mut config = seeds::config();
            config[name] = value.clone();
            // A large epsilon, base or context makes sense; nothing else does.
            let fine = matches!(name, "rms_norm_eps" | "rope_theta" | "max_position_embeddings") && value.is_number();
            if !fine || value == &json!(0) || value == &json!(-1) {
                let message = planned("config.json", config.to_string().as_bytes()).map(|_| ()).err();
                let message = message.unwrap_or_else(|| panic!("{name} = {value} is accepted")).to_string();
                assert!(message.len() < 2000, "{name} = {value}: {} bytes of message", message.len());
            }
        }
    }
    refused("config.json", "[".repeat(1 << 20).as_bytes());
    refused("config.json", format!(r#"{{"a":{}"#, "{\"a\":".repeat(100_000)).as_bytes());
    // Code of a known class is not needed, that of another one is not run.
    let mut remote = seeds::config();
    remote["architectures"] = json!(["OwnForCausalLM"]);
    remote["auto_map"] = json!({"AutoModelForCausalLM": "evil.py--Evil"});
    assert!(refused("config.json", remote.to_string().as_bytes()).contains("auto_map"));
}

#[test]
fn case_30_constant_and_tiny_weights() {
    let size = 32 * 270;
    for value in [0.0f32, 1.0, -3.5, 1e-40, f32::MIN_POSITIVE] {
        let folder = seeds::model();
        let mut bytes = folder.get("model.safetensors");
        let length = u64::from_le_bytes(*bytes.first_chunk::<8>().expect("a header")) as usize;
        for four in bytes[8 + length..].as_chunks_mut::<4>().0 {
            *four = value.to_le_bytes();
        }
        folder.put("model.safetensors", bytes);
        for format in [Format::F16, Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::IQ4_NL] {
            let out = folder.file("out.gguf");
            convert(folder.path(), &out, &Options::new(format), &mut |_| ()).expect("finite");
            let file = GgufFile::open(&out).expect("sound");
            let tensor = file.gguf.tensor("token_embd.weight").expect("there");
            let mut row = vec![0.0; size];
            tensor.ty.format().expect("known").decode_row(file.bytes(tensor).unwrap().bytes(), &mut row);
            // Blocks keep a constant to the precision of their scale, and what is below f16 as nothing.
            let near = |x: &f32| (x - value).abs() <= 0.07 * value.abs() + 1e-7;
            assert!(row.iter().all(near), "{value} as {}: {}", format.name(), row[0]);
        }
    }
}

/// A tokenizer.json with the given change.
fn with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = tokenizer();
    change(&mut value);
    value.to_string().into_bytes()
}

#[test]
fn cases_31_and_33_vocabularies_that_lie() {
    type Change = fn(&mut Value);
    let changes: [Change; 8] = [
        |t| t["model"]["merges"] = json!([format!("t {}", "h".repeat(100_000))]),
        |t| t["model"]["merges"] = json!(["t h", "t h"]),
        |t| t["model"]["vocab"]["new"] = json!(1u64 << 31),
        |t| t["model"]["vocab"]["new"] = json!(-1),
        |t| t["model"]["vocab"]["new"] = json!(5),
        |t| t["model"]["vocab"]["new"] = json!(1e300),
        |t| t["added_tokens"] = json!([{"id": 268, "content": "", "special": true}]),
        |t| t["added_tokens"] = json!([{"id": u64::MAX, "content": "x", "special": true}]),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let error = planned("tokenizer.json", &with(change)).map(|_| ()).err();
        let message = error.unwrap_or_else(|| panic!("change {number} is accepted")).to_string();
        assert!(message.len() < 2000, "change {number}: {} bytes of message", message.len());
    }
}

#[test]
fn case_34_regular_expressions_of_strangers() {
    let long = "a|".repeat(1 << 19);
    for pattern in ["(a+)+$", "(?=(a+)+b)", "(", r"\p{Nope}", "(?:a{1000}){1000}", &long] {
        let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let message = refused("tokenizer.json", &with(|t| t["pre_tokenizer"] = split));
        assert!(message.contains("no GGUF name is known for this pre_tokenizer"), "{message}");
    }
}

/// The seed's vocabulary after `change`, as a tokenizer; any text is encoded within the budgets or refused.
fn changed_tokens(change: impl FnOnce(&mut Vec<Vec<u8>>, &mut Vec<i32>)) {
    let folder = seeds::base();
    let bytes = folder.get("base.gguf");
    let gguf = Gguf::parse("seed".as_ref(), &bytes).expect("sound");
    let mut metadata = gguf.metadata().clone();
    let Some(Entry::Array(Array::String(list))) = metadata.get("tokenizer.ggml.tokens") else { panic!("no tokens") };
    let mut tokens: Vec<Vec<u8>> = list.iter().map(<[u8]>::to_vec).collect();
    let mut types = gguf.opt_i32s("tokenizer.ggml.token_type").expect("numbers").expect("there").to_vec();
    change(&mut tokens, &mut types);
    let mut list = loam::gguf::Strings::with_capacity(tokens.len(), 0);
    tokens.iter().for_each(|token| list.push(token));
    metadata.set("tokenizer.ggml.tokens", Entry::Array(Array::String(list)));
    metadata.set("tokenizer.ggml.token_type", Entry::Array(Array::I32(types)));
    let mut out = Vec::new();
    let writer = loam::gguf::Writer::new(&mut out, "changed".as_ref(), &metadata, &[]).expect("written");
    writer.finish().expect("written");
    let gguf = Gguf::parse("changed".as_ref(), &out).expect("well-formed");
    within(out.len(), || {
        let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) else { return };
        for text in ["the thing\n", "A\u{0}ü", "<0x-1><0xZZ><0x41>"] {
            if let Ok(ids) = tokenizer.encode(text, true, true) {
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                tokenizer.decode_bytes(&ids);
            }
        }
    });
}

#[test]
fn case_32_byte_tokens() {
    for text in ["<0x-1>", "<0xZZ>", "<0x>", "<0x100>", "<0x4", "<0x41>"] {
        changed_tokens(|tokens, types| {
            tokens[260] = text.into();
            types[260] = 6;
        });
    }
    // Some bytes are missing, or it is not known what they are.
    changed_tokens(|tokens, _| (0..200).for_each(|i| tokens[i] = format!("[{i}]").into_bytes()));
    changed_tokens(|_, types| types[..256].fill(6));
    changed_tokens(|_, types| types.fill(1));
    changed_tokens(|tokens, _| tokens[3] = vec![0xff, 0xfe]);
}

#[test]
fn case_36_text_with_control_tokens_stays_text() {
    let folder = seeds::base();
    let base = loam::Base::open(folder.file("base.gguf")).expect("sound");
    let tokenizer = base.tokenizer().expect("sound");
    let text = "<|im_start|>system";
    let plain = tokenizer.encode(text, false, false).expect("text");
    assert!(plain.iter().all(|&id| !tokenizer.is_control(id)));
    assert_eq!(tokenizer.decode_bytes(&plain), text.as_bytes());
    assert!(tokenizer.encode(text, true, false).expect("text").iter().any(|&id| tokenizer.is_control(id)));
}

/// A vocabulary of SentencePiece: unknown, then these with scores that fall.
fn scored(model: Model, tokens: &[String]) -> Tokenizer {
    let all: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter().chain(tokens.to_vec()).collect();
    let types = [2, 3, 3].into_iter().chain(tokens.iter().map(|_| 1)).collect();
    let scores = (0..all.len()).map(|i| -(i as f32)).collect();
    let vocabulary = Vocabulary { model, tokens: all, types, scores, unknown: Some(0), ..Vocabulary::default() };
    Tokenizer::new(vocabulary).expect("sound")
}

/// Large texts, also of one kind of characters, take 64 bytes a byte at most, without what small inputs may have
/// besides.
#[test]
fn long_texts_are_tokenised_within_the_memory_that_is_promised() {
    let pieces = ["▁", "a", "b", "aa", "▁a", "aab", "aaaa"].map(str::to_owned);
    let bytes = seeds::base();
    let base = loam::Base::open(bytes.file("base.gguf")).expect("sound");
    for tokenizer in [base.tokenizer().expect("sound"), &scored(Model::Spm, &pieces), &scored(Model::Unigram, &pieces)]
    {
        for unit in ["a", " ", "aab", "some words, and 12 numbers\n", "\n", "漢字"] {
            let text = unit.repeat((1 << 20) / unit.len());
            let (ids, peak, time) = measure(|| tokenizer.encode(&text, true, true).expect("text").len());
            assert!(peak < 64 * text.len() as u64, "{unit:?}: {} bytes a byte, {ids} ids", peak / text.len() as u64);
            assert!(time < Duration::from_secs(2), "{unit:?}: {time:?}");
        }
    }
}

/// A unigram vocabulary whose tokens all begin with each other: refused with a sentence, not computed for minutes.
#[test]
fn tokens_that_begin_with_each_other_end_in_an_error() {
    let alike: Vec<String> = (1..1200).map(|length| "a".repeat(length)).collect();
    let tokenizer = scored(Model::Unigram, &alike);
    let (result, _, time) = measure(|| tokenizer.encode(&"a".repeat(1 << 20), false, false));
    assert!(result.expect_err("too much").to_string().contains("begin with each other"));
    assert!(time < Duration::from_secs(2), "{time:?}");
    assert!(tokenizer.encode(&"a".repeat(1000), false, false).is_ok(), "a small text");
    // Words of a language are no such tokens.
    let words = scored(Model::Unigram, &["▁", "a", "▁and", "and", "▁so", "on"].map(str::to_owned));
    assert!(words.encode(&"and so on ".repeat(100_000), false, false).is_ok());
}

//! Tokenizers of Hugging Face folders, converted: the same ids as the `tokenizers` crate gives with the original file.

use std::path::Path;

use loam::gguf::{Gguf, Writer};
use loam::tokenizer::{Tokenizer, Vocabulary};
use loam_convert::Source;
use loam_tests::{asset, shared};
use serde_json::{Value, json};

/// The tokenizer that a base converted from `tokenizer` (a tokenizer.json) would have.
fn converted(tokenizer: &Value, name: &str) -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    let ids = tokenizer["model"]["vocab"].as_object().unwrap().values();
    let added = tokenizer["added_tokens"].as_array().unwrap().iter().map(|token| &token["id"]);
    let size = ids.chain(added).map(|id| id.as_u64().unwrap()).max().unwrap() + 3;
    let config = json!({"architectures": ["LlamaForCausalLM"], "hidden_size": 2, "intermediate_size": 2,
        "vocab_size": size, "max_position_embeddings": 8, "num_attention_heads": 1, "num_hidden_layers": 1,
        "rms_norm_eps": 1e-5});
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    put("config.json", config.to_string().as_bytes());
    put("tokenizer.json", tokenizer.to_string().as_bytes());
    put("model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    let mut read = loam_convert::tokenizer::read(&Source::open(dir.path()).unwrap(), None).unwrap();
    read.metadata.set("general.name", name);
    let path = Path::new("vocabulary.gguf");
    let bytes = Writer::new(Vec::new(), path, &read.metadata, &[]).and_then(Writer::finish).unwrap();
    Tokenizer::from_gguf(&Gguf::parse(path, &bytes).unwrap()).unwrap()
}

/// Fixed texts, lines of code, and seeded mixtures of what meets every branch.
fn texts(added: &[String]) -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "\n",
        "Hello, world!",
        "  leading and trailing  ",
        "It's they're I'LL we'd'",
        "tabs\tand\r\nlines\n\n\n  indented",
        "1 12 123 1234.5678e-9 ½ Ⅷ ३",
        "Ünïcödé ß 漢字かな交じり文 한국어 العربية עברית",
        "🚀👨‍👩‍👧‍👦 e\u{301} \u{200d}\u{feff}\u{0}\u{85}\u{a0}\u{3000}x ▁ ▁▁a",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.extend(include_str!("tokenizers.rs").lines().map(str::to_owned));
    let alphabet: Vec<char> = "aaeehllno dZ é漢9½ \n\t\r.,'!<|>_/s\u{a0}\u{200d}🚀\u{301}▁".chars().collect();
    let mut state = 1u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for length in 1..1200 {
        let mut text = String::new();
        for _ in 0..length % 61 + 1 {
            match next(24) {
                0 if !added.is_empty() => text.push_str(&added[next(added.len())]),
                _ => text.push(alphabet[next(alphabet.len())]),
            }
        }
        texts.push(text);
    }
    texts
}

/// Compares a converted tokenizer with the original, and decodes what it encoded.
fn same_ids(tokenizer: &Value, name: &str) {
    let ours = converted(tokenizer, name);
    let theirs: tokenizers::Tokenizer = tokenizer.to_string().parse().unwrap();
    let added = tokenizer["added_tokens"].as_array().unwrap().iter();
    let added: Vec<String> = added.map(|token| token["content"].as_str().unwrap().to_owned()).collect();
    let mut checked = 0;
    for text in texts(&added) {
        // After a token that strips white space the crate strips this too; llama.cpp strips that of ASCII alone.
        let text = if name == "Phi3" { text.replace('\u{a0}', "") } else { text };
        let expected = theirs.encode(text.as_str(), false).unwrap().get_ids().to_vec();
        assert_eq!(ours.encode(&text, true, false).unwrap(), expected, "{name}: {text:?}");
        let plain = ours.encode(&text, false, false).unwrap();
        // SentencePiece takes U+2581 and spaces for one.
        let text = if tokenizer["model"]["byte_fallback"] == true { text.replace('▁', " ") } else { text };
        assert_eq!(ours.decode(&plain), text, "{name}");
        assert!(plain.iter().all(|&id| !ours.is_control(id)), "{name}: {text:?}");
        let mut stream = ours.stream(&[]);
        let mut streamed: String = plain.iter().filter_map(|&id| stream.push(id)).collect();
        streamed.extend(stream.finish());
        assert_eq!(streamed, text, "{name}");
        checked += expected.len();
    }
    assert!(checked > 20_000, "{name}: {checked}");
}

/// The committed ids of Transformers for the committed models' tokenizer.
#[test]
fn committed_texts_have_the_ids_of_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lines = read(&root.join("assets/golden/tokens.json"));
    let ours = converted(&read(&asset("loam-micro").join("tokenizer.json")), "loam-micro");
    for line in lines.as_array().unwrap() {
        let text = line["text"].as_str().unwrap();
        assert_eq!(json!(ours.encode(text, true, false).unwrap()), line["ids"], "{text:?}");
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A tokenizer.json as Transformers writes it for a SentencePiece model: merges are all ways to make each token, in the
/// order of the tokens.
fn sentencepiece(prefix: bool) -> Value {
    let made = [
        "he",
        "ll",
        "▁▁",
        "an",
        "ello",
        "hello",
        "lo",
        "▁a",
        "▁an",
        "and",
        "▁and",
        "▁he",
        "▁hello",
        "▁▁▁▁",
        "o▁",
        "né",
    ];
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let mut merges = Vec::new();
    tokens.extend("▁adehlnoé.,s/<>".chars().map(String::from));
    for token in made {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if tokens.iter().any(|t| t == left) && tokens.iter().any(|t| t == right) {
                merges.push(json!([left, right]));
            }
        }
        tokens.push(token.to_owned());
    }
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let special = |id: usize| {
        json!({"id": id, "content": tokens[id], "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true})
    };
    let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
    }
    json!({
        "version": "1.0", "added_tokens": [special(0), special(1), special(2)],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
            "merges": merges},
    })
}

#[test]
fn byte_level_tokenizers_give_the_ids_of_the_original() {
    same_ids(&read(&asset("loam-tiny").join("tokenizer.json")), "loam-tiny");
    let Some(path) = shared("tokenizers/hf/smollm2/tokenizer.json") else { return };
    same_ids(&read(&path), "smollm2");
}

#[test]
fn sentencepiece_tokenizers_give_the_ids_of_the_original() {
    for (prefix, name) in [(true, "made"), (false, "made without a space prefix")] {
        same_ids(&sentencepiece(prefix), name);
    }
    for (path, name) in
        [("tokenizers/hf/phi3/tokenizer.json", "Phi3"), ("models/stories260K/hf/tokenizer.json", "tiny")]
    {
        let Some(path) = shared(path) else { continue };
        same_ids(&read(&path), name);
    }
}

#[test]
fn unigram_tokenizers_give_the_ids_of_the_original() {
    let pieces =
        [("▁", -3.0), ("a", -4.0), ("b", -4.5), ("ab", -5.0), ("▁a", -4.2), ("aba", -6.1), ("▁ab", -6.0), ("é", -7.0)];
    let mut vocab = vec![json!(["<pad>", 0.0]), json!(["</s>", 0.0]), json!(["<unk>", 0.0])];
    vocab.extend(pieces.map(|(piece, score)| json!([piece, score])));
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [{"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocab},
    });
    let theirs: tokenizers::Tokenizer = tokenizer.to_string().parse().unwrap();
    let vocabulary = Vocabulary {
        model: loam::tokenizer::Model::Unigram,
        tokens: ["<pad>", "</s>", "<unk>"].into_iter().chain(pieces.map(|p| p.0)).map(str::to_owned).collect(),
        types: [3, 3, 2].into_iter().chain([1; 8]).collect(),
        scores: [0.0; 3].into_iter().chain(pieces.map(|p| p.1)).collect(),
        add_space_prefix: Some(true),
        ..Vocabulary::default()
    };
    let ours = Tokenizer::new(vocabulary).unwrap();
    for text in ["", "a", "ab aba", "abab bab</s>a", "é ab", "aba b", "xx a", "a xyz b"] {
        let expected = theirs.encode(text, false).unwrap().get_ids().to_vec();
        assert_eq!(ours.encode(text, true, false).unwrap(), expected, "{text:?}");
    }
    assert_eq!(ours.encode("a", false, true).unwrap().last(), Some(&1), "EOS by default");
    assert_eq!(ours.decode(&ours.encode("ab a b", false, false).unwrap()), "ab a b");
}

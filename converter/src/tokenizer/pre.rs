//! Which `tokenizer.ggml.pre` a tokenizer.json means: read off its pre-tokenizer, not guessed from encoded samples.
//!
//! GGUF has no field for the splitting pattern, only the name of one; the names are llama.cpp's.

use serde_json::Value;

use crate::error::bounded;
use crate::problem::TokenizerProblem;
use crate::source::Json;
use crate::source::json::brief;
use crate::{Error, Result};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED_CODER: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
/// One digit at a time: `Digits` with `individual_digits`.
const DIGIT: &str = r"\p{N}";
const DIGITS_3: &str = r"\p{N}{1,3}";
const CJK: &str = "[一-龥ࠀ-一가-퟿]+";
const CJK_KANA: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";

/// Whether whole-word tokens skip the merges of a tokenizer; `None`: it is known that this changes no token.
type IgnoreMerges = Option<bool>;

/// Patterns in order, whether whole-word tokens skip the merges, and the name.
const NAMES: [(&[&str], IgnoreMerges, &str); 12] = [
    (&[GPT2], Some(false), "gpt-2"),
    (&[DIGIT, GPT2], Some(false), "smollm"),
    (&[LLAMA3], Some(true), "llama-bpe"),
    (&[LLAMA3], Some(false), "smaug-bpe"),
    (&[QWEN2], Some(false), "qwen2"),
    (&[QWEN35], Some(false), "qwen35"),
    (&[TEKKEN], Some(true), "tekken"),
    // Made from byte ranks: the merges lead to every token.
    (&[GPT4O], None, "gpt-4o"),
    (&[SEED_CODER], Some(false), "seed-coder"),
    (&[DIGITS_3, CJK_KANA, DEEPSEEK3], Some(false), "deepseek-v3"),
    (&["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, DIGIT], Some(false), "deepseek-coder"),
    (&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, DIGIT], Some(false), "deepseek-coder"),
];

/// The name for the pre-tokenizer of `tokenizer` (the whole tokenizer.json).
///
/// # Errors
/// [`Error::Tokenizer`] if no name stands for exactly this pre-tokenizer; the option `pre` forces one.
pub fn name(tokenizer: &Json, ignore_merges: bool) -> Result<&'static str> {
    let mut patterns = Vec::new();
    let node = tokenizer.get("pre_tokenizer").unwrap_or(&Value::Null);
    let known = collect(node, &mut patterns);
    let found = NAMES.iter().find(|(list, ignore, _)| {
        ignore.is_none_or(|ignore| ignore == ignore_merges) && patterns.iter().eq(list.iter())
    });
    match (known, found) {
        (Ok(()), Some((_, _, name))) => Ok(name),
        (Err(problem), _) => Err(unknown(tokenizer, &problem)),
        (Ok(()), None) => Err(unknown(tokenizer, &format!("patterns {patterns:?}, ignore_merges {ignore_merges}"))),
    }
}

fn unknown(tokenizer: &Json, found: &str) -> Error {
    let found = bounded(found.into());
    let known: Vec<&str> = NAMES.iter().map(|(_, _, name)| *name).collect();
    let problem = TokenizerProblem::UnknownPreTokenizer { found, known: known.join(", ") };
    Error::Tokenizer { path: tokenizer.path.clone(), problem }
}

/// Appends the patterns that cut text, in order. `Err`: a part that has no pattern here.
fn collect(node: &Value, patterns: &mut Vec<String>) -> Result<(), String> {
    let flag = |key: &str, default: bool| node.get(key).and_then(Value::as_bool).unwrap_or(default);
    match node.get("type").and_then(Value::as_str) {
        Some("Sequence") => {
            let list = node.get("pretokenizers").and_then(Value::as_array).ok_or("Sequence without pretokenizers")?;
            list.iter().try_for_each(|part| collect(part, patterns))
        }
        Some("ByteLevel") if flag("add_prefix_space", true) => Err("ByteLevel with add_prefix_space".into()),
        Some("ByteLevel") => {
            patterns.extend(flag("use_regex", true).then(|| GPT2.to_owned()));
            Ok(())
        }
        Some("Digits") if flag("individual_digits", false) => {
            patterns.push(DIGIT.to_owned());
            Ok(())
        }
        Some("Split") => {
            patterns.push(split_pattern(node)?);
            Ok(())
        }
        _ => Err(brief(node)),
    }
}

/// The pattern of a `Split` that keeps all text. `Removed` + `invert` keeps matches only, which is the same for
/// patterns that match everything.
fn split_pattern(node: &Value) -> Result<String, String> {
    let pattern = node.pointer("/pattern/Regex").and_then(Value::as_str).ok_or_else(|| brief(node))?;
    let behavior = node.get("behavior").and_then(Value::as_str).unwrap_or_default();
    let invert = node.get("invert").and_then(Value::as_bool).unwrap_or(false);
    let covers = [GPT2, LLAMA3, QWEN2, QWEN35, TEKKEN, GPT4O].contains(&pattern);
    match (behavior, invert) {
        ("Isolated", false) => Ok(pattern.into()),
        ("Removed" | "Isolated", true) if covers => Ok(pattern.into()),
        _ => Err(format!("Split with behavior {behavior:?}, invert {invert}, pattern {pattern:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn named(pre: Value, ignore_merges: bool) -> Result<&'static str> {
        let file = Json::from_value(Path::new("tokenizer.json"), "", json!({ "pre_tokenizer": pre }));
        name(&file, ignore_merges)
    }

    fn split(pattern: &str) -> Value {
        json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
    }

    fn bytes(use_regex: bool) -> Value {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
    }

    fn sequence(parts: &[Value]) -> Value {
        json!({"type": "Sequence", "pretokenizers": parts})
    }

    #[test]
    fn published_tokenizers_are_recognised() {
        let digits = json!({"type": "Digits", "individual_digits": true});
        assert_eq!(named(bytes(true), false).unwrap(), "gpt-2");
        assert_eq!(named(sequence(&[digits, bytes(true)]), false).unwrap(), "smollm");
        assert_eq!(named(sequence(&[split(LLAMA3), bytes(false)]), true).unwrap(), "llama-bpe");
        assert_eq!(named(sequence(&[split(LLAMA3), bytes(false)]), false).unwrap(), "smaug-bpe");
        assert_eq!(named(sequence(&[split(QWEN2), bytes(false)]), false).unwrap(), "qwen2");
        assert_eq!(named(sequence(&[split(TEKKEN), bytes(false)]), true).unwrap(), "tekken");
        let deepseek = [split(DIGITS_3), split(CJK_KANA), split(DEEPSEEK3), bytes(false)];
        assert_eq!(named(sequence(&deepseek), false).unwrap(), "deepseek-v3");
        for ignore_merges in [false, true] {
            assert_eq!(named(sequence(&[split(GPT4O), bytes(false)]), ignore_merges).unwrap(), "gpt-4o");
        }
    }

    #[test]
    fn every_name_is_known_to_the_runtime() {
        let known: Vec<&str> = loam_text::tokenizer::pre_tokenizers().collect();
        assert!(NAMES.iter().all(|(_, _, name)| known.contains(name)));
    }

    #[test]
    fn anything_else_has_no_name() {
        let cases = [
            Value::Null,
            json!({"type": "Metaspace"}),
            json!({"type": "ByteLevel", "add_prefix_space": true}),
            sequence(&[split(r"\w+"), bytes(false)]),
            sequence(&[split(LLAMA3), split(QWEN2), bytes(false)]),
            sequence(&[json!({"type": "Digits", "individual_digits": false}), bytes(true)]),
            json!({"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Removed", "invert": false}),
        ];
        for case in cases {
            let error = named(case.clone(), false).unwrap_err();
            assert!(error.to_string().contains("tokenizer.json"), "{case}: {error}");
            let Error::Tokenizer { problem: TokenizerProblem::UnknownPreTokenizer { .. }, .. } = error else {
                panic!("{case}: {error}");
            };
        }
        assert!(named(bytes(true), true).is_err(), "ignore_merges changes the tokens");
    }
}

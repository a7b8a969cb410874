//! SentencePiece's unigram model -> `tokenizer.ggml.model` = `t5`: tokens with scores, and how text is normalised.

use loam_files::gguf::{Array, Metadata, Value as Gguf};
use serde_json::Value;

use super::parts::parts;
use super::spm::{add_tokens, first_only, metaspace, short};
use super::vocabulary::{Vocabulary, added_tokens};
use super::{NORMAL, Read, UNKNOWN};
use crate::source::Json;
use crate::source::json::brief;
use crate::{Error, Result};

/// What happens to spaces.
pub(super) struct Spaces {
    /// One is put before a text.
    pub(super) prefix: bool,
    /// Several become one, those at the ends none.
    pub(super) merged: bool,
}

/// Reads a tokenizer.json with a Unigram model.
///
/// # Errors
/// A tokenizer that works otherwise than SentencePiece, or that contradicts itself.
pub(super) fn from_json(json: &Json, model: &mut Json, size: u64, notes: &mut Vec<String>) -> Result<Read> {
    if model.flag("byte_fallback")?.unwrap_or(false) {
        return Err(model.error("byte_fallback", "a Unigram model with it has no form in GGUF"));
    }
    let (charsmap, mut spaces) = normalizer(json)?;
    spaces.prefix = pre_tokenizer(json, &mut spaces, notes)?;
    let unknown = model.get("unk_id").and_then(Value::as_u64).ok_or_else(|| model.error("unk_id", "is missing"))?;
    let mut vocabulary = Vocabulary::new(size);
    let mut scores = vec![0.0; vocabulary.tokens.len()];
    for (id, entry) in model.list("vocab")?.iter().enumerate() {
        let text = entry.get(0).and_then(Value::as_str);
        let score = entry.get(1).and_then(Value::as_f64);
        let (Some(text), Some(score)) = (text, score) else {
            return Err(model.error("vocab", format!("entry {id}, {}, is no piece with a score", brief(entry))));
        };
        let kind = if id as u64 == unknown { UNKNOWN } else { NORMAL };
        vocabulary.add(model, "vocab", text, id as u64, kind)?;
        scores[id] = score as f32;
    }
    if usize::try_from(unknown).ok().and_then(|id| vocabulary.tokens.get(id)?.as_ref()).is_none() {
        return Err(model.error("unk_id", format!("{unknown} is no token")));
    }
    add_tokens(json, added_tokens(json)?, &mut vocabulary, &mut scores, notes)?;
    Ok(finish(vocabulary, scores, charsmap, spaces))
}

/// The map of characters, and whether spaces are merged.
fn normalizer(json: &Json) -> Result<(Vec<u8>, Spaces)> {
    let mut spaces = Spaces { prefix: false, merged: false };
    let mut charsmap = Vec::new();
    for part in parts(json.get("normalizer"), "normalizers") {
        let text = |pointer: &str| part.pointer(pointer).and_then(Value::as_str);
        match (text("/type"), text("/precompiled_charsmap"), text("/pattern/Regex"), text("/content")) {
            (Some("Precompiled"), Some(map), ..) if charsmap.is_empty() => {
                charsmap = base64(map).ok_or_else(|| json.error("normalizer", "precompiled_charsmap is no base64"))?;
            }
            (Some("Replace"), _, Some(" {2,}"), Some(" " | "\u{2581}")) => spaces.merged = true,
            _ => return Err(unsupported(json, "normalizer", part)),
        }
    }
    Ok((charsmap, spaces))
}

/// Whether a space is put first; notes in `spaces` if the parts between white space are taken one by one.
fn pre_tokenizer(json: &Json, spaces: &mut Spaces, notes: &mut Vec<String>) -> Result<bool> {
    let node = json.get("pre_tokenizer").unwrap_or(&Value::Null);
    let list = parts(Some(node), "pretokenizers");
    let is_split = |part: &Value| part.get("type").and_then(Value::as_str) == Some("WhitespaceSplit");
    let last = match list[..] {
        [first, last] if is_split(first) => {
            spaces.merged = true;
            last
        }
        [only] => only,
        _ => node,
    };
    notes.extend(first_only(last));
    metaspace(last).ok_or_else(|| unsupported(json, "pre_tokenizer", node))
}

fn unsupported(json: &Json, key: &str, part: &Value) -> Error {
    json.error(key, format!("{} has no form in GGUF beside a Unigram model", short(&brief(part))))
}

/// Decodes standard base64 with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for &c in group {
            let value = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - group.len());
        out.extend(&bits.to_be_bytes()[1..group.len().max(1)]);
    }
    Some(out)
}

/// The keys of a vocabulary.
pub(super) fn finish(vocabulary: Vocabulary, scores: Vec<f32>, charsmap: Vec<u8>, spaces: Spaces) -> Read {
    let mut out = Metadata::new();
    out.set("tokenizer.ggml.model", "t5");
    out.set("tokenizer.ggml.pre", "default");
    vocabulary.write(&mut out);
    out.set("tokenizer.ggml.scores", scores);
    out.set("tokenizer.ggml.add_space_prefix", spaces.prefix);
    out.set("tokenizer.ggml.remove_extra_whitespaces", spaces.merged);
    if !charsmap.is_empty() {
        out.set("tokenizer.ggml.precompiled_charsmap", Gguf::Array(Array::U8(charsmap)));
    }
    (vocabulary, out, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length() {
        let cases = [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob")];
        for (text, expected) in cases {
            assert_eq!(base64(text).unwrap(), expected.as_bytes());
        }
        assert_eq!((base64("////").unwrap(), base64("a b")), (vec![255; 3], None));
    }
}

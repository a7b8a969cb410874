//! tokenizer.json or tokenizer.model -> `tokenizer.ggml.*`: byte-level BPE, SentencePiece's BPE and unigram models.

mod ends;
mod flags;
mod parts;
pub mod pre;
mod protobuf;
mod special;
mod spm;
mod unigram;
mod vocabulary;

use std::collections::HashSet;
use std::path::Path;

use loam_files::gguf::{Metadata, Strings};
use serde_json::Value;

use crate::architecture::Source;
use crate::problem::SourceProblem;
use crate::source::json::brief;
use crate::source::{Json, present};
use crate::{Error, Result};
use loam_files::option::OptionError;
use vocabulary::Vocabulary;

/// Values of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The tokenizer's metadata, and what the user should know about it.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    /// `tokenizer.*` keys.
    pub metadata: Metadata,
    /// Ids without a token that were padded, a normalizer that GGUF cannot express.
    pub notes: Vec<String>,
}

/// Reads the tokenizer of `source`. `pre` replaces the name that the pre-tokenizer's patterns stand for.
///
/// A SentencePiece model (tokenizer.model) wins over a tokenizer.json that stands for one, as in llama.cpp's converter:
/// only it has the scores. Otherwise they are taken from the order of the merges.
///
/// # Errors
/// There is no tokenizer, or it is malformed, of a kind that GGUF cannot express, contradicts itself, or has ids that
/// the model lacks.
pub fn read(source: &Source, pre: Option<&str>) -> Result<Tokenizer> {
    let path = source.dir.join("tokenizer.json");
    let sentencepiece = source.dir.join("tokenizer.model");
    let scored = present(&sentencepiece)?;
    let mut json = Json::read_optional(&path)?;
    let model = json.as_mut().map(|json| json.take_object("model")).transpose()?.flatten();
    let mut notes = Vec::new();
    let cuts = match &model {
        Some(model) => model.text("type")? == Some("BPE") && !is_sentencepiece(model)?,
        None => false,
    };
    if let Some(pre) = pre.filter(|&pre| !cuts && pre != "default") {
        return Err(only_bytes(pre));
    }
    let (vocabulary, mut out, add_bos) = match (json.as_ref(), model) {
        (Some(json), Some(mut model)) if !scored || !is_sentencepiece(&model)? => {
            match model.text("type")?.unwrap_or("(none)") {
                "BPE" if model.flag("byte_fallback")?.unwrap_or(false) => {
                    spm::from_json(json, &mut model, source.config.vocab_size, &mut notes)?
                }
                "Unigram" => unigram::from_json(json, &mut model, source.config.vocab_size, &mut notes)?,
                _ => byte_level(json, &mut model, source.config.vocab_size, pre, &mut notes)?,
            }
        }
        (Some(json), None) if !scored => return Err(json.error("model", "is missing")),
        (json, _) if scored => spm::from_model(source, &sentencepiece, json, &mut notes)?,
        _ => return Err(Error::source(&source.dir, SourceProblem::NoTokenizer)),
    };
    let padded = vocabulary.tokens.iter().filter(|token| token.is_none()).count();
    if padded > 0 {
        notes.push(format!("{padded} ids have no token and are padded as [PAD<id>], type unused"));
    }
    special::write(source, json.as_ref(), &vocabulary, add_bos, &mut out, &mut notes)?;
    let normalizes = json.as_ref().is_some_and(|json| !parts::parts(json.get("normalizer"), "normalizers").is_empty());
    flags::write(&vocabulary, normalizes, &mut out, &mut notes);
    Ok(Tokenizer { metadata: out, notes })
}

/// Tokens, their metadata, and whether BOS is put first where no file says so (`None`: as llama.cpp does).
type Read = (Vocabulary, Metadata, Option<bool>);

/// Whether `model` of a tokenizer.json was made from a SentencePiece model.
fn is_sentencepiece(model: &Json) -> Result<bool> {
    Ok(model.flag("byte_fallback")?.unwrap_or(false) || model.text("type")? == Some("Unigram"))
}

/// Byte-level BPE.
fn byte_level(json: &Json, model: &mut Json, size: u64, pre: Option<&str>, notes: &mut Vec<String>) -> Result<Read> {
    check_kind(json, model, notes)?;
    let pre = match pre {
        Some(name) => check_override(name)?,
        None => pre::name(json, model.flag("ignore_merges")?.unwrap_or(false))?,
    };
    let vocabulary = Vocabulary::read(json, model, size, notes)?;
    let mut out = Metadata::new();
    out.set("tokenizer.ggml.model", "gpt2");
    out.set("tokenizer.ggml.pre", pre);
    notes.extend(absent_bytes(&vocabulary));
    let merges = merges(model, &vocabulary)?;
    vocabulary.write(&mut out);
    out.set("tokenizer.ggml.merges", merges);
    Ok((vocabulary, out, Some(false)))
}

/// A note if some bytes have no token: Transformers, llama.cpp and loam leave them out of texts.
fn absent_bytes(vocabulary: &Vocabulary) -> Option<String> {
    let absent = loam_text::tokenizer::byte_texts().filter(|text| !vocabulary.ids.contains_key(text)).count();
    (absent > 0)
        .then(|| format!("{absent} of 256 bytes have no token: characters with such a byte are lost from texts"))
}

/// The problem with the name of a pre-tokenizer for a tokenizer that has none.
pub(crate) fn only_bytes(name: &str) -> Error {
    let name: String = name.chars().take(40).collect();
    OptionError::new("pre", format!("is {name:?}, but SentencePiece's tokenizers cut no texts: leave it out")).into()
}

/// Checks the name of a pre-tokenizer.
///
/// # Errors
/// It is not known.
pub(crate) fn check_override(name: &str) -> Result<&str> {
    let known: Vec<&str> = loam_text::tokenizer::pre_tokenizers().collect();
    if known.contains(&name) {
        return Ok(name);
    }
    Err(OptionError::unknown("pre", name, known.join(", ")).into())
}

/// Refuses every kind of BPE that is not byte-level.
fn check_kind(json: &Json, model: &Json, notes: &mut Vec<String>) -> Result<()> {
    let bad = |problem: String| Err(Error::Tokenizer { path: json.path.clone(), problem: problem.into() });
    let kind = model.text("type")?.unwrap_or("(none)");
    if kind != "BPE" {
        return bad(format!("model type {} is not supported, only BPE and Unigram", kind.escape_debug()));
    }
    if !uses(json, "decoder", "ByteLevel") && !uses(json, "pre_tokenizer", "ByteLevel") {
        return bad("is a BPE that is neither byte-level nor has byte_fallback; only these two are supported".into());
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model.text(key)?.is_some_and(|text| !text.is_empty()) {
            return bad(format!("model.{key} is set, which GGUF cannot express"));
        }
    }
    let normalizers = parts::parts(json.get("normalizer"), "normalizers");
    let is_nfc = |part: &&Value| part.get("type").and_then(Value::as_str) == Some("NFC");
    if let Some(other) = normalizers.iter().find(|part| !is_nfc(part)) {
        return bad(format!("normalizer {} is not supported", brief(other)));
    }
    if !normalizers.is_empty() {
        notes.push("the tokenizer's NFC normalizer has no place in GGUF: texts must be in NFC already".into());
    }
    Ok(())
}

/// Does `part` of tokenizer.json contain a component of type `kind`?
fn uses(json: &Json, part: &str, kind: &str) -> bool {
    let key = if part == "decoder" { "decoders" } else { "pretokenizers" };
    parts::parts(json.get(part), key).iter().any(|v| v.get("type").and_then(Value::as_str) == Some(kind))
}

/// The two parts of a merge. Both JSON forms are read: "left right" and ["left", "right"].
fn merge_pair(merge: &Value) -> Option<(&str, &str)> {
    let (left, right) = match merge {
        Value::String(text) => text.split_once(' ')?,
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(left), Value::String(right)] => (left.as_str(), right.as_str()),
            _ => return None,
        },
        _ => return None,
    };
    (!left.is_empty() && !right.is_empty()).then_some((left, right))
}

/// Merges as "left right"; a space inside a part is written as U+0120, as llama.cpp's converter does.
fn merges(model: &Json, vocabulary: &Vocabulary) -> Result<Strings> {
    let mut out = Strings::default();
    let mut seen = HashSet::new();
    for (i, merge) in model.list("merges")?.iter().enumerate() {
        let bad = |what: &str| model.error("merges", format!("entry {i}, {}: {what}", brief(merge)));
        let (left, right) = merge_pair(merge).ok_or_else(|| bad("is no pair"))?;
        let (left, right) = (left.replace(' ', "Ġ"), right.replace(' ', "Ġ"));
        let joined = format!("{left}{right}");
        if let Some(absent) = [&left, &right, &joined].into_iter().find(|text| !vocabulary.ids.contains_key(*text)) {
            return Err(bad(&format!("{absent:?} is not in the vocabulary")));
        }
        let merge = format!("{left} {right}");
        out.push(merge.as_bytes());
        // Which of the two counts differs among programs; loam's own tokenizer refuses such a base.
        if !seen.insert(merge) {
            return Err(bad("is there twice"));
        }
    }
    Ok(out)
}

/// Reads `name` in `dir` as UTF-8 text, if it is there.
fn text_file(dir: &Path, name: &str) -> Result<Option<String>> {
    let path = dir.join(name);
    if !present(&path)? {
        return Ok(None);
    }
    let bytes = crate::source::json::read_limited(&path)?;
    String::from_utf8(bytes).map(Some).map_err(|_| Error::source(&path, SourceProblem::NotUtf8))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

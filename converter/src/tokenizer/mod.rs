//! tokenizer.json -> `tokenizer.ggml.*`: byte-level BPE.

pub mod pre;
mod special;

use std::path::Path;

use loam::gguf::{Metadata, Strings};
use serde_json::Value;

use crate::source::json::brief;
use crate::source::{Json, Source};
use crate::{Error, Result};

/// Values of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

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
/// # Errors
/// tokenizer.json is missing, malformed, no byte-level BPE, contradicts itself, or has ids that the model lacks.
pub fn read(source: &Source, pre: Option<&str>) -> Result<Tokenizer> {
    let path = source.dir.join("tokenizer.json");
    if !path.is_file() {
        let problem =
            "has no tokenizer.json; save the tokenizer with AutoTokenizer.from_pretrained(..).save_pretrained(..)";
        return Err(Error::Source { path: source.dir.clone(), problem: problem.into() });
    }
    let mut json = Json::read(&path)?;
    let mut model = json.take_object("model")?.ok_or_else(|| json.error("model", "is missing"))?;
    let mut notes = Vec::new();
    check_kind(&json, &model, &mut notes)?;
    let pre = match pre {
        Some(name) => check_override(name)?,
        None => pre::name(&json, model.flag("ignore_merges")?.unwrap_or(false))?,
    };
    let vocabulary = Vocabulary::read(&json, &mut model, source.config.vocab_size)?;
    let padded = vocabulary.tokens.iter().filter(|token| token.is_none()).count();
    if padded > 0 {
        notes.push(format!("{padded} ids have no token and are padded as [PAD<id>], type unused"));
    }
    let mut out = Metadata::new();
    out.set("tokenizer.ggml.model", "gpt2");
    out.set("tokenizer.ggml.pre", pre);
    let merges = merges(&model, &vocabulary)?;
    vocabulary.write(&mut out);
    out.set("tokenizer.ggml.merges", merges);
    special::write(source, &json, &vocabulary, &mut out)?;
    Ok(Tokenizer { metadata: out, notes })
}

fn check_override(name: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        return Ok(name);
    }
    Err(Error::Argument(format!("--pre {name:?}: a name of ASCII letters, digits, '-', '_', '.' is expected")))
}

/// Refuses every kind of tokenizer but byte-level BPE.
fn check_kind(json: &Json, model: &Json, notes: &mut Vec<String>) -> Result<()> {
    let bad = |problem: String| Err(Error::Tokenizer { path: json.path.clone(), problem });
    let kind = model.text("type")?.unwrap_or("(none)");
    if kind != "BPE" {
        return bad(format!("model type {} is not supported, only BPE", kind.escape_debug()));
    }
    if model.flag("byte_fallback")?.unwrap_or(false) {
        return bad("is a SentencePiece-style BPE with byte_fallback; only byte-level BPE is supported".into());
    }
    if !uses(json, "decoder", "ByteLevel") && !uses(json, "pre_tokenizer", "ByteLevel") {
        return bad("neither pre_tokenizer nor decoder is ByteLevel; only byte-level BPE is supported".into());
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model.text(key)?.is_some_and(|text| !text.is_empty()) {
            return bad(format!("model.{key} is set, which GGUF cannot express"));
        }
    }
    match json.get("normalizer") {
        None => Ok(()),
        Some(v) if v.get("type").and_then(Value::as_str) == Some("NFC") => {
            notes.push("the tokenizer's NFC normalizer has no place in GGUF: texts must be in NFC already".into());
            Ok(())
        }
        Some(v) => bad(format!("normalizer {} is not supported", brief(v))),
    }
}

/// Does `part` of tokenizer.json contain a component of type `kind`?
fn uses(json: &Json, part: &str, kind: &str) -> bool {
    let is = |v: &Value| v.get("type").and_then(Value::as_str) == Some(kind);
    let Some(node) = json.get(part) else { return false };
    let lists = ["pretokenizers", "decoders", "processors"].iter().filter_map(|key| node.get(*key)?.as_array());
    is(node) || lists.flatten().any(is)
}

/// Tokens by id, and ids by text.
pub(crate) struct Vocabulary {
    /// Text and `token_type`; `None` where no token has the id.
    pub(crate) tokens: Vec<Option<(String, i32)>>,
    pub(crate) ids: std::collections::HashMap<String, u32>,
}

impl Vocabulary {
    fn read(json: &Json, model: &mut Json, size: u64) -> Result<Vocabulary> {
        let vocab = model.take_object("vocab")?.ok_or_else(|| model.error("vocab", "is missing"))?;
        // At most 2^24, checked in the configuration.
        let mut out = Vocabulary { tokens: vec![None; size as usize], ids: std::collections::HashMap::new() };
        for text in vocab.keys() {
            let id = vocab.get(text).and_then(Value::as_u64);
            let id = id.ok_or_else(|| model.error("vocab", format!("{text:?} has no id")))?;
            out.add(model, "vocab", text, id, NORMAL)?;
        }
        for added in json.list("added_tokens")? {
            let text = added.get("content").and_then(Value::as_str);
            let id = added.get("id").and_then(Value::as_u64);
            let (Some(text), Some(id)) = (text, id) else {
                return Err(json.error("added_tokens", format!("{} needs content and id", brief(added))));
            };
            let special = added.get("special").and_then(Value::as_bool).unwrap_or(false);
            let kind = if special || looks_special(text) { CONTROL } else { USER_DEFINED };
            out.add(json, "added_tokens", text, id, kind)?;
        }
        Ok(out)
    }

    /// An added token may repeat an entry of the vocabulary; nothing else may take an id or a text twice.
    fn add(&mut self, json: &Json, field: &str, text: &str, id: u64, kind: i32) -> Result<()> {
        let shown = || text.escape_debug().take(60).collect::<String>();
        if text.is_empty() {
            return Err(json.error(field, format!("the token of id {id} is empty")));
        }
        let size = self.tokens.len();
        let Some(slot) = usize::try_from(id).ok().and_then(|id| self.tokens.get_mut(id)) else {
            let problem = format!("token {:?} has id {id}, but vocab_size of config.json is {size}", shown());
            return Err(json.error(field, problem));
        };
        if let Some((other, _)) = slot.as_ref().filter(|(other, _)| other != text) {
            let other: String = other.escape_debug().take(60).collect();
            return Err(json.error(field, format!("id {id} belongs to {:?} and to {other:?}", shown())));
        }
        *slot = Some((text.to_owned(), kind));
        match self.ids.insert(text.to_owned(), id as u32) {
            Some(other) if u64::from(other) != id => {
                Err(json.error(field, format!("token {:?} has the ids {other} and {id}", shown())))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, out: &mut Metadata) {
        let mut types = Vec::with_capacity(self.tokens.len());
        let mut tokens = Strings::default();
        for (id, token) in self.tokens.iter().enumerate() {
            match token {
                Some((text, kind)) => {
                    tokens.push(text.as_bytes());
                    types.push(*kind);
                }
                None => {
                    tokens.push(format!("[PAD{id}]").as_bytes());
                    types.push(UNUSED);
                }
            }
        }
        out.set("tokenizer.ggml.tokens", tokens);
        out.set("tokenizer.ggml.token_type", types);
    }
}

/// Added tokens that llama.cpp takes for control tokens whatever their flag says.
fn looks_special(text: &str) -> bool {
    let between = |start: &str, end: &str| {
        text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
    };
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text)
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}

/// Merges as "left right". Both JSON forms are read: "left right" and ["left", "right"]; in the second a space inside a
/// piece is written as U+0120, as llama.cpp's converter does.
fn merges(model: &Json, vocabulary: &Vocabulary) -> Result<Strings> {
    let mut out = Strings::default();
    for (i, merge) in model.list("merges")?.iter().enumerate() {
        let pair = match merge {
            Value::String(text) => text.split_once(' ').map(|(l, r)| (l.to_owned(), r.to_owned())),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(left), Value::String(right)] => Some((left.replace(' ', "Ġ"), right.replace(' ', "Ġ"))),
                _ => None,
            },
            _ => None,
        };
        let bad = |what: &str| model.error("merges", format!("entry {i}, {}: {what}", brief(merge)));
        let (left, right) = pair.filter(|(l, r)| !l.is_empty() && !r.is_empty()).ok_or_else(|| bad("is no pair"))?;
        let joined = format!("{left}{right}");
        if let Some(absent) = [&left, &right, &joined].into_iter().find(|text| !vocabulary.ids.contains_key(*text)) {
            return Err(bad(&format!("{absent:?} is not in the vocabulary")));
        }
        out.push(format!("{left} {right}").as_bytes());
    }
    Ok(out)
}

/// Reads `name` in `dir` as UTF-8 text, if it is there.
fn text_file(dir: &Path, name: &str) -> Result<Option<String>> {
    let path = dir.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = crate::source::json::read_limited(&path)?;
    String::from_utf8(bytes).map(Some).map_err(|_| Error::Source { path, problem: "is not UTF-8".into() })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

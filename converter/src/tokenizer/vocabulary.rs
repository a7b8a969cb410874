//! Tokens by id with their types, as tokenizer.json lists them.

use std::collections::HashMap;

use loam_files::gguf::{Metadata, Strings};
use serde_json::Value;

use super::flags::{Flagged, Flags};
use super::{CONTROL, NORMAL, UNUSED, USER_DEFINED};
use crate::Result;
use crate::source::Json;
use crate::source::json::brief;

/// Tokens by id, and ids by text.
pub(crate) struct Vocabulary {
    /// Text and `token_type`; `None` where no token has the id.
    pub(crate) tokens: Vec<Option<(String, i32)>>,
    /// By text; of the entries of the model and of added tokens.
    pub(crate) ids: HashMap<String, u32>,
    /// How added tokens are looked for.
    pub(crate) flags: Flagged,
}

impl Vocabulary {
    /// No tokens yet, and room for `size`: at most 2^24, checked in the configuration.
    pub(super) fn new(size: u64) -> Vocabulary {
        Vocabulary { tokens: vec![None; size as usize], ids: HashMap::new(), flags: Flagged::default() }
    }

    /// The entries of a BPE model and the added tokens. Added tokens beyond the model's rows are left out, with a note:
    /// no text that the model can read has them.
    ///
    /// # Errors
    /// Ids or texts that repeat, are missing, or are beyond `size`.
    pub(super) fn read(json: &Json, model: &mut Json, size: u64, notes: &mut Vec<String>) -> Result<Vocabulary> {
        let vocab = model.take_object("vocab")?.ok_or_else(|| model.error("vocab", "is missing"))?;
        let mut out = Vocabulary::new(size);
        for text in vocab.keys() {
            let id = vocab.get(text).and_then(Value::as_u64);
            let id = id.ok_or_else(|| model.error("vocab", format!("{text:?} has no id")))?;
            out.add(model, "vocab", text, id, NORMAL)?;
        }
        for added in added_tokens(json)? {
            if added.id >= size {
                notes.push(added.without_row());
                continue;
            }
            out.add(json, "added_tokens", &added.text, added.id, added.kind)?;
            out.flags.add(added.id as u32, added.flags);
        }
        Ok(out)
    }

    /// An added token may repeat an entry of the vocabulary; nothing else may take an id or a text twice.
    pub(super) fn add(&mut self, json: &Json, field: &str, text: &str, id: u64, kind: i32) -> Result<()> {
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

    /// Writes tokens and types, with `[PAD<id>]` where no token has an id.
    pub(super) fn write(&self, out: &mut Metadata) {
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

/// An entry of `added_tokens`.
pub(super) struct Added {
    pub(super) text: String,
    pub(super) id: u64,
    pub(super) kind: i32,
    pub(super) flags: Flags,
}

impl Added {
    /// The note that it is left out.
    pub(super) fn without_row(&self) -> String {
        let text: String = self.text.chars().take(60).collect();
        format!("added token {text:?} has no row in the model and is left out")
    }
}

/// The added tokens of a tokenizer.json.
///
/// # Errors
/// An entry has no content or no id.
pub(super) fn added_tokens(json: &Json) -> Result<Vec<Added>> {
    let read = |added: &Value| {
        let text = added.get("content").and_then(Value::as_str);
        let id = added.get("id").and_then(Value::as_u64);
        let (Some(text), Some(id)) = (text, id) else {
            return Err(json.error("added_tokens", format!("{} needs content and id", brief(added))));
        };
        let special = added.get("special").and_then(Value::as_bool).unwrap_or(false);
        Ok(Added { text: text.to_owned(), id, kind: added_kind(text, special), flags: Flags::of(added) })
    };
    json.list("added_tokens")?.iter().map(read).collect()
}

/// The `token_type` of an added token.
pub(super) fn added_kind(text: &str, special: bool) -> i32 {
    if special || looks_special(text) { CONTROL } else { USER_DEFINED }
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

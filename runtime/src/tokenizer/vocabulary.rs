//! The vocabulary as a GGUF file stores it, and the checks that must pass before anything is built from it.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::bytes;
use crate::gguf::Gguf;
use crate::{Error, Result};

/// More tokens than any model has: the largest vocabularies are about one million.
const TOKEN_LIMIT: usize = 1 << 24;

/// What a token is for (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// Text.
    Normal,
    /// The token for unknown text.
    Unknown,
    /// Structure: never made from user text.
    Control,
    /// Added text that is matched whole, before merges.
    UserDefined,
    /// A gap in the vocabulary.
    Unused,
    /// One byte (`<0x0A>`).
    Byte,
}

impl TokenType {
    /// The type with the GGUF number `value`.
    pub fn from_ggml(value: i32) -> Option<Self> {
        Some(match value {
            1 => TokenType::Normal,
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => return None,
        })
    }
}

/// The `tokenizer.ggml.*` keys of a byte-level BPE vocabulary (`model` = `gpt2`).
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    /// `pre`: name of the pre-tokenizer.
    pub pre: String,
    /// `tokens`: text of each token in the byte-level alphabet; control and user-defined tokens are plain text.
    pub tokens: Vec<String>,
    /// `token_type` per token; empty = all normal.
    pub types: Vec<i32>,
    /// `merges`: "left right", best first.
    pub merges: Vec<String>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `eot_token_id`: end of a turn.
    pub eot: Option<u32>,
    /// `eom_token_id`: end of a message.
    pub eom: Option<u32>,
    /// `add_bos_token`; absent: what the pre-tokenizer's model family does.
    pub add_bos: Option<bool>,
    /// `add_eos_token`; absent: no.
    pub add_eos: Option<bool>,
}

/// A vocabulary that passed its checks.
pub(super) struct Checked {
    pub(super) types: Vec<TokenType>,
    /// Text to id, of all tokens but the empty ones.
    pub(super) ids: HashMap<String, u32>,
    pub(super) merges: Vec<(String, String)>,
}

fn wrong(problem: String) -> Error {
    Error::Tokenizer(problem)
}

/// A token's text for a message: attacker text, so cut short and escaped.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    format!("{short:?}")
}

impl Vocabulary {
    /// Reads the keys `tokenizer.ggml.*`.
    ///
    /// # Errors
    /// [`Error::Metadata`] for a missing key or one of another type, [`Error::Tokenizer`] for a tokenizer model other
    /// than `gpt2`.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let model = gguf.str("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(wrong(format!(
                "tokenizer.ggml.model is {}; byte-level BPE (\"gpt2\") is the only one supported",
                shown(model)
            )));
        }
        let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
        Ok(Vocabulary {
            pre: gguf.str("tokenizer.ggml.pre")?.to_owned(),
            tokens: owned(gguf.strings("tokenizer.ggml.tokens")?),
            types: gguf.opt_i32s("tokenizer.ggml.token_type")?.unwrap_or_default().to_vec(),
            merges: owned(gguf.strings("tokenizer.ggml.merges")?),
            bos: gguf.opt_u32("tokenizer.ggml.bos_token_id")?,
            eos: gguf.opt_u32("tokenizer.ggml.eos_token_id")?,
            eot: gguf.opt_u32("tokenizer.ggml.eot_token_id")?,
            eom: gguf.opt_u32("tokenizer.ggml.eom_token_id")?,
            add_bos: gguf.opt_bool("tokenizer.ggml.add_bos_token")?,
            add_eos: gguf.opt_bool("tokenizer.ggml.add_eos_token")?,
        })
    }

    /// Checks types, ids and merges (tokenizers#2094: a merge over the longest token panics inside that crate).
    pub(super) fn check(&self) -> Result<Checked> {
        let types = self.check_types()?;
        let ids = self.check_tokens(&types)?;
        for (key, id) in [("bos", self.bos), ("eos", self.eos), ("eot", self.eot), ("eom", self.eom)] {
            if let Some(id) = id.filter(|&id| id as usize >= self.tokens.len()) {
                let count = self.tokens.len();
                return Err(wrong(format!("{key}_token_id is {id}, but there are {count} tokens")));
            }
        }
        let merges = self.check_merges(&ids)?;
        Ok(Checked { types, ids, merges })
    }

    fn check_types(&self) -> Result<Vec<TokenType>> {
        let count = self.tokens.len();
        if count == 0 {
            return Err(wrong("tokenizer.ggml.tokens is empty".into()));
        }
        if count > TOKEN_LIMIT {
            return Err(Error::Limit {
                what: "number of tokens".into(),
                value: count as u64,
                limit: TOKEN_LIMIT as u64,
            });
        }
        if self.types.is_empty() {
            return Ok(vec![TokenType::Normal; count]);
        }
        if self.types.len() != count {
            return Err(wrong(format!("{} token types for {count} tokens", self.types.len())));
        }
        let convert = |(id, &value): (usize, &i32)| {
            TokenType::from_ggml(value).ok_or_else(|| wrong(format!("token {id} has the unknown type {value}")))
        };
        self.types.iter().enumerate().map(convert).collect()
    }

    fn check_tokens(&self, types: &[TokenType]) -> Result<HashMap<String, u32>> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, (token, ty)) in self.tokens.iter().zip(types).enumerate() {
            if token.is_empty() {
                if matches!(ty, TokenType::Control | TokenType::UserDefined) {
                    return Err(wrong(format!("token {id} is {ty:?} and empty")));
                }
                continue; // A gap: never produced, decodes to nothing.
            }
            if let Some(earlier) = ids.insert(token.clone(), id as u32) {
                return Err(wrong(format!("token {id} repeats token {earlier}: {}", shown(token))));
            }
        }
        Ok(ids)
    }

    fn check_merges(&self, ids: &HashMap<String, u32>) -> Result<Vec<(String, String)>> {
        let mut seen = HashMap::with_capacity(self.merges.len());
        let mut merges = Vec::with_capacity(self.merges.len());
        let mut joined = String::new();
        for (rank, merge) in self.merges.iter().enumerate() {
            // The first character cannot be the separator: a token is not empty.
            let first = merge.chars().next().map_or(0, char::len_utf8);
            let Some(space) = merge[first..].find(' ').map(|at| at + first) else {
                return Err(wrong(format!("merge {rank} is not \"left right\": {}", shown(merge))));
            };
            let (left, right) = (&merge[..space], &merge[space + 1..]);
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            for part in [left, right, &joined] {
                if !ids.contains_key(part) {
                    return Err(wrong(format!("merge {rank} needs {}, which is no token", shown(part))));
                }
            }
            if let Some(earlier) = seen.insert((ids[left], ids[right]), rank) {
                return Err(wrong(format!("merge {rank} repeats merge {earlier}: {}", shown(merge))));
            }
            merges.push((left.to_owned(), right.to_owned()));
        }
        Ok(merges)
    }

    /// SHA-256 over all that decides the ids of a text: pre-tokenizer, tokens, types, merges, BOS and EOS policy.
    pub(super) fn digest(&self, add_bos: bool, add_eos: bool) -> String {
        let mut hash = Sha256::new();
        let mut text = |part: &str| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        };
        text("gpt2");
        text(&self.pre);
        for list in [&self.tokens, &self.merges] {
            text(&list.len().to_string());
            list.iter().for_each(|item| text(item));
        }
        text(&format!("{:?} {:?} {add_bos} {add_eos}", self.bos, self.eos));
        for ty in &self.types {
            hash.update(ty.to_le_bytes());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Which bytes can be encoded: those whose character is a token.
pub(super) fn known_bytes(ids: &HashMap<String, u32>) -> [bool; 256] {
    let mut buffer = [0u8; 4];
    std::array::from_fn(|byte| ids.contains_key(&*bytes::char_of(byte as u8).encode_utf8(&mut buffer)))
}

//! The vocabulary as a GGUF file stores it, and the checks that must pass before anything is built from it.

use std::collections::HashMap;

use loam_files::digest::Sha256;

use super::roles::{self, FILL_IN_KEYS};
use crate::error::TokenizerProblem;
use crate::{Error, Result};
use loam_files::gguf::{Array, Gguf, Value};

/// More tokens than any model has: the largest vocabularies are about one million.
const TOKEN_LIMIT: usize = 1 << 24;

/// What stands for a space in the tokens of SentencePiece.
pub(super) const SPACE: &str = "\u{2581}";
/// [`SPACE`].
pub(super) const SPACE_CHAR: char = '\u{2581}';

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
            0 | 5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => return None,
        })
    }

    /// Whether it is no text: control tokens and the one for unknown text.
    pub fn is_structure(self) -> bool {
        matches!(self, TokenType::Control | TokenType::Unknown)
    }
}

/// How text becomes tokens (`tokenizer.ggml.model`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Model {
    /// Byte-pair encoding with merges: `gpt2`, and `gemma4`.
    #[default]
    Bpe,
    /// SentencePiece's byte-pair encoding by scores: `llama`.
    Spm,
    /// SentencePiece's unigram model: `t5`.
    Unigram,
}

impl Model {
    /// The name in GGUF files.
    fn name(self) -> &'static str {
        match self {
            Model::Bpe => "gpt2",
            Model::Spm => "llama",
            Model::Unigram => "t5",
        }
    }
}

/// Key of the ids of added tokens that take the white space before them. It is loam's: other programs do without.
pub const LSTRIP_KEY: &str = "loam.tokenizer.lstrip_token_ids";
/// Key of the ids of added tokens that take the white space after them.
pub const RSTRIP_KEY: &str = "loam.tokenizer.rstrip_token_ids";
/// Key of the ids of end tokens besides those that `tokenizer.ggml.*` has keys for.
pub const ENDS_KEY: &str = "loam.tokenizer.end_token_ids";

/// Added tokens that take the white space beside them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strips {
    /// Ids of those that take what is before them.
    pub left: Vec<u32>,
    /// Ids of those that take what is after them.
    pub right: Vec<u32>,
}

/// The `tokenizer.ggml.*` keys.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    /// `model`.
    pub model: Model,
    /// `pre`: name of the pre-tokenizer; only [`Model::Bpe`] has one.
    pub pre: String,
    /// `tokens`: text of each token, for [`Model::Bpe`] in the byte-level alphabet, for the others with U+2581 for
    /// spaces; control and user-defined tokens are plain text.
    pub tokens: Vec<String>,
    /// `token_type` per token; empty = all normal.
    pub types: Vec<i32>,
    /// `merges` of [`Model::Bpe`]: "left right", best first.
    pub merges: Vec<String>,
    /// `scores` per token, for the models other than [`Model::Bpe`].
    pub scores: Vec<f32>,
    /// `bos_token_id`.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `eot_token_id`: end of a turn.
    pub eot: Option<u32>,
    /// `eom_token_id`: end of a message.
    pub eom: Option<u32>,
    /// `unknown_token_id`.
    pub unknown: Option<u32>,
    /// `fim_pre_token_id`, `_suf_`, `_mid_`, `_pad_`, `_rep_`, `_sep_`: code to be filled in.
    pub fill_in: [Option<u32>; 6],
    /// `add_bos_token`; absent: what the model or the pre-tokenizer's family does.
    pub add_bos: Option<bool>,
    /// `add_eos_token`; absent: no, but yes for [`Model::Unigram`].
    pub add_eos: Option<bool>,
    /// `add_space_prefix`: a space is put before a text; absent: yes for [`Model::Spm`] only.
    pub add_space_prefix: Option<bool>,
    /// `remove_extra_whitespaces` of [`Model::Unigram`].
    pub remove_extra_whitespaces: bool,
    /// `precompiled_charsmap` of [`Model::Unigram`].
    pub charsmap: Vec<u8>,
    /// [`LSTRIP_KEY`] and [`RSTRIP_KEY`]; none if the file has neither.
    pub strips: Option<Strips>,
    /// [`ENDS_KEY`].
    pub more_ends: Vec<u32>,
}

/// A vocabulary that passed its checks.
pub(super) struct Checked {
    /// With names taken into account.
    pub(super) types: Vec<TokenType>,
    /// Text to id, of all tokens but the empty ones.
    pub(super) ids: HashMap<String, u32>,
    pub(super) merges: Vec<(String, String)>,
    /// Tokens that end an answer.
    pub(super) end: Vec<bool>,
    pub(super) unknown: Option<u32>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
}

impl Checked {
    /// The token of each byte, `<0x0A>`.
    pub(super) fn byte_tokens(&self) -> [Option<u32>; 256] {
        std::array::from_fn(|byte| self.ids.get(&byte_token(byte as u8)).copied())
    }
}

/// The text of the token for `byte`.
pub(super) fn byte_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// The byte that a token of type [`TokenType::Byte`] stands for.
pub(super) fn byte_of_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.then(|| u8::from_str_radix(digits, 16).ok())?
}

fn wrong(problem: String) -> Error {
    Error::Tokenizer(problem.into())
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
    /// [`loam_files::Error::Metadata`] for a missing key or one of another type, [`Error::Tokenizer`] for a tokenizer
    /// model that is not known.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let name = gguf.str("tokenizer.ggml.model")?;
        let (model, pre) = match name {
            "gpt2" => (Model::Bpe, gguf.opt_str("tokenizer.ggml.pre")?.ok_or_else(no_pre_tokenizer)?),
            "gemma4" => (Model::Bpe, "gemma4"),
            "llama" => (Model::Spm, ""),
            "t5" => (Model::Unigram, ""),
            _ => {
                let (found, known) = (name.chars().take(40).collect(), "gpt2, gemma4, llama and t5".into());
                return Err(Error::Tokenizer(TokenizerProblem::UnknownModel { found, known }));
            }
        };
        let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
        let id = |key: &str| gguf.opt_u32(&format!("tokenizer.ggml.{key}_token_id"));
        let mut fill_in = [None; 6];
        for (slot, key) in fill_in.iter_mut().zip(FILL_IN_KEYS) {
            *slot = id(&format!("fim_{key}"))?;
        }
        Ok(Vocabulary {
            model,
            pre: pre.to_owned(),
            tokens: owned(gguf.strings("tokenizer.ggml.tokens")?),
            types: gguf.opt_i32s("tokenizer.ggml.token_type")?.unwrap_or_default().to_vec(),
            merges: if model == Model::Bpe { owned(gguf.strings("tokenizer.ggml.merges")?) } else { Vec::new() },
            scores: if model == Model::Bpe { Vec::new() } else { gguf.f32s("tokenizer.ggml.scores")?.to_vec() },
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            eom: id("eom")?,
            unknown: id("unknown")?,
            fill_in,
            add_bos: gguf.opt_bool("tokenizer.ggml.add_bos_token")?,
            add_eos: gguf.opt_bool("tokenizer.ggml.add_eos_token")?,
            add_space_prefix: gguf.opt_bool("tokenizer.ggml.add_space_prefix")?,
            remove_extra_whitespaces: gguf.opt_bool("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false),
            charsmap: charsmap(gguf)?,
            strips: match (ids(gguf, LSTRIP_KEY)?, ids(gguf, RSTRIP_KEY)?) {
                (None, None) => None,
                (left, right) => Some(Strips { left: left.unwrap_or_default(), right: right.unwrap_or_default() }),
            },
            more_ends: ids(gguf, ENDS_KEY)?.unwrap_or_default(),
        })
    }

    /// Checks types, ids, scores and merges (tokenizers#2094: a merge over the longest token panics inside that crate).
    pub(super) fn check(&self) -> Result<Checked> {
        let mut types = self.check_types()?;
        let ids = self.check_tokens(&types)?;
        self.check_ids()?;
        self.check_scores()?;
        let merges = self.check_merges(&ids)?;
        let end = roles::settle(self, &ids, &mut types);
        // Ids that llama.cpp takes where the file names none.
        let default = |named: Option<u32>, spm: u32, unigram: Option<u32>| match self.model {
            Model::Bpe => named,
            Model::Spm => named.or(Some(spm).filter(|&id| (id as usize) < self.tokens.len())),
            Model::Unigram => named.or(unigram.filter(|&id| (id as usize) < self.tokens.len())),
        };
        let bos = default(self.bos, 1, None);
        let eos = default(self.eos, 2, Some(1));
        let unknown = default(self.unknown, 0, Some(2));
        Ok(Checked { types, ids, merges, end, unknown, bos, eos })
    }

    fn check_ids(&self) -> Result<()> {
        let named =
            [("bos", self.bos), ("eos", self.eos), ("eot", self.eot), ("eom", self.eom), ("unknown", self.unknown)];
        let fill_in = FILL_IN_KEYS.iter().zip(self.fill_in).map(|(key, id)| (*key, id));
        let more = self.more_ends.iter().map(|&id| ("end", Some(id)));
        for (key, id) in named.into_iter().chain(fill_in).chain(more) {
            if let Some(id) = id.filter(|&id| id as usize >= self.tokens.len()) {
                let count = self.tokens.len();
                return Err(wrong(format!("{key}_token_id is {id}, but there are {count} tokens")));
            }
        }
        Ok(())
    }

    fn check_scores(&self) -> Result<()> {
        let count = self.tokens.len();
        if self.model == Model::Bpe {
            return Ok(());
        }
        if self.scores.len() != count {
            return Err(wrong(format!("{} scores for {count} tokens", self.scores.len())));
        }
        match self.scores.iter().position(|score| score.is_nan()) {
            Some(id) => Err(wrong(format!("the score of token {id} is no number"))),
            None => Ok(()),
        }
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
                    return Err(wrong(format!(
                        "token {id} is empty, but no gap in the vocabulary: its type says that texts have it"
                    )));
                }
                continue; // A gap: never produced, decodes to nothing.
            }
            if *ty == TokenType::Byte && byte_of_token(token).is_none() {
                return Err(wrong(format!("token {id} is a byte, but not of the form <0x0A>: {}", shown(token))));
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

    /// SHA-256 over all that decides the ids of a text: pre-tokenizer, tokens, types, merges, scores, BOS and EOS
    /// policy, white space.
    pub(super) fn digest(&self, add_bos: bool, add_eos: bool, strips: bool) -> String {
        let mut hash = Sha256::new();
        let mut text = |part: &str| {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        };
        text(self.model.name());
        text(&self.pre);
        for list in [&self.tokens, &self.merges] {
            text(&list.len().to_string());
            list.iter().for_each(|item| text(item));
        }
        text(&format!("{:?} {:?} {add_bos} {add_eos}", self.bos, self.eos));
        if strips || self.model != Model::Bpe {
            text(&format!("{strips} {:?} {:?} {}", self.unknown, self.add_space_prefix, self.remove_extra_whitespaces));
        }
        if let Some(Strips { left, right }) = &self.strips {
            text(&format!("{left:?} {right:?}"));
        }
        self.types.iter().for_each(|ty| hash.update(&ty.to_le_bytes()));
        self.scores.iter().for_each(|score| hash.update(&score.to_le_bytes()));
        hash.update(&self.charsmap);
        hash.hex()
    }
}

fn no_pre_tokenizer() -> Error {
    Error::Tokenizer(TokenizerProblem::NoPreTokenizer)
}

/// Ids under `key`; none if the file has no such key.
fn ids(gguf: &Gguf, key: &str) -> Result<Option<Vec<u32>>> {
    match gguf.metadata().get(key) {
        None => Ok(None),
        Some(Value::Array(Array::U32(ids))) => Ok(Some(ids.clone())),
        Some(_) => Err(gguf.metadata_error(key, "is no array of ids").into()),
    }
}

/// The bytes of `precompiled_charsmap`; none if there is none.
fn charsmap(gguf: &Gguf) -> Result<Vec<u8>> {
    let key = "tokenizer.ggml.precompiled_charsmap";
    match gguf.metadata().get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(Array::U8(bytes))) => Ok(bytes.clone()),
        Some(Value::Array(Array::I8(bytes))) => Ok(bytes.iter().map(|&byte| byte as u8).collect()),
        Some(_) => Err(gguf.metadata_error(key, "is no array of bytes").into()),
    }
}

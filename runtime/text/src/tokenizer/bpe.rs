//! Byte-pair encoding (`tokenizer.ggml.model` = `gpt2`, `gemma4`): text is cut into pieces ([`split`](super::split)),
//! and the characters of each piece are joined by [`Merges`].
//!
//! Mostly the characters stand for the bytes of the text ([`bytes`]). A few families merge the characters themselves,
//! with U+2581 for spaces and tokens `<0x0A>` for the bytes of characters without a token.

use std::collections::{HashMap, HashSet};

use super::bytes;
use super::merges::{Merges, Scratch};
use super::split::{Alphabet, PreTokenizer, Splitter};
use super::vocabulary::{Checked, SPACE, byte_token};
use crate::{Error, Result};

/// Longest piece in bytes: a run of letters, or of white space, that is merged as a whole. The merge takes up to about
/// 40 bytes of memory for each of them. No language has such words.
pub(super) const PIECE_LIMIT: usize = 16 << 20;

/// A byte-pair encoder.
pub(super) struct Bpe {
    splitter: Splitter,
    merges: Merges,
    alphabet: Alphabet,
    /// Token of each byte: by its character, or `<0x0A>`.
    bytes: [Option<u32>; 256],
    /// Tokens that a text can become.
    tokens: HashMap<Box<str>, u32>,
    /// Whether a piece that is a token is not merged.
    ignore_merges: bool,
    /// Token of a piece of line ends, by length from 1, where the alphabet is of characters.
    line_ends: Vec<Option<u32>>,
}

impl Bpe {
    /// Builds the encoder. Control tokens are left out of what merges can make, unless merges are made of them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the merges do not fit the tokens, or byte tokens are missing that the alphabet needs.
    pub(super) fn new(pre: &PreTokenizer, checked: &Checked) -> Result<Self> {
        let alphabet = pre.alphabet;
        let absent = |byte: &u8| alphabet == Alphabet::Characters && !checked.ids.contains_key(&byte_token(*byte));
        if let Some(absent) = (0..=u8::MAX).find(absent) {
            return Err(Error::Tokenizer(format!("the vocabulary has no token <0x{absent:02X}>").into()));
        }
        let merged: HashSet<&str> = checked.merges.iter().flat_map(|(left, right)| [left.as_str(), right]).collect();
        let usable = |token: &str, id: u32| !checked.types[id as usize].is_structure() || merged.contains(token);
        let kept = checked.ids.iter().filter(|(token, id)| usable(token, **id));
        let tokens: HashMap<Box<str>, u32> = kept.map(|(token, id)| (token.as_str().into(), *id)).collect();
        let mut pairs = Vec::with_capacity(checked.merges.len());
        for (left, right) in &checked.merges {
            let id = |text: &str| {
                let absent = || Error::Tokenizer(format!("a merge needs {:?}, which is no text", short(text)).into());
                tokens.get(text).copied().ok_or_else(absent)
            };
            pairs.push(((id(left)?, id(right)?), id(&format!("{left}{right}"))?));
        }
        let merges = Merges::new(pairs.into_iter());
        let bytes = match alphabet {
            Alphabet::Bytes => std::array::from_fn(|byte| {
                tokens.get(bytes::char_of(byte as u8).encode_utf8(&mut [0; 4]) as &str).copied()
            }),
            Alphabet::Characters => checked.byte_tokens(),
        };
        let line_ends = (1..=32).map(|length| checked.ids.get(&"\n".repeat(length)).copied()).collect();
        let (splitter, ignore_merges) = (Splitter::new(pre)?, pre.ignore_merges);
        Ok(Bpe { splitter, merges, alphabet, bytes, tokens, ignore_merges, line_ends })
    }

    /// Appends the ids of text that holds no added token.
    ///
    /// # Errors
    /// [`Error::Limit`] for a piece that is too long.
    pub(super) fn append(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let escaped;
        let text = match self.alphabet {
            Alphabet::Bytes => text,
            Alphabet::Characters => {
                escaped = text.replace(' ', SPACE);
                &escaped
            }
        };
        let mut scratch = Scratch::default();
        for piece in self.splitter.split(text) {
            if piece.len() > PIECE_LIMIT {
                let what = "length in bytes of a run of one kind of characters".into();
                return Err(Error::Limit { what, value: piece.len() as u64, limit: PIECE_LIMIT as u64 });
            }
            match self.whole(piece) {
                Some(id) => ids.push(id),
                None => self.append_piece(piece, &mut scratch, ids),
            }
        }
        Ok(())
    }

    /// The token that a piece is without merges.
    fn whole(&self, piece: &str) -> Option<u32> {
        let line_ends = if self.alphabet == Alphabet::Characters { self.line_end(piece) } else { None };
        line_ends.or_else(|| match (self.ignore_merges, self.alphabet) {
            (false, _) => None,
            (true, Alphabet::Characters) => self.tokens.get(piece).copied(),
            (true, Alphabet::Bytes) => {
                let mapped: String = piece.bytes().map(bytes::char_of).collect();
                self.tokens.get(mapped.as_str()).copied()
            }
        })
    }

    /// Appends the ids of a piece that is merged. Bytes without a token are left out, as Transformers and llama.cpp do.
    fn append_piece(&self, piece: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        let byte = |byte: u8| self.bytes[usize::from(byte)];
        match self.alphabet {
            Alphabet::Bytes => self.merges.append(piece.bytes().filter_map(byte), piece.len(), scratch, ids),
            Alphabet::Characters => {
                let symbols = piece.char_indices().flat_map(|(at, c)| {
                    let text = &piece[at..at + c.len_utf8()];
                    let known = self.tokens.get(text).copied();
                    let bytes = if known.is_some() { "" } else { text };
                    known.into_iter().chain(bytes.bytes().filter_map(byte))
                });
                self.merges.append(symbols, piece.len(), scratch, ids);
            }
        }
    }

    /// The token of a piece that is nothing but line ends (llama.cpp#21343).
    fn line_end(&self, piece: &str) -> Option<u32> {
        let known = *self.line_ends.get(piece.len().checked_sub(1)?)?;
        known.filter(|_| piece.bytes().all(|byte| byte == b'\n'))
    }
}

/// Text of a file for a message.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

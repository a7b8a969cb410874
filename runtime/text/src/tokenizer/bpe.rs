//! Byte-pair encoding (`tokenizer.ggml.model` = `gpt2`, `gemma4`): text is cut into pieces ([`split`]), and the
//! `tokenizers` crate merges the characters of each piece.
//!
//! Mostly the characters stand for the bytes of the text ([`bytes`]). A few families merge the characters themselves,
//! with U+2581 for spaces and tokens `<0x0A>` for the bytes of characters without a token.

use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use tokenizers::{Model as _, Token};

use super::bytes;
use super::split::{Alphabet, PreTokenizer, Splitter};
use super::vocabulary::{Checked, SPACE, byte_token};
use crate::{Error, Result};

/// Longest piece in bytes: a run of letters, or of white space, that is merged as a whole. The merge takes up to about
/// 150 bytes of memory for each of them. No language has such words.
pub(super) const PIECE_LIMIT: usize = 16 << 20;

/// A byte-pair encoder.
pub(super) struct Bpe {
    splitter: Splitter,
    merges: BPE,
    alphabet: Alphabet,
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
        let merged: std::collections::HashSet<&str> =
            checked.merges.iter().flat_map(|(left, right)| [left.as_str(), right]).collect();
        let text = |(token, &id): (&String, &u32)| {
            let usable = !checked.types[id as usize].is_structure() || merged.contains(token.as_str());
            usable.then(|| (token.clone(), id))
        };
        let line_ends = (1..=32).map(|length| checked.ids.get(&"\n".repeat(length)).copied());
        let merges = BpeBuilder::new()
            .vocab_and_merges(checked.ids.iter().filter_map(text).collect::<Vocab>(), checked.merges.clone())
            .ignore_merges(pre.ignore_merges)
            .byte_fallback(alphabet == Alphabet::Characters)
            .build()
            .map_err(|e| Error::Tokenizer(e.to_string().into()))?;
        Ok(Bpe { splitter: Splitter::new(pre)?, merges, alphabet, line_ends: line_ends.collect() })
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
        let mut mapped = String::new();
        for piece in self.splitter.split(text) {
            if piece.len() > PIECE_LIMIT {
                let what = "length in bytes of a run of one kind of characters".into();
                return Err(Error::Limit { what, value: piece.len() as u64, limit: PIECE_LIMIT as u64 });
            }
            let piece = match self.alphabet {
                Alphabet::Bytes => {
                    mapped.clear();
                    // Bytes without a token are left out by the merges, as Transformers and llama.cpp do.
                    mapped.extend(piece.bytes().map(bytes::char_of));
                    &mapped
                }
                Alphabet::Characters => piece,
            };
            if self.alphabet == Alphabet::Characters
                && let Some(id) = self.line_end(piece)
            {
                ids.push(id);
                continue;
            }
            let tokens: Vec<Token> = self.merges.tokenize(piece).map_err(|e| Error::Tokenizer(e.to_string().into()))?;
            ids.extend(tokens.iter().map(|token| token.id));
        }
        Ok(())
    }

    /// The token of a piece that is nothing but line ends (llama.cpp#21343).
    fn line_end(&self, piece: &str) -> Option<u32> {
        let known = *self.line_ends.get(piece.len().checked_sub(1)?)?;
        known.filter(|_| piece.bytes().all(|byte| byte == b'\n'))
    }
}

//! SentencePiece's unigram model (`tokenizer.ggml.model` = `t5`): of all ways to cut a text into tokens the one with
//! the highest sum of scores (Viterbi).

use std::collections::VecDeque;

use super::charsmap::Charsmap;
use super::trie::{ROOT, Trie};
use super::vocabulary::{Checked, SPACE, TokenType, Vocabulary};
use crate::{Error, Result};

/// Longest text between added tokens in bytes: the search keeps 8 bytes for each.
const TEXT_LIMIT: usize = 64 << 20;

/// Steps through the vocabulary for each byte of a text, and besides: tokens of languages are found in a few, only
/// those that begin with each other again and again take more.
const STEPS_PER_BYTE: usize = 128;
const STEPS: usize = 1 << 20;

/// How much worse than the worst token an unknown character is.
const UNKNOWN_PENALTY: f64 = 10.0;

/// A unigram encoder.
pub(super) struct Unigram {
    tokens: Trie,
    user_defined: Trie,
    /// Score per token; user-defined ones have 0.
    scores: Vec<f32>,
    unknown: u32,
    unknown_score: f64,
    charsmap: Option<Charsmap>,
    merge_spaces: bool,
}

/// The last token of the best way to a place in the text.
#[derive(Clone, Copy)]
struct Best {
    token: u32,
    from: u32,
}

impl Unigram {
    /// Builds the encoder.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if there is no unknown token, or the map of characters is broken.
    pub(super) fn new(vocabulary: &Vocabulary, checked: &Checked) -> Result<Self> {
        let unknown = checked.unknown.ok_or_else(|| Error::Tokenizer("unknown_token_id is missing".into()))?;
        let (mut tokens, mut user_defined) = (Trie::default(), Trie::default());
        let mut scores = vocabulary.scores.clone();
        let mut lowest = f32::MAX;
        for (id, (text, ty)) in vocabulary.tokens.iter().zip(&checked.types).enumerate() {
            if *ty == TokenType::Normal {
                lowest = lowest.min(scores[id]);
            }
            if *ty == TokenType::UserDefined {
                user_defined.insert(text.as_bytes(), id as u32);
                scores[id] = 0.0;
            }
            let usable = matches!(ty, TokenType::Normal | TokenType::UserDefined | TokenType::Unused);
            if usable && !text.is_empty() {
                tokens.insert(text.as_bytes(), id as u32);
            }
        }
        let unknown_score = f64::from(lowest) - UNKNOWN_PENALTY;
        let charsmap = Charsmap::parse(&vocabulary.charsmap)?;
        let merge_spaces = vocabulary.remove_extra_whitespaces;
        Ok(Unigram { tokens, user_defined, scores, unknown, unknown_score, charsmap, merge_spaces })
    }

    /// Appends the ids of text that holds no added token, with a space first if `prefix`.
    ///
    /// # Errors
    /// [`Error::Limit`] for a text that is too long, [`Error::Tokenizer`] for a broken map of characters.
    pub(super) fn append(&self, text: &str, prefix: bool, ids: &mut Vec<u32>) -> Result<()> {
        let text = self.normalise(text, prefix)?;
        let best = self.search(&text)?;
        let first = ids.len();
        let mut at = text.len();
        while at > 0 {
            let Best { token, from } = best[at];
            // Neighbouring unknown characters are one unknown token.
            if token != self.unknown || ids.len() == first || ids.last() != Some(&token) {
                ids.push(token);
            }
            at = from as usize;
        }
        ids[first..].reverse();
        Ok(())
    }

    /// The best way to each place of `text`.
    ///
    /// # Errors
    /// [`Error::Limit`] for a vocabulary that takes too many steps.
    fn search(&self, text: &[u8]) -> Result<Vec<Best>> {
        let mut best = vec![Best { token: self.unknown, from: 0 }; text.len() + 1];
        // Scores of the places from `at` on, as far as tokens reach.
        let mut scores = VecDeque::from([0.0]);
        let limit = text.len().saturating_mul(STEPS_PER_BYTE).saturating_add(STEPS);
        let (mut at, mut steps) = (0, 0);
        while at < text.len() {
            let width = width(text[at]).min(text.len() - at);
            let here = scores[0];
            let mut offer = |end: usize, token: u32, score: f64| {
                if scores.len() <= end - at {
                    scores.resize(end - at + 1, f64::NEG_INFINITY);
                }
                if score > scores[end - at] {
                    scores[end - at] = score;
                    best[end] = Best { token, from: at as u32 };
                }
            };
            let (mut node, mut known) = (ROOT, false);
            for (end, &byte) in text.iter().enumerate().skip(at) {
                let Some(next) = self.tokens.step(node, byte) else { break };
                node = next;
                steps += 1;
                if let Some(token) = self.tokens.value(node) {
                    known |= end + 1 - at == width;
                    offer(end + 1, token, here + f64::from(self.scores[token as usize]));
                }
            }
            if steps > limit {
                let what = "steps through a vocabulary whose tokens begin with each other".into();
                return Err(Error::Limit { what, value: steps as u64, limit: limit as u64 });
            }
            if !known {
                offer(at + width, self.unknown, here + self.unknown_score);
            }
            scores.drain(..width.min(scores.len()));
            at += width;
        }
        Ok(best)
    }

    /// Replaces characters by the map and spaces by U+2581, with one before the first word (of each, where spaces are
    /// merged).
    fn normalise(&self, text: &str, prefix: bool) -> Result<Vec<u8>> {
        let bytes = text.as_bytes();
        let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 2);
        let (mut in_word, mut prefixed, mut at) = (false, !prefix, 0);
        while at < bytes.len() {
            let (length, part) = self.next_part(text, at)?;
            for &byte in part {
                if byte == b' ' {
                    in_word = false;
                    if !self.merge_spaces {
                        out.extend(SPACE.as_bytes());
                    }
                    continue;
                }
                if !in_word && (!prefixed || self.merge_spaces) {
                    out.extend(SPACE.as_bytes());
                    prefixed = true;
                }
                in_word = true;
                out.push(byte);
            }
            at += length;
            // A hostile map makes much of little.
            if out.len() > TEXT_LIMIT {
                let what = "length in bytes of a normalised text between added tokens".into();
                return Err(Error::Limit { what, value: out.len() as u64, limit: TEXT_LIMIT as u64 });
            }
        }
        Ok(out)
    }

    /// The next part of `text` from `at`: its length, and what it becomes.
    fn next_part<'a>(&'a self, text: &'a str, at: usize) -> Result<(usize, &'a [u8])> {
        let rest = &text.as_bytes()[at..];
        // As far as the start of a user-defined token goes nothing is replaced (as in llama.cpp).
        let kept = self.user_defined.depth(rest);
        if kept > 0 {
            return Ok((kept, &rest[..kept]));
        }
        if let Some(map) = &self.charsmap
            && let Some(found) = map.longest(rest)?
        {
            return Ok(found);
        }
        let width = width(rest[0]).min(rest.len());
        Ok((width, &rest[..width]))
    }
}

/// Length of the character that begins with `byte`.
fn width(byte: u8) -> usize {
    match byte >> 4 {
        0..=0xb => 1,
        0xc | 0xd => 2,
        0xe => 3,
        _ => 4,
    }
}

//! SentencePiece's byte-pair encoding (`tokenizer.ggml.model` = `llama`): characters are joined pair by pair, always
//! the pair whose token has the highest score, the first of equals. Spaces are U+2581; a character without a token
//! becomes the tokens of its bytes.

use std::collections::{BinaryHeap, HashMap, HashSet};

use super::bpe::PIECE_LIMIT;
use super::vocabulary::{Checked, SPACE, SPACE_CHAR, TokenType};
use crate::{Error, Result};

/// A score-driven encoder.
pub(super) struct Spm {
    /// Tokens that text can become, with their scores.
    tokens: HashMap<Box<str>, (u32, f32)>,
    /// Longest of them in bytes.
    longest: usize,
    /// Token of each byte.
    bytes: [Option<u32>; 256],
    unknown: Option<u32>,
    /// Characters that some token has right before U+2581: elsewhere text can be cut there without a difference.
    before_space: HashSet<char>,
}

/// A stretch of the text; length 0: joined to an earlier one.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    length: u32,
    prev: u32,
    next: u32,
}

/// No neighbour.
const NONE: u32 = u32::MAX;

/// A pair that can be joined.
struct Pair {
    score: f32,
    left: u32,
    length: u32,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left)).then(self.length.cmp(&other.length))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}

impl Spm {
    /// Builds the encoder. Control, unknown and byte tokens are no text, as in SentencePiece.
    pub(super) fn new(checked: &Checked, scores: &[f32], unknown: Option<u32>) -> Self {
        let mut before_space = HashSet::new();
        let mut tokens = HashMap::with_capacity(checked.ids.len());
        let mut longest = 0;
        for (text, &id) in &checked.ids {
            let ty = checked.types[id as usize];
            if ty.is_structure() || ty == TokenType::Byte {
                continue;
            }
            longest = longest.max(text.len());
            before_space.extend(text.match_indices(SPACE).filter_map(|(at, _)| text[..at].chars().next_back()));
            // Adding 0 turns -0 into 0: the two are equal as scores.
            tokens.insert(text.as_str().into(), (id, scores[id as usize] + 0.0));
        }
        Spm { tokens, longest, bytes: checked.byte_tokens(), unknown, before_space }
    }

    /// Appends the ids of text that holds no added token, with a space first if `prefix`.
    ///
    /// # Errors
    /// [`Error::Limit`] for a run of text that is too long.
    pub(super) fn append(&self, text: &str, prefix: bool, ids: &mut Vec<u32>) -> Result<()> {
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + SPACE.len());
        if prefix {
            escaped.push_str(SPACE);
        }
        for c in text.chars() {
            escaped.push(if c == ' ' { SPACE_CHAR } else { c });
        }
        let mut symbols = Vec::new();
        let (mut start, mut last) = (0, None);
        for (at, c) in escaped.char_indices() {
            if c == SPACE_CHAR && last.is_some_and(|last| !self.before_space.contains(&last)) {
                self.append_part(&escaped[start..at], &mut symbols, ids)?;
                start = at;
            }
            last = Some(c);
        }
        self.append_part(&escaped[start..], &mut symbols, ids)
    }

    /// Appends the ids of a part of the text that no token reaches out of. `symbols` is scratch.
    fn append_part(&self, text: &str, symbols: &mut Vec<Symbol>, ids: &mut Vec<u32>) -> Result<()> {
        let count = text.chars().count();
        if count > PIECE_LIMIT {
            let what = "length in characters of a run without a place to cut".into();
            return Err(Error::Limit { what, value: count as u64, limit: PIECE_LIMIT as u64 });
        }
        symbols.clear();
        symbols.reserve_exact(count);
        for (at, c) in text.char_indices() {
            let index = symbols.len() as u32;
            let next = if at + c.len_utf8() == text.len() { NONE } else { index + 1 };
            symbols.push(Symbol { start: at as u32, length: c.len_utf8() as u32, prev: index.wrapping_sub(1), next });
        }
        self.join(text, symbols);
        let mut at = if symbols.is_empty() { NONE } else { 0 };
        while at != NONE {
            let symbol = symbols[at as usize];
            self.append_symbol(&text[symbol.start as usize..][..symbol.length as usize], ids);
            at = symbol.next;
        }
        Ok(())
    }

    /// Joins symbols until no pair is a token.
    fn join(&self, text: &str, symbols: &mut [Symbol]) {
        let mut pairs = Vec::with_capacity(symbols.len());
        pairs.extend((0..symbols.len() as u32).filter_map(|left| self.pair(text, symbols, left)));
        let mut queue = BinaryHeap::from(pairs);
        while let Some(pair) = queue.pop() {
            let left = symbols[pair.left as usize];
            if left.length == 0 || left.next == NONE {
                continue;
            }
            let right = symbols[left.next as usize];
            if left.length + right.length != pair.length {
                continue;
            }
            symbols[left.next as usize].length = 0;
            symbols[pair.left as usize] = Symbol { length: pair.length, next: right.next, ..left };
            if right.next != NONE {
                symbols[right.next as usize].prev = pair.left;
            }
            if left.prev != NONE {
                queue.extend(self.pair(text, symbols, left.prev));
            }
            queue.extend(self.pair(text, symbols, pair.left));
        }
    }

    /// The pair of the symbol `left` and the one after it, if together they are a token.
    fn pair(&self, text: &str, symbols: &[Symbol], left: u32) -> Option<Pair> {
        let symbol = symbols[left as usize];
        let next = symbols.get(symbol.next as usize)?;
        let length = symbol.length + next.length;
        if length as usize > self.longest {
            return None;
        }
        let &(_, score) = self.tokens.get(&text[symbol.start as usize..][..length as usize])?;
        Some(Pair { score, left, length })
    }

    /// The token of a symbol, or those of its bytes, or the token for unknown text. Without any of them nothing, as in
    /// Transformers.
    fn append_symbol(&self, text: &str, ids: &mut Vec<u32>) {
        if let Some(&(id, _)) = self.tokens.get(text) {
            ids.push(id);
            return;
        }
        let before = ids.len();
        for byte in text.bytes() {
            match (self.bytes[usize::from(byte)], self.unknown) {
                (Some(id), _) => ids.push(id),
                (None, Some(unknown)) => {
                    ids.truncate(before);
                    ids.push(unknown);
                    return;
                }
                (None, None) => {
                    ids.truncate(before);
                    return;
                }
            }
        }
    }
}

//! The tokenizer of a model, from the metadata of its GGUF file.
//!
//! Byte-level BPE (`tokenizer.ggml.model` = `gpt2`): text is cut at added tokens, then into pieces ([`split`]), each
//! piece's bytes become characters ([`bytes`]), and the `tokenizers` crate merges them.
//! Text from a user can never become a control token: those are looked for only where the caller says that the text
//! is structure (`special`), and [`Tokenizer::encode_rendered`] keeps message contents apart even there.

mod bytes;
mod split;
mod stream;
mod vocabulary;

pub use stream::TextStream;
pub use vocabulary::{TokenType, Vocabulary};

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use tokenizers::{Model, Token};

use crate::gguf::Gguf;
use crate::{Error, Result};
use split::Splitter;

/// Added tokens that end a turn or a text in the model families in use, whatever the metadata says.
const END_TOKENS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|EOT|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "<eos>",
];

/// Longest piece in bytes: a run of letters, or of white space, that is merged as a whole. The merge takes up to about
/// 150 bytes of memory for each of them. No language has such words.
const PIECE_LIMIT: usize = 16 << 20;

/// Turns text into token ids and back.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    types: Vec<TokenType>,
    splitter: Splitter,
    bpe: BPE,
    known_bytes: [bool; 256],
    control: Added,
    user_defined: Added,
    end: Vec<bool>,
    add_bos: bool,
    add_eos: bool,
    digest: String,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("pre", &self.vocabulary.pre)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// A set of tokens that are matched whole, the longest first where several start at one place.
struct Added {
    matcher: Option<AhoCorasick>,
    ids: Vec<u32>,
}

impl Added {
    fn new(tokens: &[String], types: &[TokenType], wanted: &[TokenType]) -> Result<Self> {
        let chosen: Vec<usize> =
            (0..tokens.len()).filter(|&id| wanted.contains(&types[id]) && !tokens[id].is_empty()).collect();
        let ids = chosen.iter().map(|&id| id as u32).collect();
        if chosen.is_empty() {
            return Ok(Added { matcher: None, ids });
        }
        let matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(chosen.iter().map(|&id| &tokens[id]))
            .map_err(|e| Error::Tokenizer(format!("added tokens: {e}")))?;
        Ok(Added { matcher: Some(matcher), ids })
    }

    /// Calls `part` with each stretch of text and each matched id, in order.
    fn cut(&self, text: &str, mut part: impl FnMut(&str, Option<u32>) -> Result<()>) -> Result<()> {
        let mut done = 0;
        for found in self.matcher.iter().flat_map(|matcher| matcher.find_iter(text)) {
            part(&text[done..found.start()], Some(self.ids[found.pattern().as_usize()]))?;
            done = found.end();
        }
        part(&text[done..], None)
    }
}

impl Tokenizer {
    /// Builds a tokenizer.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when ids, types or merges contradict each other or the pre-tokenizer is unknown.
    pub fn new(vocabulary: Vocabulary) -> Result<Self> {
        let pre = split::find(&vocabulary.pre)?;
        let checked = vocabulary.check()?;
        let (tokens, types) = (&vocabulary.tokens, checked.types);
        let known_bytes = vocabulary::known_bytes(&checked.ids);
        let mut end: Vec<bool> = (tokens.iter().zip(&types))
            .map(|(token, ty)| {
                matches!(ty, TokenType::Control | TokenType::UserDefined) && END_TOKENS.contains(&token.as_str())
            })
            .collect();
        for id in [vocabulary.eos, vocabulary.eot, vocabulary.eom].into_iter().flatten() {
            end[id as usize] = true;
        }
        let control = Added::new(tokens, &types, &[TokenType::Control, TokenType::Unknown])?;
        let user_defined = Added::new(tokens, &types, &[TokenType::UserDefined])?;
        let bpe = BpeBuilder::new()
            .vocab_and_merges(checked.ids.into_iter().collect::<Vocab>(), checked.merges)
            .ignore_merges(pre.ignore_merges)
            .build()
            .map_err(|e| Error::Tokenizer(e.to_string()))?;
        let add_bos = vocabulary.add_bos.unwrap_or(pre.add_bos) && vocabulary.bos.is_some();
        let add_eos = vocabulary.add_eos.unwrap_or(false) && vocabulary.eos.is_some();
        let digest = vocabulary.digest(add_bos, add_eos);
        let splitter = Splitter::new(pre)?;
        Ok(Tokenizer {
            vocabulary,
            types,
            splitter,
            bpe,
            known_bytes,
            control,
            user_defined,
            end,
            add_bos,
            add_eos,
            digest,
        })
    }

    /// The tokenizer that the metadata of a GGUF file describes.
    ///
    /// # Errors
    /// [`Error::Metadata`] for a missing key or one of another type, [`Error::Tokenizer`] for another tokenizer model
    /// than `gpt2` and for everything that [`Tokenizer::new`] refuses.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        Tokenizer::new(Vocabulary::from_gguf(gguf)?)
    }

    /// The ids of `text`.
    ///
    /// - `special`: control tokens in the text become their ids. Never set it for text from a user; without it
    ///   `<|im_end|>` is ten ordinary characters. User-defined tokens are found in both cases.
    /// - `bos`: put BOS in front and EOS at the end, each if the model asks for it (`add_bos_token`, `add_eos_token`).
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the vocabulary has no token for a byte of the text; [`Error::Limit`] for a run of more
    /// than 16 MiB of characters of one kind.
    pub fn encode(&self, text: &str, special: bool, bos: bool) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if bos && self.add_bos {
            ids.extend(self.vocabulary.bos);
        }
        if special {
            self.control.cut(text, |stretch, id| {
                self.append_text(stretch, &mut ids)?;
                ids.extend(id);
                Ok(())
            })?;
        } else {
            self.append_text(text, &mut ids)?;
        }
        if bos && self.add_eos {
            ids.extend(self.vocabulary.eos);
        }
        Ok(ids)
    }

    /// The ids of a rendered chat (`special` parsing), with BOS in front if the model asks for it and the template has
    /// not written it already. A control token in the text that comes right after the character `mark` is text, and
    /// marks are taken out: [`Tokenizer::mark_control`] puts them into message contents before they are rendered.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_rendered(&self, text: &str, mark: Option<char>) -> Result<Vec<u32>> {
        let mut ids = self.encode_continuation(text, mark)?;
        if let Some(bos) = self.vocabulary.bos.filter(|&bos| self.add_bos && ids.first() != Some(&bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// [`Tokenizer::encode_rendered`] for text that continues other text: never with BOS.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_continuation(&self, text: &str, mark: Option<char>) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        let mut pending = String::new();
        self.control.cut(text, |stretch, id| {
            pending.extend(stretch.chars().filter(|&c| Some(c) != mark));
            match id {
                Some(id) if mark.is_some_and(|mark| stretch.ends_with(mark)) => {
                    pending.push_str(&self.vocabulary.tokens[id as usize]);
                }
                _ => {
                    self.append_text(&pending, &mut ids)?;
                    pending.clear();
                    ids.extend(id);
                }
            }
            Ok(())
        })?;
        Ok(ids)
    }

    /// `text` with `mark` in front of every character of every control token in it. No control token can be found in
    /// the result other than right after a mark; taking the marks out gives `text` back.
    pub fn mark_control(&self, text: &str, mark: char) -> String {
        let Some(matcher) = &self.control.matcher else { return text.to_owned() };
        let mut marked = String::with_capacity(text.len());
        let mut done = 0;
        for found in matcher.find_iter(text) {
            marked.push_str(&text[done..found.start()]);
            for c in text[found.start()..found.end()].chars() {
                marked.push(mark);
                marked.push(c);
            }
            done = found.end();
        }
        marked.push_str(&text[done..]);
        marked
    }

    /// Appends the ids of text that holds no control token.
    fn append_text(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut mapped = String::new();
        self.user_defined.cut(text, |stretch, id| {
            for piece in self.splitter.split(stretch) {
                if piece.len() > PIECE_LIMIT {
                    let what = "length in bytes of a run of one kind of characters".into();
                    return Err(Error::Limit { what, value: piece.len() as u64, limit: PIECE_LIMIT as u64 });
                }
                mapped.clear();
                for byte in piece.bytes() {
                    if !self.known_bytes[usize::from(byte)] {
                        return Err(Error::Tokenizer(format!("the vocabulary has no token for byte 0x{byte:02x}")));
                    }
                    mapped.push(bytes::char_of(byte));
                }
                let tokens: Vec<Token> = self.bpe.tokenize(&mapped).map_err(|e| Error::Tokenizer(e.to_string()))?;
                ids.extend(tokens.iter().map(|token| token.id));
            }
            ids.extend(id);
            Ok(())
        })
    }

    /// The bytes of `ids`. Control tokens give their name (`<|im_end|>`), an id that is no token gives U+FFFD.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        let mut out = Vec::with_capacity(ids.len() * 4);
        ids.iter().for_each(|&id| self.append_bytes(id, &mut out));
        out
    }

    /// The text of `ids`, control tokens by name; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids)).into_owned()
    }

    /// A decoder for ids that come one by one. It leaves control tokens out.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(self)
    }

    fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        let Some(token) = self.vocabulary.tokens.get(id as usize) else {
            out.extend("\u{fffd}".as_bytes());
            return;
        };
        if self.types[id as usize] != TokenType::Normal {
            out.extend(token.as_bytes());
            return;
        }
        for c in token.chars() {
            match bytes::byte_of(c) {
                Some(byte) => out.push(byte),
                // Not of the byte-level alphabet: an added token that the file calls normal. It stands for itself.
                None => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    /// Number of tokens: ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.tokens.len()
    }

    /// Whether generation stops at `id`: EOS, EOT, EOM, and the end tokens of known chat formats.
    pub fn is_end(&self, id: u32) -> bool {
        self.end.get(id as usize).copied().unwrap_or(false)
    }

    /// Whether `id` is structure, not text.
    pub fn is_control(&self, id: u32) -> bool {
        matches!(self.types.get(id as usize), Some(TokenType::Control | TokenType::Unknown))
    }

    /// The text of one token as the file stores it (byte-level alphabet for normal tokens).
    pub fn token(&self, id: u32) -> Option<&str> {
        self.vocabulary.tokens.get(id as usize).map(String::as_str)
    }

    /// The token that begins a text, whether or not [`Tokenizer::encode`] adds it.
    pub fn bos(&self) -> Option<u32> {
        self.vocabulary.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.vocabulary.eos
    }

    /// Whether the model wants BOS in front of a text.
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// SHA-256 (hex) over all that decides the ids of a text. Two tokenizers with one digest give the same ids.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

#[cfg(test)]
mod tests;

//! The tokenizer of a model, from the metadata of its GGUF file.
//!
//! Text is cut at added tokens ([`special`]); what is between them goes to the encoder that `tokenizer.ggml.model`
//! names: byte-pair merges ([`bpe`]), SentencePiece's merges by score ([`spm`]) or its unigram model ([`unigram`]).
//! Text from a user can never become a control token: those are looked for only where the caller says that the text is
//! structure (`special`), and [`Tokenizer::encode_rendered`] keeps message contents apart even there.

mod bpe;
mod bytes;
mod charsmap;
mod contents;
mod decode;
mod matcher;
mod merges;
mod roles;
mod special;
mod split;
mod spm;
mod stream;
mod trie;
mod unigram;
mod vocabulary;

pub use bytes::byte_texts;
pub use contents::{Content, Contents, Marks};
pub use roles::ends_by_name;
pub use special::PHI3_MARK;
pub use split::names as pre_tokenizers;
pub use stream::TextStream;
pub use vocabulary::{ENDS_KEY, LSTRIP_KEY, Model, RSTRIP_KEY, Strips, TokenType, Vocabulary};

use crate::Result;
use bpe::Bpe;
use loam_files::gguf::Gguf;
pub use special::Cut;
use special::{Fragment, Special, Wanted};
use split::Alphabet;
use spm::Spm;
use unigram::Unigram;

/// Turns text into token ids and back.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    types: Vec<TokenType>,
    special: Special,
    encoder: Encoder,
    alphabet: Alphabet,
    end: Vec<bool>,
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    space_prefix: bool,
    digest: String,
}

/// What encodes the text between added tokens.
enum Encoder {
    Bpe(Box<Bpe>),
    Spm(Box<Spm>),
    Unigram(Box<Unigram>),
}

/// A text that is to be encoded, and what is known about it.
#[derive(Clone, Copy)]
struct Input<'a> {
    text: &'a str,
    special: &'a Special,
    wanted: Wanted<'a>,
    /// Whether it begins a text or follows an added token, which is where a space prefix goes.
    fresh: bool,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("model", &self.vocabulary.model)
            .field("pre", &self.vocabulary.pre)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// Text without structure.
const PLAIN: Wanted = Wanted { control: false, contents: &[] };

impl Tokenizer {
    /// Builds a tokenizer.
    ///
    /// # Errors
    /// [`crate::Error::Tokenizer`] when ids, types, scores or merges contradict each other or the pre-tokenizer is
    /// unknown.
    pub fn new(vocabulary: Vocabulary) -> Result<Self> {
        let pre = if vocabulary.model == Model::Bpe { Some(split::find(&vocabulary.pre)?) } else { None };
        let checked = vocabulary.check()?;
        let (encoder, add_bos, add_eos) = match (pre, vocabulary.model) {
            (Some(pre), _) => (Encoder::Bpe(Box::new(Bpe::new(pre, &checked)?)), pre.add_bos, false),
            (None, Model::Spm) => {
                (Encoder::Spm(Box::new(Spm::new(&checked, &vocabulary.scores, checked.unknown))), true, false)
            }
            (None, _) => (Encoder::Unigram(Box::new(Unigram::new(&vocabulary, &checked)?)), false, true),
        };
        let entries = special::entries(&vocabulary.tokens, &checked.types, vocabulary.strips.as_ref(), &vocabulary.pre);
        let strips = entries.iter().any(|entry| entry.lstrip || entry.rstrip);
        let add_bos = vocabulary.add_bos.unwrap_or(add_bos) && checked.bos.is_some();
        let add_eos = vocabulary.add_eos.unwrap_or(add_eos) && checked.eos.is_some();
        let space_prefix = match vocabulary.model {
            Model::Bpe => false,
            model => vocabulary.add_space_prefix.unwrap_or(model == Model::Spm),
        };
        Ok(Tokenizer {
            digest: vocabulary.digest(add_bos, add_eos, strips),
            special: Special::new(entries)?,
            alphabet: pre.map_or(Alphabet::Characters, |pre| pre.alphabet),
            types: checked.types,
            end: checked.end,
            bos: checked.bos,
            eos: checked.eos,
            vocabulary,
            encoder,
            add_bos,
            add_eos,
            space_prefix,
        })
    }

    /// The tokenizer that the metadata of a GGUF file describes.
    ///
    /// # Errors
    /// [`loam_files::Error::Metadata`] for a missing key or one of another type, [`crate::Error::Tokenizer`] for an
    /// unknown tokenizer model and for everything that [`Tokenizer::new`] refuses.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        Tokenizer::new(Vocabulary::from_gguf(gguf)?)
    }

    /// The ids of `text`.
    ///
    /// - `special`: control tokens in the text become their ids. Never set it for text from a user; without it
    ///   `<|im_end|>` is ten ordinary characters. User-defined tokens are found in both cases.
    /// - `bos`: put BOS before it and EOS at the end, each if the model asks for it (`add_bos_token`, `add_eos_token`).
    ///
    /// # Errors
    /// [`crate::Error::Limit`] for a run of more than 16 MiB of characters of one kind.
    pub fn encode(&self, text: &str, special: bool, bos: bool) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if bos && self.add_bos {
            ids.extend(self.bos);
        }
        let wanted = Wanted { control: special, ..PLAIN };
        self.append(Input { text, special: &self.special, wanted, fresh: true }, &mut ids)?;
        if bos && self.add_eos {
            ids.extend(self.eos);
        }
        Ok(ids)
    }

    /// The ids of plain text that follows the tokens `before`: without BOS, and without the space that
    /// SentencePiece puts before a text, unless it follows an added token.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_after(&self, before: &[u32], text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        let fresh = self.is_fresh(before);
        self.append(Input { text, special: &self.special, wanted: PLAIN, fresh }, &mut ids)?;
        Ok(ids)
    }

    /// The ids of a prompt that is no chat: text that the model continues, with control tokens where it spells some.
    /// BOS comes first if the model asks for it and the text does not begin with it; nothing comes after.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_rendered(text, &Contents::default())
    }

    /// The ids of a rendered chat (`special` parsing), with BOS first if the model asks for it and the template has not
    /// written it already. `contents` is what comes from messages: whatever that spells, alone or with what is around
    /// it, is text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_rendered(&self, text: &str, contents: &Contents) -> Result<Vec<u32>> {
        let mut ids = self.encode_continuation(&[], text, contents)?;
        if let Some(bos) = self.bos.filter(|&bos| self.add_bos && ids.first() != Some(&bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// [`Tokenizer::encode_rendered`] for text that continues the tokens `before`: never with BOS.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_continuation(&self, before: &[u32], text: &str, contents: &Contents) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        let wanted = Wanted { control: true, contents: &contents.pieces };
        let special = self.special_of(contents);
        self.append(Input { text, special, wanted, fresh: self.is_fresh(before) }, &mut ids)?;
        Ok(ids)
    }

    /// Places where a rendered chat can be cut, so that [`Tokenizer::encode_rendered`] of what is before and
    /// [`Tokenizer::encode_continuation`] of what follows give the ids of the whole.
    pub fn cuts(&self, text: &str, contents: &Contents) -> Vec<Cut> {
        self.special_of(contents).cuts(text, &contents.pieces)
    }

    /// The tokens that are matched whole in a text with `contents`.
    fn special_of<'a>(&'a self, contents: &'a Contents) -> &'a Special {
        contents.marks.as_ref().map_or(&self.special, |marks| &marks.0)
    }

    /// Whether text after `before` begins a text or follows an added token.
    fn is_fresh(&self, before: &[u32]) -> bool {
        before.last().is_none_or(|&last| self.is_added(last))
    }

    /// Appends the ids of a text.
    fn append(&self, input: Input, ids: &mut Vec<u32>) -> Result<()> {
        #[cfg(feature = "work")]
        crate::work::count(input.text.len());
        let mut fresh = input.fresh;
        for fragment in input.special.partition(input.text, input.wanted) {
            match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(ref range) => {
                    let text = &input.text[range.clone()];
                    match &self.encoder {
                        Encoder::Bpe(bpe) => bpe.append(text, ids)?,
                        Encoder::Spm(spm) => spm.append(text, fresh && self.space_prefix, ids)?,
                        Encoder::Unigram(unigram) => unigram.append(text, fresh && self.space_prefix, ids)?,
                    }
                }
            }
            fresh = matches!(fragment, Fragment::Token(_));
        }
        Ok(())
    }

    /// Whether `id` is matched whole, before anything is encoded.
    fn is_added(&self, id: u32) -> bool {
        (self.types.get(id as usize)).is_some_and(|ty| ty.is_structure() || *ty == TokenType::UserDefined)
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
        self.types.get(id as usize).is_some_and(|ty| ty.is_structure())
    }

    /// The text of one token as the file stores it (byte-level alphabet, or U+2581 for spaces, in normal tokens).
    pub fn token(&self, id: u32) -> Option<&str> {
        self.vocabulary.tokens.get(id as usize).map(String::as_str)
    }

    /// The token that begins a text, whether or not [`Tokenizer::encode`] adds it.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether the model wants BOS before a text.
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether the model wants EOS after a text.
    pub fn adds_eos(&self) -> bool {
        self.add_eos
    }

    /// SHA-256 (hex) over all that decides the ids of a text. Two tokenizers with one digest give the same ids.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

#[cfg(test)]
mod spm_tests;
#[cfg(test)]
mod tests;

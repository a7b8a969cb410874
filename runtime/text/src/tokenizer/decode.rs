//! Ids back to text.

use super::split::Alphabet;
use super::vocabulary::{SPACE_CHAR, byte_of_token};
use super::{TextStream, TokenType, Tokenizer, bytes};

impl Tokenizer {
    /// The bytes of `ids`. Control tokens give their name (`<|im_end|>`), an id that is no token gives U+FFFD. The
    /// space that encoding puts before a text is left out.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        let mut out = Vec::with_capacity(ids.len() * 4);
        let mut fresh = true;
        for &id in ids {
            self.append_bytes(id, fresh, &mut out);
            fresh = self.is_added(id);
        }
        out
    }

    /// The text of `ids`, control tokens by name; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids)).into_owned()
    }

    /// A decoder for ids that come one by one, after the tokens `before`. It leaves control tokens out.
    pub fn stream(&self, before: &[u32]) -> TextStream<'_> {
        TextStream::new(self, before.last().is_none_or(|&last| self.is_added(last)))
    }

    /// Appends the bytes of one token; `fresh`: it begins a text or follows an added token, so that a space before
    /// it is not part of the text if encoding puts one there.
    pub(super) fn append_bytes(&self, id: u32, fresh: bool, out: &mut Vec<u8>) {
        let Some(token) = self.vocabulary.tokens.get(id as usize) else {
            out.extend("\u{fffd}".as_bytes());
            return;
        };
        match (self.types[id as usize], self.alphabet) {
            (TokenType::Byte, _) => out.extend(byte_of_token(token)),
            (TokenType::Normal | TokenType::Unused, Alphabet::Characters) => {
                let text = token.strip_prefix(SPACE_CHAR).filter(|_| fresh && self.space_prefix).unwrap_or(token);
                text.chars().for_each(|c| {
                    let c = if c == SPACE_CHAR { ' ' } else { c };
                    out.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
                });
            }
            (TokenType::Normal, Alphabet::Bytes) => {
                for c in token.chars() {
                    match bytes::byte_of(c) {
                        Some(byte) => out.push(byte),
                        // Not of the byte-level alphabet: an added token that the file calls normal. It stands for
                        // itself.
                        None => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
            _ => out.extend(token.as_bytes()),
        }
    }
}

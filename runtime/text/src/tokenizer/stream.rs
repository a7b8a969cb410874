//! Turns a stream of token ids into text, without ever cutting a character.

use super::Tokenizer;

/// Collects the bytes of tokens and hands out complete UTF-8 only.
///
/// A token may hold half a character (an emoji is often two or three tokens). Bytes that can no longer become UTF-8
/// come out as U+FFFD. Control tokens give no text.
#[derive(Clone)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    pending: Vec<u8>,
    /// Whether the next token begins a text or follows an added token.
    fresh: bool,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, fresh: bool) -> Self {
        TextStream { tokenizer, pending: Vec::new(), fresh }
    }

    /// Adds a token. Returns the text that is complete now, if any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if !self.tokenizer.is_control(id) {
            self.tokenizer.append_bytes(id, self.fresh, &mut self.pending);
        }
        self.fresh = self.tokenizer.is_added(id);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    break;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
                    let Some(bad) = error.error_len() else {
                        self.pending.drain(..valid);
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.pending.drain(..valid + bad);
                }
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// Ends the stream: an unfinished character comes out as U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

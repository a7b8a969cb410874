//! Chat templates: Jinja source from a model file, rendered as Transformers renders it, within bounds.
//!
//! A template is text from a stranger. It runs in an interpreter of its own ([`jinja`]), which knows no files, processes
//! or host objects and counts steps, depth, output and every byte that its values hold.

mod jinja;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::gguf::Gguf;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use jinja::{Fault, Input, Program};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool` or `developer`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }
}

/// Longest template source.
const SOURCE_LIMIT: usize = 1 << 20;

/// A compiled chat template with the names of the tokens it may write.
pub struct ChatTemplate {
    program: Program,
    bos: String,
    eos: String,
    digest: String,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// A fault of a template as ours: what, where, and what can be done about it.
fn template_error(fault: &Fault) -> Error {
    let place = fault.line.map_or(String::new(), |line| format!(" (template line {line})"));
    let hint = if fault.unsupported { "; another one can be given with --chat-template" } else { "" };
    Error::Template(format!("{}{place}{hint}", printable(&fault.message)))
}

/// Text of a template for a message: without control characters, cut short.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the texts of those tokens (`bos_token`, `eos_token` in the template).
    ///
    /// # Errors
    /// [`Error::Template`] if the source is over 1 MiB or does not parse.
    pub fn from_source(source: &str, bos: &str, eos: &str) -> Result<Self> {
        if source.len() > SOURCE_LIMIT {
            return Err(Error::Template(format!("{} bytes long, the limit is {SOURCE_LIMIT}", source.len())));
        }
        let program = Program::new(source).map_err(|fault| template_error(&fault))?;
        let digest = Sha256::digest(source).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(ChatTemplate { program, bos: bos.to_owned(), eos: eos.to_owned(), digest })
    }

    /// The template in `tokenizer.chat_template`; `None` if the file has none (a base model).
    ///
    /// # Errors
    /// [`Error::Metadata`] if the key is no text, otherwise as [`ChatTemplate::from_source`].
    pub fn from_gguf(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let Some(source) = gguf.opt_str("tokenizer.chat_template")? else { return Ok(None) };
        Self::for_tokenizer(source, tokenizer).map(Some)
    }

    /// [`ChatTemplate::from_source`] with the BOS and EOS of a tokenizer.
    ///
    /// # Errors
    /// As [`ChatTemplate::from_source`].
    pub fn for_tokenizer(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token(id)).unwrap_or_default();
        Self::from_source(source, text(tokenizer.bos()), text(tokenizer.eos()))
    }

    /// The text of a conversation; with `add_generation_prompt` it ends where the assistant's answer begins.
    ///
    /// # Errors
    /// [`Error::Template`] when the template raises an exception, is not valid for these messages, or passes a limit.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let bytes = messages.iter().map(|m| m.role.len() + m.content.len()).sum();
        let list: Vec<_> = messages.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect();
        let context = [
            ("messages", Input::Messages(&list)),
            ("add_generation_prompt", Input::Bool(add_generation_prompt)),
            ("bos_token", Input::Text(&self.bos)),
            ("eos_token", Input::Text(&self.eos)),
            ("tools", Input::None),
            ("documents", Input::None),
        ];
        let rendered = self.program.render(&context, messages.len(), bytes);
        rendered.map(|rendered| rendered.text).map_err(|fault| template_error(&fault))
    }

    /// The tokens of a conversation, as a model is served them: rendered, control tokens of the template parsed, BOS in
    /// front if the model wants it and the template did not write it. A control token inside a message's content stays
    /// text: nobody can end a turn by writing `<|im_end|>`.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`] and [`Tokenizer::encode`].
    pub fn encode(&self, tokenizer: &Tokenizer, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>> {
        let marked = Marked::new(tokenizer, messages)?;
        tokenizer.encode_rendered(&self.render(&marked.messages, add_generation_prompt)?, Some(marked.mark))
    }

    /// SHA-256 (hex) of the source.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// Messages whose contents hold no control token: each one is broken up by a mark (see [`Tokenizer::mark_control`]).
pub(crate) struct Marked {
    pub(crate) messages: Vec<Message>,
    pub(crate) mark: char,
}

impl Marked {
    /// Chooses a mark among the 32 noncharacters U+FDD0..=U+FDEF that no message contains.
    pub(crate) fn new(tokenizer: &Tokenizer, messages: &[Message]) -> Result<Self> {
        let free = |mark: &char| messages.iter().all(|m| !m.content.contains(*mark) && !m.role.contains(*mark));
        let mark = ('\u{fdd0}'..='\u{fdef}').find(free).ok_or_else(|| {
            Error::Argument("a message contains all noncharacters from U+FDD0 to U+FDEF: it is no text".into())
        })?;
        let marked = |m: &Message| Message { role: m.role.clone(), content: tokenizer.mark_control(&m.content, mark) };
        Ok(Marked { messages: messages.iter().map(marked).collect(), mark })
    }
}

#[cfg(test)]
mod tests;

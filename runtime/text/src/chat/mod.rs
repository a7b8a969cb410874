//! Chat templates: Jinja source from a model file, rendered as Transformers renders it, within bounds.
//!
//! A template is text from a stranger. It runs in an interpreter of its own ([`jinja`]), which knows no files,
//! processes or host objects and counts steps, depth, output and every byte that its values hold.

mod jinja;
mod message;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use jinja::{Fault, Input, Outcome, Program};
pub use jinja::{Prefixes, Rendered};
use loam_files::digest::sha256_hex;
use loam_files::gguf::Gguf;
pub use message::Message;

/// The system's time in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
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

/// A fault of a template as ours: what and where.
fn template_error(fault: &Fault) -> Error {
    let place = fault.line.map_or(String::new(), |line| format!(" (template line {line})"));
    Error::Template(format!("{}{place}", printable(&fault.message)))
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
        let digest = sha256_hex(source.as_bytes());
        Ok(ChatTemplate { program, bos: bos.to_owned(), eos: eos.to_owned(), digest })
    }

    /// The template in `tokenizer.chat_template`; `None` if the file has none (a base model).
    ///
    /// # Errors
    /// [`loam_files::Error::Metadata`] if the key is no text, otherwise as [`ChatTemplate::from_source`].
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

    /// For this template it is always `clock` seconds since 1970: one that prints the time (`strftime_now`) then writes
    /// the same whenever it is asked.
    #[must_use]
    pub fn at(mut self, clock: u64) -> Self {
        self.program.clock = Some(clock);
        self
    }

    /// The time that the template is told, if it is not the system's.
    pub fn clock(&self) -> Option<u64> {
        self.program.clock
    }

    /// The text of a conversation; with `add_generation_prompt` it ends where the assistant's answer begins.
    ///
    /// # Errors
    /// [`Error::Template`] when the template raises an exception, is not valid for these messages, or passes a limit.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.trace(messages, None, add_generation_prompt).map(|rendered| rendered.text)
    }

    /// [`ChatTemplate::render`] with descriptions of tools, and with what in the text comes from which message.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn trace(
        &self,
        messages: &[Message],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<Rendered> {
        self.run(messages, tools, add_generation_prompt, |context, bytes| {
            self.program.render(context, messages.len(), bytes)
        })
    }

    /// [`ChatTemplate::trace`] of the first k messages for each k with `wanted[k]`, in one go where that is possible:
    /// if the template goes through its messages in order and looks at none that comes later.
    pub fn prefixes(
        &self,
        messages: &[Message],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
        wanted: &[bool],
    ) -> Option<Prefixes> {
        self.run(messages, tools, add_generation_prompt, |context, bytes| {
            self.program.prefixes(context, (messages.len(), bytes), wanted)
        })
        .ok()
    }

    /// Calls `render` with what the template is given, and with the length of the messages.
    fn run<T>(
        &self,
        messages: &[Message],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
        render: impl FnOnce(&[(&str, Input<'_>)], usize) -> Outcome<T>,
    ) -> Result<T> {
        let list: Vec<serde_json::Value> = messages
            .iter()
            .map(serde_json::to_value)
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| Error::Template(format!("a message is no JSON: {error}")))?;
        let of = |m: &Message| m.role.len() + m.content.len() + m.reasoning_content.as_ref().map_or(0, String::len);
        let plain: usize = messages.iter().map(of).sum();
        let calls: usize = messages.iter().flat_map(|m| &m.tool_calls).chain(tools).map(|v| v.to_string().len()).sum();
        let context = [
            ("messages", Input::Messages(&list)),
            ("add_generation_prompt", Input::Bool(add_generation_prompt)),
            ("bos_token", Input::Text(&self.bos)),
            ("eos_token", Input::Text(&self.eos)),
            ("tools", tools.map_or(Input::None, Input::Json)),
            ("documents", Input::None),
        ];
        render(&context, plain + calls).map_err(|fault| template_error(&fault))
    }

    /// The tokens of a conversation, as a model is served them: rendered, control tokens of the template parsed, BOS in
    /// front if the model wants it and the template did not write it. A control token inside a message's content stays
    /// text: no message can end a turn by writing `<|im_end|>`.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`] and [`Tokenizer::encode`].
    pub fn encode(&self, tokenizer: &Tokenizer, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>> {
        self.encode_with_tools(tokenizer, messages, None, add_generation_prompt)
    }

    /// [`ChatTemplate::encode`] with descriptions of tools: JSON, as Transformers takes them.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`].
    pub fn encode_with_tools(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>> {
        let rendered = self.trace(messages, tools, add_generation_prompt)?;
        tokenizer.encode_rendered(&rendered.text, &rendered.contents(0..rendered.text.len()))
    }

    /// SHA-256 (hex) of the source.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

#[cfg(test)]
mod tests;

//! Chat templates: Jinja source from a model file, rendered as Transformers renders it, within bounds.
//!
//! A template is text from a stranger. It runs in an interpreter of its own ([`jinja`]), which knows no files,
//! processes or host objects and counts steps, depth, output and every byte that its values hold.

mod form;
mod jinja;
mod message;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::tokenizer::{Marks, Tokenizer};
use crate::{Error, Result};
use form::{Form, forms};
use jinja::{Fault, Given, Input, Outcome, Program};
pub use jinja::{Part, Prefixes, Rendered};
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
    /// Words of the source: a message's keys that are none of them are not read.
    words: HashSet<String>,
    /// User-defined tokens that the template writes as marks.
    marks: Option<Arc<Marks>>,
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

/// How long the texts of a value are, and how many values it has.
fn length(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len(),
        serde_json::Value::Array(list) => list.iter().map(|item| 2 + length(item)).sum(),
        serde_json::Value::Object(map) => map.iter().map(|(key, item)| 4 + key.len() + length(item)).sum(),
        _ => 4,
    }
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
        let words = source.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-');
        let words = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Ok(ChatTemplate { program, bos: bos.to_owned(), eos: eos.to_owned(), digest, words, marks: None })
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
        let mut template = Self::from_source(source, text(tokenizer.bos()), text(tokenizer.eos()))?;
        // A template that cannot write one question writes no marks around it.
        let turn = template.render(&[Message::new("user", "a")], false).unwrap_or_default();
        template.marks = tokenizer.marks(source, &turn)?;
        Ok(template)
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
        let render = |context: &[(&str, Input<'_>)], bytes| self.program.render(context, messages.len(), bytes);
        let rendered = self.run(messages, tools, add_generation_prompt, render, |rendered| &rendered.text)?;
        Ok(Rendered { marks: self.marks.clone(), ..rendered })
    }

    /// Whether the template can mark what the assistant writes: `{% generation %}`.
    pub fn can_mark(&self) -> bool {
        self.words.contains("endgeneration")
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
        let render =
            |context: &[(&str, Input<'_>)], bytes| self.program.prefixes(context, (messages.len(), bytes), wanted);
        let mut prefixes = self.run(messages, tools, add_generation_prompt, render, Prefixes::text).ok()?;
        prefixes.marks = self.marks.clone();
        Some(prefixes)
    }

    /// Calls `render` with what the template is given, and with the length of the messages: in the first form that the
    /// template takes. `text` is the text of what was rendered.
    fn run<T>(
        &self,
        messages: &[Message],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
        render: impl Fn(&[(&str, Input<'_>)], usize) -> Outcome<T>,
        text: impl Fn(&T) -> &str,
    ) -> Result<T> {
        let attempt = |form: Form| {
            let list: Vec<Given> =
                messages.iter().map(|message| form.give(message, |key| self.words.contains(key))).collect();
            let bytes = list.iter().map(|given| length(&given.value)).chain(tools.map(length)).sum();
            let context = [
                ("messages", Input::Messages(&list)),
                ("add_generation_prompt", Input::Bool(add_generation_prompt)),
                ("bos_token", Input::Text(&self.bos)),
                ("eos_token", Input::Text(&self.eos)),
                ("tools", tools.map_or(Input::None, Input::Json)),
                ("documents", Input::None),
            ];
            render(&context, bytes)
        };
        let forms = forms(messages);
        let mut fault = None;
        for (at, &form) in forms.iter().enumerate() {
            match attempt(form) {
                Err(other) => fault = fault.or(Some(other)),
                Ok(found) => {
                    let mut best = (form, found);
                    for &next in &forms[at + 1..] {
                        if best.0.gives_way_to(next, messages, text(&best.1))
                            && let Ok(other) = attempt(next)
                            && best.0.is_worse_than(next, text(&best.1), text(&other))
                        {
                            best = (next, other);
                        }
                    }
                    return Ok(best.1);
                }
            }
        }
        Err(template_error(&fault.unwrap_or_else(|| Fault::new("there is no form to write"))))
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
mod table_tests;
#[cfg(test)]
mod tests;

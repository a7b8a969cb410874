//! One answer of a model: tokens become text, and stop texts end it.

use std::cell::Cell;
use std::ops::ControlFlow;

use super::text::Text;
use super::{GenerateOptions, Session};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// How an answer is made.
#[derive(Debug, Clone)]
pub struct AnswerOptions {
    /// How its tokens are.
    pub generate: GenerateOptions,
    /// Texts that end it; they are no part of it.
    pub stops: Vec<String>,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The text, without the stop text and what followed it.
    pub text: String,
    /// The generated token ids, without the end token.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The model said so.
    End,
    /// A stop text came, or whoever was shown the text wanted no more.
    Text,
    /// It has as many tokens as it may have.
    Length,
    /// The context is full.
    Context,
}

impl Stop {
    /// Its name: `end`, `stop`, `length` or `context`.
    pub fn name(self) -> &'static str {
        match self {
            Stop::End => "end",
            Stop::Text => "stop",
            Stop::Length => "length",
            Stop::Context => "context",
        }
    }
}

impl Session {
    /// Continues `prompt` with an answer. `on_text` gets its text as it becomes certain, in whole characters, and may
    /// end it. What the cache and the prompt share is not computed again.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`], and as [`Session::feed`].
    pub async fn answer(
        &mut self,
        engine: &mut Engine,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        options: &AnswerOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        fits(prompt, self.context())?;
        let mut text = Text::new(tokenizer.stream(prompt), &options.stops);
        let mut ended = false;
        let mut on_token = |id: u32| {
            ended = on_text(&text.push(id)).is_break();
            if ended || text.stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        // The last token of a full context may be followed by an end token: then the model ended the answer.
        let said_end = Cell::new(false);
        let is_end = |id: u32| {
            said_end.set(tokenizer.is_end(id));
            said_end.get()
        };
        let ids = self.generate(engine, prompt, &options.generate, &is_end, &mut on_token).await?;
        if !ended {
            ended = on_text(&text.finish()).is_break();
        }
        let stop = match () {
            () if text.stopped || ended => Stop::Text,
            () if said_end.get() => Stop::End,
            () if ids.len() == options.generate.max_tokens => Stop::Length,
            () => Stop::Context,
        };
        Ok(Answer { text: text.into_text(), ids, stop })
    }
}

/// Checks that a context has room for the prompt and at least one more token.
///
/// # Errors
/// [`Error::PromptTooLong`].
pub fn fits(prompt: &[u32], context: usize) -> Result<()> {
    if prompt.len() < context {
        return Ok(());
    }
    Err(Error::PromptTooLong { tokens: prompt.len(), context })
}

//! One answer of a model: tokens become whole characters, and stop texts end it.

use std::ops::ControlFlow;
use std::time::Instant;

use loam::engine::Engine;
use loam::generate::sampler::SamplerOptions;
use loam::generate::{GenerateOptions, Session};
use loam::tokenizer::{TextStream, Tokenizer};

use crate::args::SamplingArgs;
use crate::failure::{Failure, Result};

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text, without the stop text and what followed it.
    pub text: String,
    /// The generated token ids, without the end token.
    pub ids: Vec<u32>,
    /// Why it ended: `end`, `stop`, `length` or `context`.
    pub stop: &'static str,
    /// Wall-clock seconds, prompt included.
    pub seconds: f64,
}

/// Continues `prompt`, of which the session may have the first tokens cached; `show` gets the text as it becomes
/// certain.
pub fn answer(
    engine: &mut Engine,
    session: &mut Session,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    sampling: &SamplingArgs,
    show: &mut dyn FnMut(&str) -> Result,
) -> Result<Answer> {
    let start = Instant::now();
    let mut text = Text::new(tokenizer.stream(prompt), &sampling.stop);
    let mut failed = None;
    let mut on_token = |id: u32| {
        let fresh = text.push(id);
        match show(&fresh) {
            Err(failure) => {
                failed = Some(failure);
                ControlFlow::Break(())
            }
            Ok(()) if text.stopped => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
        }
    };
    let is_end = |id: u32| tokenizer.is_end(id);
    let ids = pollster::block_on(session.generate(engine, prompt, &options(sampling), &is_end, &mut on_token))?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    show(&text.finish())?;
    let stop = if text.stopped {
        "stop"
    } else if ids.len() == sampling.max_tokens as usize {
        "length"
    } else if session.past() == session.context() {
        "context"
    } else {
        "end"
    };
    Ok(Answer { text: text.text, ids, stop, seconds: start.elapsed().as_secs_f64() })
}

/// A check that a session has room for the prompt and at least one more token.
pub fn fits(prompt: &[u32], context: usize) -> Result {
    if prompt.len() < context {
        return Ok(());
    }
    let message = format!("the prompt is too long: it has {} tokens, the context is {context}", prompt.len());
    Err(Failure::new(message, "shorten the prompt"))
}

fn options(sampling: &SamplingArgs) -> GenerateOptions {
    GenerateOptions {
        max_tokens: sampling.max_tokens as usize,
        sampler: SamplerOptions {
            temperature: sampling.temperature,
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            seed: sampling.seed,
            ..SamplerOptions::default()
        },
    }
}

/// Text that grows by tokens. The end of it is held back while it could become a stop text.
struct Text<'a> {
    stream: TextStream<'a>,
    stops: &'a [String],
    text: String,
    shown: usize,
    stopped: bool,
}

impl<'a> Text<'a> {
    fn new(stream: TextStream<'a>, stops: &'a [String]) -> Self {
        Text { stream, stops, text: String::new(), shown: 0, stopped: false }
    }

    /// Takes a token and returns what can be shown now.
    fn push(&mut self, id: u32) -> String {
        if let Some(piece) = self.stream.push(id) {
            self.text += &piece;
            self.stopped = cut(&mut self.text, self.stops);
        }
        let held = if self.stopped { 0 } else { undecided(&self.text, self.stops) };
        self.show(self.text.len() - held)
    }

    /// What was held back.
    fn finish(&mut self) -> String {
        if !self.stopped {
            self.text.extend(self.stream.finish());
            self.stopped = cut(&mut self.text, self.stops);
        }
        self.show(self.text.len())
    }

    fn show(&mut self, to: usize) -> String {
        let fresh = self.text.get(self.shown..to).unwrap_or_default().to_owned();
        self.shown = self.shown.max(to);
        fresh
    }
}

/// Cuts `text` before the first stop text in it; says whether there was one.
fn cut(text: &mut String, stops: &[String]) -> bool {
    let found = stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min();
    if let Some(at) = found {
        text.truncate(at);
    }
    found.is_some()
}

/// Bytes at the end of `text` that begin a stop text.
fn undecided(text: &str, stops: &[String]) -> usize {
    let begins = |stop: &String| {
        let ends = stop.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
        ends.filter(|at| text.ends_with(&stop[..*at])).max()
    };
    stops.iter().filter_map(begins).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_text_is_cut_and_its_beginning_held_back() {
        let stops = ["END".to_owned(), "\n\n".to_owned(), String::new()];
        let mut text = "one EN".to_owned();
        assert!(!cut(&mut text, &stops));
        assert_eq!(undecided(&text, &stops), 2);
        text += "D two";
        assert!(cut(&mut text, &stops));
        assert_eq!(text, "one ");
        assert_eq!(undecided("a\n", &stops), 1);
        assert_eq!(undecided("naï", &stops), 0);
    }
}

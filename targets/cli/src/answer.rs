//! One answer of a model, as flags ask for it.

use std::ops::ControlFlow;
use std::time::Instant;

use loam::engine::Engine;
use loam::generate::sampler::SamplerOptions;
use loam::generate::{Answer, AnswerOptions, GenerateOptions, Session};
use loam::tokenizer::Tokenizer;

use crate::args::SamplingArgs;
use crate::failure::{Failure, Result};

/// An answer and how long it took, in seconds with the prompt.
pub struct Timed {
    /// What came out.
    pub answer: Answer,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Continues `prompt`; `show` gets the text as it becomes certain.
pub fn answer(
    engine: &mut Engine,
    session: &mut Session,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    sampling: &SamplingArgs,
    show: &mut dyn FnMut(&str) -> Result,
) -> Result<Timed> {
    let start = Instant::now();
    let options = options(sampling);
    let answer =
        showing(show, |on_text| pollster::block_on(session.answer(engine, tokenizer, prompt, &options, on_text)))?;
    Ok(Timed { answer, seconds: start.elapsed().as_secs_f64() })
}

/// Runs `work` with a callback that shows text, which ends it where that fails.
pub fn showing(
    show: &mut dyn FnMut(&str) -> Result,
    work: impl FnOnce(&mut dyn FnMut(&str) -> ControlFlow<()>) -> loam::Result<Answer>,
) -> Result<Answer> {
    let mut failed: Option<Failure> = None;
    let mut on_text = |text: &str| match show(text) {
        Ok(()) => ControlFlow::Continue(()),
        Err(failure) => {
            failed = Some(failure);
            ControlFlow::Break(())
        }
    };
    let answer = work(&mut on_text)?;
    failed.map_or(Ok(answer), Err)
}

/// What the flags ask for.
pub fn options(sampling: &SamplingArgs) -> AnswerOptions {
    let generate = GenerateOptions {
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
    };
    AnswerOptions { generate, stops: sampling.stop.clone() }
}

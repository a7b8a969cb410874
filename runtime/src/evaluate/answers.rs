//! What a model answers to held-out prompts.

use std::ops::ControlFlow;

use crate::data::Pair;
use crate::engine::Engine;
use crate::error::Result;
use crate::generate::sampler::SamplerOptions;
use crate::generate::{GenerateOptions, Session};
use crate::tokenizer::Tokenizer;

/// Answers the prompt of each pair in a conversation of its own, taking the most likely token each time, up to an end
/// token, `max_tokens` or the end of the session's context. Returns answers with their references; `on_answer` is told
/// how many answers there are so far.
///
/// # Errors
/// As [`Session::generate`]: a prompt that does not fit the session's context, or a device failure.
pub async fn answers(
    engine: &mut Engine,
    session: &mut Session,
    tokenizer: &Tokenizer,
    pairs: &[Pair],
    max_tokens: usize,
    on_answer: &mut dyn FnMut(usize),
) -> Result<Vec<(String, String)>> {
    let options = GenerateOptions { max_tokens, sampler: SamplerOptions::greedy() };
    let mut out = Vec::with_capacity(pairs.len());
    for pair in pairs {
        session.truncate(0);
        let is_end = |id: u32| tokenizer.is_end(id);
        let ids = session.generate(engine, &pair.prompt, &options, &is_end, &mut |_| ControlFlow::Continue(())).await?;
        out.push((tokenizer.decode(&ids), pair.reference.clone()));
        on_answer(out.len());
    }
    Ok(out)
}

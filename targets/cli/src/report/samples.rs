//! Answers before and after a training, for its page.

use std::path::Path;

use loam::Base;
use loam::adapter::{AdapterFile, Attach};
use loam::data::{Dataset, Pair};
use loam::engine::Engine;
use loam::evaluate::answers;
use loam::generate::Session;

use super::Sample;
use crate::failure::Result;

/// Prompts that are asked.
const SAMPLES: usize = 4;
/// Longest answer in tokens.
const TOKENS: usize = 64;

/// Prompts of the data that leave room for an answer, and what `base` answers to them.
pub fn before(base: &Base, engine: &mut Engine, data: &Dataset) -> Result<Vec<(Pair, Sample)>> {
    let tokenizer = base.tokenizer()?;
    let room = base.config().context.saturating_sub(TOKENS);
    let pairs = data.examples.iter().filter_map(|example| Pair::split(example, tokenizer));
    let pairs: Vec<Pair> = pairs.filter(|pair| pair.prompt.len() <= room).take(SAMPLES).collect();
    let answers = ask(base, engine, &pairs, None)?;
    let sample = |(pair, before): (Pair, String)| {
        let (prompt, reference) = (tokenizer.decode(&pair.prompt), pair.reference.clone());
        (pair, Sample { prompt, reference, before, after: None })
    };
    Ok(pairs.into_iter().zip(answers).map(sample).collect())
}

/// Adds what `base` answers with the adapter.
pub fn after(
    base: &Base,
    engine: &mut Engine,
    asked: &mut [(Pair, Sample)],
    (adapter, path): (&AdapterFile, &Path),
) -> Result {
    let pairs: Vec<Pair> = asked.iter().map(|(pair, _)| pair.clone()).collect();
    let answers = ask(base, engine, &pairs, Some((adapter, path)))?;
    for ((_, sample), answer) in asked.iter_mut().zip(answers) {
        sample.after = Some(answer);
    }
    Ok(())
}

fn ask(
    base: &Base,
    engine: &mut Engine,
    pairs: &[Pair],
    adapter: Option<(&AdapterFile, &Path)>,
) -> Result<Vec<String>> {
    let Some(longest) = pairs.iter().map(|pair| pair.prompt.len()).max() else { return Ok(Vec::new()) };
    let attached: Vec<Attach<'_>> =
        adapter.iter().map(|(adapter, path)| Attach { adapter, path, scale: 1.0 }).collect();
    let adapters = engine.attach(base, &attached)?;
    let mut session = pollster::block_on(Session::new(engine, longest + TOKENS, &adapters))?;
    let mut on_answer = |_| ();
    let work = answers(engine, &mut session, base.tokenizer()?, pairs, TOKENS, &mut on_answer);
    Ok(pollster::block_on(work)?.into_iter().map(|(answer, _)| answer).collect())
}

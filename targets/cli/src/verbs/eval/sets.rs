//! Data files as they are measured.

use loam::Base;
use loam::data::{DataOptions, Dataset, Notes, Pairs, Records, load_pairs};
use loam::evaluate::windows;

use crate::args::{DataSpec, EvalArgs, MetricArg};
use crate::dataset;
use crate::failure::{Failure, Result};
use crate::output::Output;

/// One data file.
pub struct Set {
    /// What it is called in results.
    pub label: String,
    /// Its examples.
    pub data: Dataset,
    /// Whether their loss is asked for.
    pub loss: bool,
    /// Its text in the windows of llama-perplexity, where it is long enough for two.
    pub windows: Option<Dataset>,
    /// Its questions and answers, where answers are compared.
    pub pairs: Option<Pairs>,
}

impl Set {
    /// Loads the file of `spec`.
    pub fn load(
        args: &EvalArgs,
        (base, context): (&Base, usize),
        spec: &DataSpec,
        metrics: &[MetricArg],
        output: Output,
    ) -> Result<Set> {
        if args.data.iter().filter(|other| other.label == spec.label).count() > 1 {
            let message = format!("two files have the label {}: give them others with --data LABEL=FILE", spec.label);
            return Err(Failure::Usage(message));
        }
        let records = args.objective.unwrap_or_else(|| dataset::objective(&spec.path)).records;
        let stride = args.stride.map(|stride| stride as usize);
        let options = DataOptions {
            skip_bad: args.skip_bad,
            stride,
            control_tokens: args.control_tokens,
            mapping: args.map.clone(),
            ..DataOptions::new(records, context)
        };
        let data = dataset::load(base, std::slice::from_ref(&spec.path), &options, output)?;
        let loss = metrics.iter().any(|metric| matches!(metric, MetricArg::Loss | MetricArg::Perplexity));
        let asked = metrics.contains(&MetricArg::LlamaPerplexity);
        let windows = if asked { in_windows(args, (base, context), spec, output)? } else { None };
        let compared = args.answers.is_some() || metrics.iter().any(|metric| metric.compares());
        let pairs = if compared { Some(pairs(args, base, spec, &data.notes, output)?) } else { None };
        Ok(Set { label: spec.label.clone(), data, loss, windows, pairs })
    }

    /// Whether the file has answers, as a chat template writes them.
    pub fn has_answers(&self) -> bool {
        self.data.records == Records::Answers
    }
}

/// The windows of a text. A text that is too short for them is noted, for data that is no text it is an error to ask.
fn in_windows(
    args: &EvalArgs,
    (base, context): (&Base, usize),
    spec: &DataSpec,
    output: Output,
) -> Result<Option<Dataset>> {
    let shown = spec.path.display();
    if !dataset::is_text(&spec.path) {
        if args.metric.is_empty() {
            return Ok(None);
        }
        return Err(Failure::Usage(format!("--metric llama-perplexity is for .txt data, not for {shown}")));
    }
    let tokens = dataset::tokens(base, &spec.path, output)?;
    let examples = windows(base.tokenizer()?, &tokens, context);
    if examples.is_empty() {
        output.warn(&format!(
            "{shown} has {} tokens: llama-perplexity needs {} for windows of {context}",
            tokens.len(),
            context * 2
        ));
        return Ok(None);
    }
    Ok(Some(Dataset { records: Records::Texts, examples, notes: Notes::default(), digest: String::new() }))
}

/// Prompts and reference answers. The notes repeat those of the loss, unless prompts were too long for the model.
fn pairs(args: &EvalArgs, base: &Base, spec: &DataSpec, told: &Notes, output: Output) -> Result<Pairs> {
    let limit = base.config().context;
    let options =
        DataOptions { skip_bad: args.skip_bad, mapping: args.map.clone(), ..DataOptions::new(Records::Answers, limit) };
    let pairs = load_pairs(&spec.path, base.tokenizer()?, base.template()?, &options)?;
    if pairs.notes.problems != told.problems {
        for warning in pairs.notes.warnings() {
            output.warn(&format!("{}: {warning}", spec.path.display()));
        }
    }
    Ok(pairs)
}

//! `loam eval`: loss and perplexity on data files, and how the model's answers compare with the ones in them.
//!
//! # Layout
//! - `sets`: the data files as examples, windows of llama-perplexity, and questions
//! - `measure`: what a model with or without adapters makes of them
//! - `figures`: the numbers that were asked for; `report`: how they are shown

mod figures;
mod measure;
mod report;
mod sets;

use loam::engine::AdapterHandle;
use loam::file::AtomicFile;

use crate::args::{EvalArgs, MetricArg};
use crate::dataset;
use crate::failure::Result;
use crate::model::{self, Adapters};
use crate::output::Output;
use measure::Model;
use sets::Set;

/// Runs the verb.
pub fn run(args: &EvalArgs) -> Result {
    let output = Output::new(args.json.json);
    let file = args.answers.as_deref().map(AtomicFile::create).transpose()?;
    let base = model::base_for_adapters(&args.base, args.origin)?;
    let adapters = Adapters::load(&args.adapter)?;
    let context = model::context(&base, args.context)?;
    let metrics = metrics(args);
    // Before any work on the device: lines that cannot be answered are reported now.
    let sets: Vec<Set> = args
        .data
        .iter()
        .map(|spec| Set::load(args, (&base, context), spec, &metrics, output))
        .collect::<Result<_>>()?;
    if sets.iter().any(Set::has_answers) {
        adapters.check_template(&base, output)?;
    }
    let mut engine = model::engine(&base, &args.device)?;
    let attached = adapters.attach(&base, &mut engine, output)?;
    let mut model = Model { base: &base, engine: &mut engine, context, max_tokens: args.max_tokens as usize, output };
    let with = model.measure(&attached, &sets)?;
    let without = if args.with_base { Some(model.measure(&AdapterHandle::none(), &sets)?) } else { None };
    if let Some(file) = file {
        report::answers(file, &sets, &with, without.as_deref())?;
    }
    let result = report::Result { metrics: &metrics, sets: &sets, with: &with, without: without.as_deref() };
    result.print(output)?;
    result.finish(output, &mut engine)
}

/// What is measured: as the flag says, else loss and perplexity, as llama-perplexity has it too where there is a text.
fn metrics(args: &EvalArgs) -> Vec<MetricArg> {
    if !args.metric.is_empty() {
        return args.metric.clone();
    }
    let text = args.data.iter().any(|spec| dataset::is_text(&spec.path));
    let texts = if text { vec![MetricArg::LlamaPerplexity] } else { Vec::new() };
    [vec![MetricArg::Loss, MetricArg::Perplexity], texts].concat()
}

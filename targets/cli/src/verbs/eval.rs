//! `loam eval`: loss and perplexity on a data file.

use loam::data::DataOptions;
use loam::evaluate::Evaluator;
use serde_json::json;

use crate::args::{EvalArgs, MetricArg};
use crate::failure::Result;
use crate::model::{self, Adapters};
use crate::output::Output;
use crate::{dataset, memory};

/// Sequences per run.
const BATCH: usize = 4;

/// Runs the verb.
pub fn run(args: &EvalArgs) -> Result {
    let output = Output::new(args.json.json);
    let base = model::base(&args.base)?;
    let adapters = Adapters::load(&args.adapter)?;
    let context = model::context(&base, args.context)?;
    let objective = args.objective.map_or_else(|| dataset::objective(&args.data), Into::into);
    let stride = args.stride.map(|stride| stride as usize);
    let options = DataOptions { objective, context, skip_bad: args.skip_bad, stride };
    let data = dataset::load(&base, std::slice::from_ref(&args.data), &options, output)?;
    let batches = data.in_order(BATCH, context)?;
    let backend = model::device(&args.device)?;
    let spinner = output.spinner("evaluating");
    let mut evaluator = Evaluator::new(&base, backend, &adapters.attach(), BATCH, context)?;
    let (loss, tokens) = pollster::block_on(evaluator.loss(&batches))?;
    spinner.finish_and_clear();
    let perplexity = loss.exp();
    let wanted = |metric| args.metric.contains(&metric);
    if wanted(MetricArg::Loss) {
        output.line(format!("loss        {loss:.4} nats per token"))?;
    }
    if wanted(MetricArg::Perplexity) {
        output.line(format!("perplexity  {perplexity:.3}"))?;
    }
    output.line(format!("tokens      {tokens}"))?;
    output.object(&json!({
        "event": "done", "loss": wanted(MetricArg::Loss).then_some(loss),
        "perplexity": wanted(MetricArg::Perplexity).then_some(perplexity), "tokens": tokens,
        "peak_device_bytes": evaluator.engine().backend.memory().peak_bytes,
        "peak_host_bytes": memory::peak_host_bytes(), "device": evaluator.engine().backend.info().name,
    }))
}

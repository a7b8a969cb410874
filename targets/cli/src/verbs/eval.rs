//! `loam eval`: loss and perplexity on a data file, and how the model's answers compare with the ones in it.

use loam::Base;
use loam::data::{DataOptions, Dataset, Pairs, Records, load_pairs};
use loam::engine::{AdapterHandle, Engine, weight_uploads};
use loam::evaluate::{Rouge, Scorer, accuracy, answers, corpus_bleu};
use loam::generate::Session;
use serde_json::{Map, Value, json};

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
    let base = model::base_for_adapters(&args.base, args.origin)?;
    let adapters = Adapters::load(&args.adapter)?;
    let context = model::context(&base, args.context)?;
    let records = args.objective.unwrap_or_else(|| dataset::objective(&args.data)).records;
    if records == Records::Answers {
        adapters.check_template(&base, output)?;
    }
    let stride = args.stride.map(|stride| stride as usize);
    let options = DataOptions { records, context, skip_bad: args.skip_bad, stride };
    let data = dataset::load(&base, std::slice::from_ref(&args.data), &options, output)?;
    // Before any work on the device: lines that cannot be answered are reported now.
    let pairs = if args.metric.iter().any(|m| m.compares()) { Some(pairs(args, &base, &data, output)?) } else { None };
    let mut engine = model::engine(&base, &args.device)?;
    let adapters = adapters.attach(&base, &mut engine, output)?;
    let mut report = Report { output, fields: Map::new() };
    if args.metric.iter().any(|m| !m.compares()) {
        measure_loss(args, &mut engine, &adapters, (&data, context), &mut report)?;
    }
    if let Some(pairs) = pairs {
        compare(args, &base, (&mut engine, &adapters), &pairs, &mut report)?;
    }
    report.finish(data.trained_tokens(), &mut engine)
}

/// Prompts and reference answers. The notes repeat those of the loss, unless prompts were too long for the model.
fn pairs(args: &EvalArgs, base: &Base, data: &Dataset, output: Output) -> Result<Pairs> {
    let limit = base.config().context;
    let pairs = load_pairs(&args.data, base.tokenizer()?, base.template()?, limit, args.skip_bad)?;
    if pairs.notes.problems != data.notes.problems {
        for warning in pairs.notes.warnings() {
            output.warn(&format!("{}: {warning}", args.data.display()));
        }
    }
    Ok(pairs)
}

/// Loss and perplexity.
fn measure_loss(
    args: &EvalArgs,
    engine: &mut Engine,
    adapters: &AdapterHandle,
    (data, context): (&Dataset, usize),
    report: &mut Report,
) -> Result {
    let batches = data.in_order(BATCH, context)?;
    let spinner = report.output.spinner("evaluating");
    let mut scorer = pollster::block_on(Scorer::new(engine, adapters, BATCH, context))?;
    let (loss, _) = pollster::block_on(scorer.loss(engine, &batches))?;
    spinner.finish_and_clear();
    if args.metric.contains(&MetricArg::Loss) {
        report.number("loss", loss, format!("{loss:.4} nats per token"))?;
    }
    if args.metric.contains(&MetricArg::Perplexity) {
        report.number("perplexity", loss.exp(), format!("{:.3}", loss.exp()))?;
    }
    Ok(())
}

/// Answers every prompt and compares the answers with the references.
fn compare(
    args: &EvalArgs,
    base: &Base,
    (engine, adapters): (&mut Engine, &AdapterHandle),
    pairs: &Pairs,
    report: &mut Report,
) -> Result {
    let (output, count) = (report.output, pairs.pairs.len());
    let context = pairs.context(args.max_tokens as usize, base.config().context);
    let mut session = pollster::block_on(Session::new(engine, context, adapters))?;
    let bar = output.bar(count as u64, "answer");
    let mut progress = |done: usize| {
        bar.set_position(done as u64);
        // About ten lines for a run whose progress bar is not shown.
        if bar.is_hidden() && (done.is_multiple_of(count.div_ceil(10)) || done == count) {
            output.note(format!("answer {done}/{count}"));
        }
    };
    let work = answers(engine, &mut session, base.tokenizer()?, &pairs.pairs, args.max_tokens as usize, &mut progress);
    let answers = pollster::block_on(work)?;
    bar.finish_and_clear();
    if args.metric.contains(&MetricArg::Rouge) {
        let Rouge { rouge1, rouge2, rouge_l } = Rouge::mean(&answers);
        for (name, value) in [("rouge1", rouge1), ("rouge2", rouge2), ("rougeL", rouge_l)] {
            report.number(name, value, format!("{value:.4}"))?;
        }
    }
    if args.metric.contains(&MetricArg::Bleu) {
        let bleu = corpus_bleu(&answers);
        report.number("bleu", bleu, format!("{bleu:.2}"))?;
    }
    if args.metric.contains(&MetricArg::Accuracy) {
        let accuracy = accuracy(&answers);
        report.number("accuracy", accuracy, format!("{accuracy:.4}"))?;
    }
    report.output.line(format!("answers     {count}"))?;
    report.fields.insert("answers".into(), count.into());
    Ok(())
}

/// What was measured so far. Lines for people are printed as soon as they are known.
struct Report {
    output: Output,
    fields: Map<String, Value>,
}

impl Report {
    fn number(&mut self, name: &str, value: f64, shown: String) -> Result {
        self.fields.insert(name.into(), value.into());
        self.output.line(format!("{name:<11} {shown}"))
    }

    fn finish(mut self, tokens: usize, engine: &mut Engine) -> Result {
        self.output.line(format!("tokens      {tokens}"))?;
        let rest = [
            ("event", json!("done")),
            ("tokens", json!(tokens)),
            ("peak_device_bytes", json!(engine.memory().peak_bytes)),
            ("peak_host_bytes", json!(memory::peak_host_bytes())),
            ("weight_uploads", json!(weight_uploads())),
            ("device", json!(engine.backend.info().name)),
        ];
        self.fields.extend(rest.map(|(name, value)| (name.to_owned(), value)));
        self.output.object(&Value::Object(self.fields))
    }
}

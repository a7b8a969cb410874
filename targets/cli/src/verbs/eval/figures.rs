//! The numbers that were asked for, of what was measured.

use loam::evaluate::{Mean, Rouge, Sums, corpus_bleu, grouped, is_reference};
use serde_json::{Map, Value, json};

use super::measure::Measured;
use crate::args::MetricArg;

/// A number under its name in results.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The field of the result; that of its error ends in `_error`.
    pub name: &'static str,
    /// The number, with its error where it is a mean.
    pub mean: Mean,
    /// Whether it has an error at all.
    pub is_mean: bool,
    /// Decimals for people.
    pub decimals: usize,
    /// What follows it there.
    pub unit: String,
}

impl Figure {
    fn new(name: &'static str, mean: Mean, decimals: usize, unit: impl Into<String>) -> Self {
        Figure { name, mean, is_mean: true, decimals, unit: unit.into() }
    }

    /// The number with its error, for people.
    pub fn shown(&self) -> String {
        let Figure { mean, decimals, .. } = self;
        let error = mean.error.map_or_else(String::new, |error| format!(" +- {error:.decimals$}"));
        format!("{:.decimals$}{error}{}", mean.value, self.unit)
    }
}

/// The figures of `metrics` that `measured` has.
pub fn figures(metrics: &[MetricArg], measured: &Measured) -> Vec<Figure> {
    let loss = grouped(&measured.losses);
    let all = metrics.iter().flat_map(|metric| match metric {
        MetricArg::Loss => vec![Figure::new("loss", loss, 4, " nats per token")],
        MetricArg::Perplexity => vec![Figure::new("perplexity", loss.exp(), 3, "")],
        MetricArg::LlamaPerplexity => llama(&measured.windows),
        MetricArg::Rouge => rouge(&measured.answers),
        MetricArg::Bleu => {
            // Of all answers as one: no mean, so it has no error.
            let mean = Mean { value: corpus_bleu(&measured.answers), error: None };
            vec![Figure { is_mean: false, ..Figure::new("bleu", mean, 2, "") }]
        }
        MetricArg::Accuracy => {
            let hits = measured.answers.iter().map(|(answer, reference)| is_reference(answer, reference));
            let hits: Sums = hits.map(|hit| f64::from(u8::from(hit))).collect();
            vec![Figure::new("accuracy", hits.mean(), 4, "")]
        }
    });
    all.collect()
}

/// Perplexity and its error as llama-perplexity prints them: every token on its own.
fn llama(windows: &[Sums]) -> Vec<Figure> {
    if windows.is_empty() {
        return Vec::new();
    }
    let mut all = Sums::default();
    windows.iter().for_each(|window| all.join(window));
    let unit = format!(" ({} windows, the second half of each counts)", windows.len());
    vec![Figure::new("llama_perplexity", all.mean().exp(), 4, unit)]
}

fn rouge(answers: &[(String, String)]) -> Vec<Figure> {
    let scores: Vec<Rouge> = answers.iter().map(|(answer, reference)| Rouge::compare(answer, reference)).collect();
    let of = |value: fn(&Rouge) -> f64| scores.iter().map(value).collect::<Sums>().mean();
    let values = [("rouge1", of(|r| r.rouge1)), ("rouge2", of(|r| r.rouge2)), ("rougeL", of(|r| r.rouge_l))];
    values.map(|(name, mean)| Figure::new(name, mean, 4, "")).into()
}

/// The fields of a result.
pub fn fields(figures: &[Figure], measured: &Measured) -> Map<String, Value> {
    let mut fields = Map::new();
    for figure in figures {
        fields.insert(figure.name.into(), json!(figure.mean.value));
        if figure.is_mean {
            fields.insert(format!("{}_error", figure.name), json!(figure.mean.error));
        }
    }
    if !measured.windows.is_empty() {
        fields.insert("llama_windows".into(), json!(measured.windows.len()));
    }
    if !measured.answers.is_empty() {
        fields.insert("answers".into(), json!(measured.answers.len()));
    }
    fields
}

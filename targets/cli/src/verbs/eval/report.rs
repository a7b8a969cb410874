//! How results of an evaluation are shown, and the file of answers.

use std::io::Write;

use loam::engine::{Engine, weight_uploads};
use loam::evaluate::{Mean, Rouge, change, is_reference};
use loam::file::AtomicFile;
use serde_json::{Map, Value, json};

use super::figures::{Figure, fields, figures};
use super::measure::Measured;
use super::sets::Set;
use crate::args::MetricArg;
use crate::failure;
use crate::memory;
use crate::output::{Output, escape};

/// Everything that was measured.
pub struct Result<'a> {
    /// What was asked for.
    pub metrics: &'a [MetricArg],
    /// The data files.
    pub sets: &'a [Set],
    /// What was measured on each, with the adapters.
    pub with: &'a [Measured],
    /// The same without them.
    pub without: Option<&'a [Measured]>,
}

impl Result<'_> {
    /// Lines for people: of each file if they are several, then of all.
    pub fn print(&self, output: Output) -> failure::Result {
        if self.sets.len() > 1 {
            for (index, set) in self.sets.iter().enumerate() {
                output.line(format!("{}:", escape(&set.label)))?;
                self.lines("  ", &self.with[index..=index], self.without.map(|all| &all[index..=index]), output)?;
                output.line(format!("  {:<16} {}", "tokens", set.data.trained_tokens()))?;
            }
            output.line("all:")?;
        }
        self.lines("", self.with, self.without, output)?;
        output.line(format!("{:<16} {}", "tokens", self.tokens()))
    }

    fn lines(&self, indent: &str, with: &[Measured], without: Option<&[Measured]>, output: Output) -> failure::Result {
        let measured = Measured::joined(with);
        let base = without.map(Measured::joined);
        let base_figures = base.as_ref().map_or_else(Vec::new, |base| figures(self.metrics, base));
        for (index, figure) in figures(self.metrics, &measured).iter().enumerate() {
            let name = figure.name.replace('_', "-");
            let plain = |figure: &Figure| Figure { unit: String::new(), ..figure.clone() }.shown();
            let beside = base_figures.get(index).map(|figure| format!(", without adapters {}", plain(figure)));
            output.line(format!("{indent}{name:<16} {}{}", figure.shown(), beside.unwrap_or_default()))?;
        }
        if let Some(Mean { value, error }) = base.as_ref().and_then(|base| changed(base, &measured)) {
            let error = error.map_or_else(String::new, |error| format!(" +- {error:.4}"));
            output.line(format!("{indent}{:<16} {value:+.4}{error} nats per token", "loss changed by"))?;
        }
        if !measured.answers.is_empty() {
            output.line(format!("{indent}{:<16} {}", "answers", measured.answers.len()))?;
        }
        Ok(())
    }

    fn tokens(&self) -> usize {
        self.sets.iter().map(|set| set.data.trained_tokens()).sum()
    }

    /// The result for programs.
    pub fn finish(&self, output: Output, engine: &mut Engine) -> failure::Result {
        let mut object = self.object(self.with);
        let rest = [
            ("event", json!("done")),
            ("tokens", json!(self.tokens())),
            ("sets", self.by_set(self.with)),
            ("peak_device_bytes", json!(engine.memory().peak_bytes)),
            ("peak_host_bytes", json!(memory::peak_host_bytes())),
            ("weight_uploads", json!(weight_uploads())),
            ("device", json!(engine.backend.info().name)),
        ];
        object.extend(rest.map(|(name, value)| (name.to_owned(), value)));
        if let Some(without) = self.without {
            let mut base = self.object(without);
            base.insert("sets".into(), self.by_set(without));
            object.insert("base".into(), Value::Object(base));
            let changed = changed(&Measured::joined(without), &Measured::joined(self.with));
            let changed = changed.map(|Mean { value, error }| json!({"loss": value, "loss_error": error}));
            object.insert("change".into(), json!(changed));
        }
        output.object(&Value::Object(object))
    }

    fn object(&self, measured: &[Measured]) -> Map<String, Value> {
        let all = Measured::joined(measured);
        fields(&figures(self.metrics, &all), &all)
    }

    fn by_set(&self, measured: &[Measured]) -> Value {
        let one = |(set, measured): (&Set, &Measured)| {
            let mut object = fields(&figures(self.metrics, measured), measured);
            object.insert("label".into(), json!(set.label));
            object.insert("tokens".into(), json!(set.data.trained_tokens()));
            Value::Object(object)
        };
        self.sets.iter().zip(measured).map(one).collect()
    }
}

/// How the adapters change the loss, if it was measured.
fn changed(base: &Measured, with: &Measured) -> Option<Mean> {
    (!base.losses.is_empty()).then(|| change(&base.losses, &with.losses))
}

/// Writes a line for each example with its reference, the answer, and how they compare.
pub fn answers(mut file: AtomicFile, sets: &[Set], with: &[Measured], without: Option<&[Measured]>) -> failure::Result {
    for (index, (set, measured)) in sets.iter().zip(with).enumerate() {
        let pairs = set.pairs.iter().flat_map(|pairs| &pairs.pairs);
        for (number, (pair, (answer, reference))) in pairs.zip(&measured.answers).enumerate() {
            let base = without.map(|all| all[index].answers[number].0.as_str());
            let line = answer_line(&set.label, pair.line, (answer, reference), base);
            let path = file.path().to_owned();
            writeln!(file, "{line}").map_err(loam::file::io_error("write", &path))?;
        }
    }
    Ok(file.commit()?)
}

fn answer_line(label: &str, line: usize, (answer, reference): (&str, &str), base: Option<&str>) -> Value {
    let Rouge { rouge1, rouge2, rouge_l } = Rouge::compare(answer, reference);
    let mut object = json!({
        "data": label, "line": line, "reference": reference, "answer": answer,
        "exact": is_reference(answer, reference), "rouge1": rouge1, "rouge2": rouge2, "rougeL": rouge_l,
    });
    if let Some(base) = base {
        object["base_answer"] = json!(base);
    }
    object
}

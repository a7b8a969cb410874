//! The file of `loam train --log`: a JSON object per step, evaluation, and begin and end of a pause.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use loam::file::{AtomicFile, io_error, read_bounded};
use loam::train::Event;
use loam::train::objective::Metric;
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::prediction;

/// Longest log that is continued: a million steps.
const LIMIT: u64 = 1 << 28;

/// An event as `--log` and `--json` write it, if they do.
pub fn object(event: &Event) -> Option<Value> {
    Some(match event {
        Event::Start { steps, parameters, memory } => {
            let mut start = prediction::object(memory);
            start["event"] = json!("start");
            start["steps"] = json!(steps);
            start["parameters"] = json!(parameters);
            start["planned_bytes"] = json!(memory.allocated_bytes());
            start
        }
        Event::Evaluated { step, metrics, best } => {
            with(&metrics.others, json!({"event": "eval", "step": step, "loss": metrics.loss, "best": best}))
        }
        Event::Step { step, report, seconds } => with(
            &report.metrics.others,
            json!({
                "event": "step", "step": step, "loss": report.metrics.loss, "lr": report.lr,
                "grad_norm": report.grad_norm, "tokens": report.tokens, "trained_tokens": report.trained_tokens,
                "seconds": seconds,
            }),
        ),
        Event::Resumed { step, path, .. } => {
            json!({"event": "resumed", "step": step, "checkpoint": path.to_string_lossy()})
        }
        Event::Saved { step, path } => {
            json!({"event": "checkpoint", "step": step, "checkpoint": path.to_string_lossy()})
        }
        Event::Paused { step, why } => json!({"event": "paused", "step": step, "why": why.name()}),
        Event::Continued { step, why, seconds } => {
            json!({"event": "continued", "step": step, "why": why.name(), "seconds": seconds})
        }
        // It is told when it is written.
        Event::Refused { .. } => return None,
        Event::Note { message } => json!({"event": "note", "message": message}),
    })
}

/// Metrics as one object.
pub fn named(metrics: &[Metric]) -> Value {
    with(metrics, json!({}))
}

/// The object with `metrics` added.
fn with(metrics: &[Metric], mut object: Value) -> Value {
    for metric in metrics {
        object[metric.name] = json!(metric.value);
    }
    object
}

/// It grows line by line so that it can be followed. What is there of before is kept or replaced as a whole: whenever
/// the program ends, the lines that are there are those of one run from its beginning on.
pub struct Log {
    path: PathBuf,
    file: BufWriter<File>,
    /// What was there before and may be continued, until it is known how much of it.
    before: Vec<u8>,
    resume: bool,
}

impl Log {
    /// Opens a log. What is there stays until the run has started; one that continues from a checkpoint keeps the lines
    /// up to there.
    pub fn create(path: &Path, resume: bool) -> Result<Self> {
        let before = if resume && path.exists() { read_bounded(path, LIMIT)? } else { Vec::new() };
        Ok(Log { path: path.to_owned(), file: appended(path)?, before, resume })
    }

    /// Writes steps, evaluations and pauses.
    pub fn write(&mut self, event: &Event) -> Result {
        match event {
            Event::Start { .. } if !self.resume => self.replace(&[]),
            Event::Resumed { step, evaluated, .. } => self.cut(|line| is_done(line, *step, *evaluated)),
            Event::Evaluated { .. } | Event::Step { .. } | Event::Paused { .. } | Event::Continued { .. } => {
                // A run that starts over after all.
                if !self.before.is_empty() {
                    self.cut(|_| false)?;
                }
                let written =
                    writeln!(self.file, "{}", object(event).unwrap_or_default()).and_then(|()| self.file.flush());
                written.map_err(|error| self.failure(&error))
            }
            _ => Ok(()),
        }
    }

    /// Keeps the lines of before that `keep` wants.
    fn cut(&mut self, keep: impl Fn(&[u8]) -> bool) -> Result {
        let before = std::mem::take(&mut self.before);
        let kept: Vec<&[u8]> = before.split_inclusive(|&byte| byte == b'\n').filter(|line| keep(line)).collect();
        let kept = kept.concat();
        if kept == before { Ok(()) } else { self.replace(&kept) }
    }

    /// From now on the log has these bytes, and what is written after them.
    fn replace(&mut self, bytes: &[u8]) -> Result {
        let mut file = AtomicFile::create(&self.path)?;
        file.write_all(bytes).map_err(|error| self.failure(&error))?;
        file.commit()?;
        self.file = appended(&self.path)?;
        Ok(())
    }

    fn failure(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("cannot write the log {}: {error}", self.path.display()), "free some space")
    }
}

/// A file that is made if need be and only grows.
fn appended(path: &Path) -> Result<BufWriter<File>> {
    Ok(BufWriter::new(File::options().create(true).append(true).open(path).map_err(io_error("create", path))?))
}

/// Whether a line is of before the checkpoint after `step`. A line that is cut is not.
fn is_done(line: &[u8], step: u64, evaluated: bool) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return false };
    let of = value["step"].as_u64().unwrap_or(u64::MAX);
    of < step || (of == step && (value["event"] == "step" || evaluated))
}

#[cfg(test)]
mod tests {
    use loam::train::objective::Metrics;

    use super::*;

    #[test]
    fn lines_behind_the_checkpoint_are_dropped() {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join("log.jsonl");
        let line = |event: &str, step: u64| format!("{{\"event\":\"{event}\",\"step\":{step}}}\n");
        let kept = line("eval", 0) + &line("step", 1) + &line("step", 2);
        let resumed = |evaluated| Event::Resumed { step: 2, evaluated, path: "x".into(), history: Box::default() };
        for (evaluated, expected) in [(false, kept.clone()), (true, kept.clone() + &line("eval", 2))] {
            std::fs::write(&path, kept.clone() + &line("eval", 2) + &line("step", 3) + "{\"event\":\"st")
                .expect("written");
            Log::create(&path, true).expect("opened").write(&resumed(evaluated)).expect("cut");
            assert_eq!(std::fs::read_to_string(&path).expect("readable"), expected);
        }
        let mut resumed = Log::create(&path, true).expect("opened");
        resumed
            .write(&Event::Evaluated { step: 0, metrics: Metrics { loss: 1.5, others: Vec::new() }, best: false })
            .expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

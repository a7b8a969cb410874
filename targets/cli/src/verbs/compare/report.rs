//! What `loam compare` shows.

use std::path::Path;

use loam::evaluate::Mean;
use loam::gguf::shard_paths;
use serde_json::{Value, json};

use super::measure::Measured;
use crate::failure::Result;
use crate::output::{Output, bytes, escape};
use crate::recommendation::{Candidate, beaten, choose};

/// A model in the table.
pub struct Row {
    path: String,
    bytes: u64,
    loss: Mean,
    /// Beside the reference; its perplexity by the reference's.
    ratio: Mean,
    kl: Mean,
    same_top: Mean,
    prompt: f64,
    generate: f64,
}

impl Row {
    /// Of the model at `path`; the bytes of a split one are those of all its shards.
    pub fn new(path: &Path, measured: &Measured) -> Result<Row> {
        let size = |path: &Path| path.metadata().map(|found| found.len()).map_err(loam::file::io_error("read", path));
        let sizes = shard_paths(path).iter().map(|path| size(path)).collect::<std::result::Result<Vec<u64>, _>>()?;
        let divergence = &measured.divergence;
        Ok(Row {
            path: path.to_string_lossy().into_owned(),
            bytes: sizes.iter().sum(),
            loss: divergence.loss.mean(),
            ratio: divergence.more.mean().exp(),
            kl: divergence.kl.mean(),
            same_top: divergence.same_top.mean(),
            prompt: measured.prompt_speed(),
            generate: measured.generate_speed(),
        })
    }

    /// What every model has.
    fn common(&self) -> Value {
        let perplexity = self.loss.exp();
        json!({
            "file": self.path, "bytes": self.bytes, "perplexity": perplexity.value, "perplexity_error": perplexity.error,
            "prompt_tokens_per_second": self.prompt, "decode_tokens_per_second": self.generate,
        })
    }

    /// The same with what it has beside a reference.
    fn object(&self) -> Value {
        let mut object = self.common();
        let beside = [("perplexity_ratio", self.ratio), ("kl", self.kl), ("same_top", self.same_top)];
        for (name, mean) in beside {
            object[name] = json!(mean.value);
            object[format!("{name}_error")] = json!(mean.error);
        }
        object
    }

    fn candidate(&self) -> Candidate {
        Candidate { name: self.path.clone(), bytes: self.bytes, kl: self.kl.value, ratio: self.ratio.value }
    }

    fn line(&self, width: usize, is_reference: bool) -> String {
        let beside = match is_reference {
            true => format!("{:>18} {:>15}", "-", "-"),
            false => {
                let same = Mean { value: self.same_top.value * 100.0, error: self.same_top.error.map(|e| e * 100.0) };
                format!("{:>18} {:>15}", shown(self.kl, 4), shown(same, 1))
            }
        };
        let (size, perplexity) = (bytes(self.bytes), shown(self.loss.exp(), 3));
        let (name, speeds) = (escape(&self.path), format!("{:>9.0} {:>9.1}", self.prompt, self.generate));
        format!("{name:<width$} {size:>10} {perplexity:>18} {beside} {speeds}")
    }
}

fn shown(mean: Mean, decimals: usize) -> String {
    let error = mean.error.map_or_else(String::new, |error| format!(" +- {error:.decimals$}"));
    format!("{:.decimals$}{error}", mean.value)
}

/// Prints the table and the recommendation.
pub fn print(output: Output, reference: &Row, rows: &[Row], (windows, context): (usize, usize)) -> Result {
    let names = rows.iter().chain([reference]).map(|row| escape(&row.path).chars().count());
    let width = names.max().unwrap_or(0).max("file".len());
    output.line(format!(
        "{:<width$} {:>10} {:>18} {:>18} {:>15} {:>9} {:>9}",
        "file", "size", "perplexity", "KL (nats)", "same top (%)", "prompt/s", "decode/s"
    ))?;
    output.line(reference.line(width, true))?;
    rows.iter().try_for_each(|row| output.line(row.line(width, false)))?;
    output.line(format!("{windows} windows of {context} tokens, the second half of each counts"))?;
    let candidates: Vec<Candidate> = rows.iter().map(Row::candidate).collect();
    let beaten = beaten(&candidates);
    for &(worse, better) in &beaten {
        let (worse, better) = (escape(&rows[worse].path), escape(&rows[better].path));
        output.line(format!("{worse} is no smaller than {better} and no nearer to the reference"))?;
    }
    let chosen = choose(&candidates).map(|(index, why)| (&rows[index].path, why));
    if let Some((path, why)) = &chosen {
        output.line(format!("take {}: {why}", escape(path)))?;
    }
    let beaten = beaten.iter().map(|(worse, better)| json!({"file": rows[*worse].path, "by": rows[*better].path}));
    output.object(&json!({
        "event": "done", "windows": windows, "context": context, "reference": reference.common(),
        "files": rows.iter().map(Row::object).collect::<Vec<_>>(), "beaten": beaten.collect::<Vec<_>>(),
        "recommendation": chosen.map(|(path, why)| json!({"file": path, "reason": why})),
    }))
}

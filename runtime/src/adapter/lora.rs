//! LoRA: which layers get an update, and what it starts from.

use std::collections::HashSet;
use std::str::FromStr;

use super::file::{AdapterFile, Pair};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::{ModelConfig, Weights};
use crate::random;

/// Kinds of linear layers, as they stand between `blk.N.` and `.weight`.
/// `attn_qkv` stands for the first three where a model has them in one matrix; its `ffn_up` holds the gate too. The router
/// of a mixture of experts is `ffn_gate_inp`; the experts themselves take no adapter.
const KINDS: [&str; 9] =
    ["attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_gate_inp", "ffn_gate", "ffn_up", "ffn_down"];

/// Which linear layers get an update.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Targets {
    /// Every linear layer of every block (PEFT's `all-linear`).
    #[default]
    AllLinear,
    /// These kinds in every block, by GGUF name without `blk.N.` and `.weight`.
    Kinds(Vec<String>),
}

impl Targets {
    /// The kinds of layers that `adapter` updates in `base`.
    pub fn of(adapter: &AdapterFile, base: &Gguf) -> Self {
        let updated = kinds(adapter.tensors.iter().map(|(name, _)| name.as_str()));
        let present = kinds(base.tensors().iter().map(|info| info.name.as_str()));
        if updated == present { Targets::AllLinear } else { Targets::Kinds(updated) }
    }

    /// Whether the weight called `name` is meant. Names are compared whole: `attn_q` is not `attn_q_norm`.
    pub fn contains(&self, name: &str) -> bool {
        let kind = kind_of(name);
        match self {
            Targets::AllLinear => kind.is_some_and(|k| KINDS.contains(&k)),
            Targets::Kinds(kinds) => kind.is_some_and(|k| kinds.iter().any(|x| x == k)),
        }
    }
}

impl std::fmt::Display for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Targets::AllLinear => f.write_str("all-linear"),
            Targets::Kinds(kinds) => f.write_str(&kinds.join(",")),
        }
    }
}

impl FromStr for Targets {
    type Err = Error;

    /// `all-linear`, or a comma-separated list such as `attn_q,attn_v`.
    fn from_str(text: &str) -> Result<Self> {
        if text == "all-linear" {
            return Ok(Targets::AllLinear);
        }
        let mut kinds: Vec<String> = Vec::new();
        for kind in text.split(',').map(str::trim) {
            if !KINDS.contains(&kind) {
                let known = KINDS.join(", ");
                return Err(Error::Argument(format!(
                    "target {kind:?} is not known: use all-linear or some of {known}"
                )));
            }
            if !kinds.iter().any(|k| k == kind) {
                kinds.push(kind.to_owned());
            }
        }
        Ok(Targets::Kinds(kinds))
    }
}

/// Those of [`KINDS`] that occur in `names`.
fn kinds<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let found: HashSet<&str> = names.filter_map(kind_of).collect();
    KINDS.iter().filter(|kind| found.contains(*kind)).map(|kind| (*kind).to_owned()).collect()
}

/// `attn_q` of `blk.0.attn_q.weight`.
fn kind_of(name: &str) -> Option<&str> {
    name.strip_suffix(".weight").and_then(|n| n.rsplit('.').next())
}

/// Options of a new LoRA, named as in PEFT.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraOptions {
    /// Rank of the update.
    pub rank: usize,
    /// The update is scaled by alpha / rank.
    pub alpha: f32,
    /// Which layers.
    pub targets: Targets,
    /// Seed of A's values.
    pub seed: u64,
}

impl Default for LoraOptions {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, targets: Targets::AllLinear, seed: 0 }
    }
}

impl LoraOptions {
    /// A new adapter: A uniform in ±1/sqrt(in) (PEFT's Kaiming-uniform with a = sqrt(5)), B zero, so that training
    /// starts from the base exactly.
    ///
    /// # Errors
    /// [`Error::Argument`] if the rank is 0 or larger than a target allows, alpha is no positive number, or the model
    /// has no layer of a kind that is asked for.
    pub fn start(&self, config: &ModelConfig, weights: &Weights) -> Result<AdapterFile> {
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(Error::Argument(format!("alpha is {}, it must be a positive number", self.alpha)));
        }
        if let Targets::Kinds(asked) = &self.targets {
            let present = kinds(weights.linears().map(|w| w.name.as_str()));
            if let Some(kind) = asked.iter().find(|kind| !present.contains(kind)) {
                let message = format!("target {kind}: this model's linear layers are {}", present.join(", "));
                return Err(Error::Argument(message));
            }
        }
        let mut tensors = Vec::new();
        for (stream, w) in weights.linears().enumerate().filter(|(_, w)| self.targets.contains(&w.name)) {
            let most = w.rows.min(w.cols);
            if self.rank == 0 || self.rank > most {
                let message = format!("rank is {}, {} allows 1 to {most}", self.rank, w.name);
                return Err(Error::Argument(message));
            }
            let bound = 1.0 / (w.cols as f64).sqrt();
            let value = |i: usize| ((random::uniform(self.seed, stream as u32, i as u64) * 2.0 - 1.0) * bound) as f32;
            let a = (0..self.rank * w.cols).map(value).collect();
            tensors.push((w.name.clone(), Pair { a, b: vec![0.0; w.rows * self.rank], rank: self.rank }));
        }
        let (architecture, alpha) = (config.architecture.to_owned(), self.alpha);
        Ok(AdapterFile { architecture, alpha, tensors, metadata: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_match_whole_names() {
        let targets: Targets = "attn_q,attn_v".parse().unwrap();
        assert!(targets.contains("blk.0.attn_q.weight"));
        assert!(!targets.contains("blk.0.attn_q_norm.weight"));
        assert!(!targets.contains("blk.0.attn_output.weight"));
        assert!(Targets::AllLinear.contains("blk.3.ffn_down.weight"));
        assert!(!Targets::AllLinear.contains("output.weight"));
        assert!("attn_q,output".parse::<Targets>().is_err());
        assert!("".parse::<Targets>().is_err());
    }
}

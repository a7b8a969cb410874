//! LoRA: which layers get an update, and what it starts from.

use std::collections::HashSet;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::{ModelConfig, Target, Weights};
use crate::option::OptionError;
use crate::random;
use loam_files::adapter::weights::{LINEAR, ROUTER, all_kinds, kind_of};
use loam_files::adapter::{AdapterFile, Pair, is_lookup};

/// Which weights get an update.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Targets {
    /// Every linear layer of every block (PEFT's `all-linear`): no experts, nor the embedding, nor the head.
    #[default]
    AllLinear,
    /// These kinds in every block, by GGUF name without `blk.N.` and `.weight`, and `token_embd` or `output`.
    Kinds(Vec<String>),
}

impl Targets {
    /// The kinds of layers that `adapter` updates in `base`.
    pub fn of(adapter: &AdapterFile, base: &Gguf) -> Self {
        let updated = kinds(adapter.tensors.iter().map(|(name, _)| name.as_str()));
        let present = kinds(base.tensors().iter().map(|info| info.name.as_str()));
        let present: Vec<String> = present.into_iter().filter(|kind| LINEAR.contains(&kind.as_str())).collect();
        if updated == present { Targets::AllLinear } else { Targets::Kinds(updated) }
    }

    /// Whether the weight called `name` is meant. Names are compared whole: `attn_q` is not `attn_q_norm`.
    pub fn contains(&self, name: &str) -> bool {
        let kind = kind_of(name);
        match self {
            Targets::AllLinear => kind.is_some_and(|k| LINEAR.contains(&k)),
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

    /// `all-linear`, or a comma-separated list such as `attn_q,attn_v,token_embd`.
    fn from_str(text: &str) -> Result<Self> {
        if text == "all-linear" {
            return Ok(Targets::AllLinear);
        }
        let mut kinds: Vec<String> = Vec::new();
        for kind in text.split(',').map(str::trim) {
            if !all_kinds().any(|known| known == kind) {
                let known = all_kinds().collect::<Vec<_>>().join(", ");
                return Err(OptionError::unknown("targets", kind, format!("all-linear, or some of {known}")).into());
            }
            if !kinds.iter().any(|k| k == kind) {
                kinds.push(kind.to_owned());
            }
        }
        Ok(Targets::Kinds(kinds))
    }
}

/// The kinds of weights that occur in `names`.
fn kinds<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let found: HashSet<&str> = names.filter_map(kind_of).collect();
    all_kinds().filter(|kind| found.contains(kind)).map(str::to_owned).collect()
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
    /// A new adapter: A uniform in ±1/sqrt(in) (PEFT's Kaiming-uniform with a = sqrt(5)), B zero; on the embedding A zero
    /// and B standard normal, as in PEFT. Either way training starts from the base exactly.
    ///
    /// # Errors
    /// [`Error::Argument`] if the rank is 0 or larger than a target allows, alpha is no positive number, or the model
    /// has no layer of a kind that is asked for.
    pub fn start(&self, config: &ModelConfig, weights: &Weights) -> Result<AdapterFile> {
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(OptionError::range("alpha", self.alpha, "a positive number").into());
        }
        if let Targets::Kinds(asked) = &self.targets {
            let present = kinds(weights.targets().map(|target| target.name));
            if let Some(kind) = asked.iter().find(|kind| !present.contains(kind)) {
                let problem = format!("name {kind}, this model has {}", present.join(", "));
                return Err(OptionError::new("targets", problem).into());
            }
        }
        let mut tensors = Vec::new();
        for (stream, target) in weights.targets().enumerate().filter(|(_, target)| self.targets.contains(target.name)) {
            // PEFT too takes ranks above a router's few rows.
            let router = kind_of(target.name) == Some(ROUTER);
            let most = if router { target.cols } else { target.rows.min(target.cols) };
            if self.rank == 0 || self.rank > most {
                let problem = format!("is {}, {} allows 1 to {most}", self.rank, target.name);
                return Err(OptionError::new("rank", problem).into());
            }
            tensors.push((target.name.to_owned(), self.pair(target, stream as u32)));
        }
        let (architecture, alpha) = (config.architecture.to_owned(), self.alpha);
        Ok(AdapterFile { architecture, alpha, tensors, metadata: Vec::new() })
    }

    /// What the update of `target` starts from, drawn from `stream`.
    fn pair(&self, target: Target<'_>, stream: u32) -> Pair {
        let Target { name, rows, cols, matrices } = target;
        let rank = self.rank;
        if is_lookup(name) {
            let value = |i: usize| random::normal(self.seed, stream, i as u64) as f32;
            return Pair { a: vec![0.0; rows * rank], b: (0..cols * rank).map(value).collect(), rank, matrices };
        }
        let bound = 1.0 / (cols as f64).sqrt();
        let value = |i: usize| ((random::uniform(self.seed, stream, i as u64) * 2.0 - 1.0) * bound) as f32;
        let a = (0..matrices * rank * cols).map(value).collect();
        Pair { a, b: vec![0.0; matrices * rows * rank], rank, matrices }
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
        assert!(!Targets::AllLinear.contains("output.weight") && !Targets::AllLinear.contains("token_embd.weight"));
        let targets: Targets = "attn_q,output".parse().unwrap();
        assert!(targets.contains("output.weight") && !targets.contains("blk.0.attn_output.weight"));
        assert!(!targets.contains("output_norm.weight") && !targets.contains("blk.0.output.weight"));
        assert!("attn_q,embed".parse::<Targets>().is_err());
        assert!("".parse::<Targets>().is_err());
    }
}

//! Feed-forward layers made of experts: hyper-parameters, weights, and the layer itself.

use super::decoder::Pass;
use super::fields::Fields;
use super::linear::{self, sorts};
use crate::error::Result;
use crate::ops::moe;
use crate::plan::{Recorder, Tensor, Weight};

/// Most experts of a layer (llama.cpp: 512).
const MAX_EXPERTS: u32 = 1024;

/// Shape of a layer of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertsConfig {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that each token goes through.
    pub used: usize,
    /// Width of one expert.
    pub feed_forward: usize,
    /// Whether the weights of the chosen experts are scaled to a sum of 1.
    pub normalised: bool,
}

impl ExpertsConfig {
    pub(super) fn read(fields: &Fields<'_>, max_width: u32) -> Result<Self> {
        let count = fields.count("expert_count", MAX_EXPERTS)?;
        let used = fields.count("expert_used_count", count as u32)?;
        let feed_forward = fields.count("expert_feed_forward_length", max_width)?;
        // As llama.cpp always does for the architectures that have experts here.
        let normalised = fields.gguf.opt_bool(&fields.key("expert_weights_norm"))?.unwrap_or(true);
        Ok(Self { count, used, feed_forward, normalised })
    }
}

/// The weights of a layer of experts. The matrices of all experts lie one below the other.
#[derive(Debug, Clone)]
pub struct Experts {
    /// Router [E, D].
    pub router: Weight,
    /// Gate projections [E * F, D].
    pub gate: Weight,
    /// Up projections [E * F, D].
    pub up: Weight,
    /// Down projections [E * D, F].
    pub down: Weight,
    /// Experts that each token goes through.
    pub used: usize,
    /// Whether their weights are scaled to a sum of 1.
    pub normalised: bool,
}

impl Experts {
    /// Records the layer: h [T, D] -> [T, D], with the router's logits [T, E]. `glu` is the gated unit of the dense
    /// layers, here over a row per token and expert.
    pub(super) fn record(
        &self,
        r: &mut Recorder,
        pass: &Pass<'_>,
        label: &dyn Fn(&str) -> String,
        (h, logits): (Tensor, Tensor),
        glu: &dyn Fn(&mut Recorder, Tensor, Tensor) -> Tensor,
    ) -> Tensor {
        let mut routing = moe::route(r, &label("ffn_route"), logits, self.used, self.normalised);
        if [&self.gate, &self.up, &self.down].into_iter().any(|w| sorts(pass, w)) {
            routing.sort(r, &label("ffn_route"));
        }
        let gate = linear::experts(r, pass, h, &self.gate, &routing); // [T * used, F]
        let up = linear::experts(r, pass, h, &self.up, &routing); // [T * used, F]
        let g = glu(r, gate, up);
        let y = linear::experts(r, pass, g, &self.down, &routing); // [T * used, D]
        moe::combine(r, &label("ffn_combine"), y, &routing)
    }
}

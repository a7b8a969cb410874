//! Weights by their GGUF names.

use super::moe::Experts;
use crate::adapter::Target;
use crate::gguf::{OUTPUT, TOKEN_EMBD};
use crate::plan::{Tensor, Weight};

/// The projections of the attention's input.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one per layer, and none is moved around")]
pub enum Projections {
    /// One matrix each.
    Separate {
        /// Queries.
        q: Weight,
        /// Keys.
        k: Weight,
        /// Values.
        v: Weight,
    },
    /// The rows of all three in one matrix, in this order.
    Fused(Weight),
}

/// A gated feed-forward layer.
#[derive(Debug, Clone)]
pub enum FeedForward {
    /// One matrix each.
    Separate {
        /// Gate projection.
        gate: Weight,
        /// Up projection.
        up: Weight,
        /// Down projection.
        down: Weight,
    },
    /// Gate and up projection in one matrix.
    Fused {
        /// The rows of the gate, then those of the up projection.
        up: Weight,
        /// Down projection.
        down: Weight,
    },
    /// Many, of which a router picks a few for every token.
    Experts(Experts),
}

/// The weights of one decoder layer. Norms are f32[1, width].
#[derive(Debug, Clone)]
pub struct Layer {
    /// Norm before attention.
    pub attn_norm: Option<Tensor>,
    /// Query, key and value projections.
    pub attn_qkv: Projections,
    /// Norms of queries and keys.
    pub head_norms: Option<(Tensor, Tensor)>,
    /// Output projection of the attention.
    pub attn_output: Weight,
    /// Norm of the attention's result.
    pub post_attention_norm: Option<Tensor>,
    /// Norm before the feed-forward layer.
    pub ffn_norm: Option<Tensor>,
    /// The feed-forward layer.
    pub ffn: FeedForward,
    /// Norm of the feed-forward layer's result.
    pub post_ffw_norm: Option<Tensor>,
}

fn target<'a>(name: &'a str, weight: &Weight, matrices: usize) -> Target<'a> {
    Target { name, rows: weight.rows / matrices, cols: weight.cols, matrices }
}

impl Layer {
    /// Every weight that an adapter may target.
    fn targets(&self) -> Vec<Target<'_>> {
        let one = |w| (w, 1);
        let mut list = match &self.attn_qkv {
            Projections::Separate { q, k, v } => [q, k, v].map(one).to_vec(),
            Projections::Fused(qkv) => vec![one(qkv)],
        };
        list.push(one(&self.attn_output));
        match &self.ffn {
            FeedForward::Separate { gate, up, down } => list.extend([gate, up, down].map(one)),
            FeedForward::Fused { up, down } => list.extend([up, down].map(one)),
            FeedForward::Experts(experts) => {
                list.push(one(&experts.router));
                list.extend([&experts.gate, &experts.up, &experts.down].map(|w| (w, experts.router.rows)));
            }
        }
        list.into_iter().map(|(w, matrices)| target(&w.name, w, matrices)).collect()
    }
}

/// Divisors of the rotation frequencies, one per pair.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeFactors {
    /// There are none.
    None,
    /// `rope_freqs.weight` (llama3).
    All(Vec<f32>),
    /// Longrope's.
    ByContext {
        /// `rope_factors_short.weight`: contexts up to the original one.
        short: Vec<f32>,
        /// `rope_factors_long.weight`: longer contexts.
        long: Vec<f32>,
    },
}

impl RopeFactors {
    /// The divisors for runs of `context` tokens of a model that was first trained with `original` tokens.
    pub fn for_context(&self, context: usize, original: usize) -> Option<&[f32]> {
        match self {
            RopeFactors::None => None,
            RopeFactors::All(factors) => Some(factors),
            RopeFactors::ByContext { short, long } => Some(if context > original { long } else { short }),
        }
    }
}

/// All weights of a model.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Token embedding [V, D].
    pub token_embd: Weight,
    /// Decoder layers.
    pub layers: Vec<Layer>,
    /// Norm before the head, f32[1, D].
    pub output_norm: Tensor,
    /// Head [V, D]: the token embedding itself where the file has no `output.weight`.
    pub output: Weight,
    /// Divisors of the rotation frequencies.
    pub rope_factors: RopeFactors,
}

impl Weights {
    /// Every weight that an adapter may target: those of layers, then the embedding and the head. The name of a head
    /// that is the embedding is its own.
    pub fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        let others = [(TOKEN_EMBD, &self.token_embd), (OUTPUT, &self.output)];
        self.layers.iter().flat_map(Layer::targets).chain(others.map(|(name, w)| target(name, w, 1)))
    }
}

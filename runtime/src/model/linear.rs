//! Linear layers, the embedding and the head: the only places where adapters touch the model.

use super::Weight;
use super::decoder::Pass;
use crate::gguf::TOKEN_EMBD;
use crate::ops::dense::{LowRank, add_bias};
use crate::ops::embed::{self, embed};
use crate::ops::matmul::matmul;
use crate::ops::moe::{self, Routing};
use crate::ops::{importance, noise};
use crate::plan::{Recorder, Tensor};

/// y = x Wᵀ plus the bias, if there is one, with what every adapter does there: [T, w.cols] -> [T, w.rows].
pub(super) fn linear(r: &mut Recorder, pass: &Pass<'_>, x: Tensor, w: &Weight) -> Tensor {
    if let Some(watch) = pass.watches.and_then(|watches| watches.get(&w.name)) {
        importance::squares(r, &w.name, x, watch.sums);
    }
    let y = r.temporary(x.rows, w.rows);
    product(r, pass.sites.of(&w.name), x, w, y);
    y
}

/// The same into `y`, with what is done at one site.
fn product(r: &mut Recorder, updates: &[LowRank], x: Tensor, w: &Weight, y: Tensor) {
    matmul(r, x, w, updates, y);
    if let Some((bias, one)) = w.bias {
        add_bias(r, &w.name, bias, one, y);
    }
}

/// Logits of the rows of `x` [T, D] into `y` [T, V], with what adapters do at the head. `w` may be the embedding.
pub(super) fn head(r: &mut Recorder, updates: &[LowRank], x: Tensor, w: &Weight, y: Tensor) {
    product(r, updates, x, w, y);
}

/// The tokens' rows of the embedding plus every adapter's update on them, times the model's factor, as in Transformers
/// and PEFT. A head that is the embedding too has updates of its own.
pub(super) fn embedding(r: &mut Recorder, pass: &Pass<'_>) -> Tensor {
    let (tokens, w, scale) = (pass.inputs.tokens, &pass.weights.token_embd, pass.config.embedding_scale);
    let x = embed(r, tokens, w, scale);
    if let Some(on) = pass.inputs.noise {
        noise::add(r, "embedding_noise", on, x);
    }
    for site in pass.sites.of(TOKEN_EMBD) {
        embed::low_rank(r, &w.name, tokens, x, LowRank { scale: scale * site.scale, ..*site });
    }
    x
}

/// [`moe::experts`] and every adapter's update on it, with the inputs of a watched weight summed up.
pub(super) fn experts(r: &mut Recorder, pass: &Pass<'_>, x: Tensor, w: &Weight, routing: &Routing) -> Tensor {
    if let Some(watch) = pass.watches.and_then(|watches| watches.get(&w.name)) {
        let counts = watch.counts.expect("experts are watched with counts");
        importance::grouped(r, &w.name, x, routing, watch.sums, counts);
    }
    let y = moe::experts(r, x, w, routing);
    for site in pass.sites.of(&w.name) {
        moe::low_rank(r, &w.name, x, y, routing, *site);
    }
    y
}

/// Whether what is recorded for the stack of experts `w` needs the pairs sorted.
pub(super) fn sorts(pass: &Pass<'_>, w: &Weight) -> bool {
    let trained = pass.sites.of(&w.name).iter().any(|update| update.gradients.is_some());
    trained || pass.watches.is_some_and(|watches| watches.get(&w.name).is_some())
}

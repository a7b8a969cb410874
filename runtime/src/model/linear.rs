//! Linear layers, the embedding and the head: the only places where adapters touch the model.

use super::decoder::Pass;
use crate::adapter::{Embedded, Experts, Linear, Site};
use crate::gguf::TOKEN_EMBD;
use crate::ops::dense::add_bias;
use crate::ops::embed::embed;
use crate::ops::matmul::matmul;
use crate::ops::moe::{self, Routing};
use crate::ops::{elementwise, importance, noise};
use crate::plan::{Recorder, Tensor, Weight};

/// y = x Wᵀ plus the bias, if there is one, with what every adapter does there: [T, w.cols] -> [T, w.rows].
pub(super) fn linear(r: &mut Recorder, pass: &Pass<'_>, x: Tensor, w: &Weight) -> Tensor {
    if let Some(watch) = pass.watches.and_then(|watches| watches.get(&w.name)) {
        importance::squares(r, &w.name, x, watch.sums);
    }
    product(r, pass.sites.at(&w.name), x, w, None)
}

/// Logits [T, V] of the rows of `x` [T, D], with what adapters do at the head. `w` may be the embedding.
pub(super) fn head(r: &mut Recorder, sites: &[Site], x: Tensor, w: &Weight) -> Tensor {
    product(r, sites, x, w, None)
}

/// The same into `y`, without a way back.
pub(super) fn head_into(r: &mut Recorder, sites: &[Site], x: Tensor, w: &Weight, y: Tensor) {
    // What changes an output makes a new one of it.
    let direct = sites.iter().all(|site| site.tuning.record.output.is_none());
    let found = product(r, sites, x, w, direct.then_some(y));
    if !direct {
        elementwise::copy_to(r, &w.name, found, y);
    }
}

/// First every adapter changes the input, then their updates are part of the product, which goes to `y` if that says
/// where, and last every adapter changes the output.
fn product(r: &mut Recorder, sites: &[Site], x: Tensor, w: &Weight, y: Option<Tensor>) -> Tensor {
    let mut seen = x;
    for (site, input) in sites.iter().filter_map(|site| Some((site, site.tuning.record.input?))) {
        seen = input(r, site, w, seen);
    }
    let updates: Vec<_> = sites.iter().filter_map(|site| Some((site.tuning.record.update?)(site))).collect();
    let mut y = y.unwrap_or_else(|| r.temporary(x.rows, w.rows));
    matmul(r, seen, w, &updates, y);
    if let Some((bias, one)) = w.bias {
        add_bias(r, &w.name, bias, one, y);
    }
    for (site, output) in sites.iter().filter_map(|site| Some((site, site.tuning.record.output?))) {
        y = output(r, site, Linear { weight: w, x: seen, y });
    }
    y
}

/// The tokens' rows of the embedding with what every adapter does to them, times the model's factor, as in Transformers
/// and PEFT. What adapters do at a head that is the embedding too is not done here.
pub(super) fn embedding(r: &mut Recorder, pass: &Pass<'_>) -> Tensor {
    let (tokens, w, scale) = (pass.inputs.tokens, &pass.weights.token_embd, pass.config.embedding_scale);
    let rows = embed(r, tokens, w, scale);
    if let Some(on) = pass.inputs.noise {
        noise::add(r, "embedding_noise", on, rows);
    }
    for site in pass.sites.at(TOKEN_EMBD) {
        if let Some(embed) = site.tuning.record.embed {
            embed(r, site, Embedded { label: &w.name, tokens, rows, scale });
        }
    }
    rows
}

/// [`moe::experts`] with what every adapter does there, and with the inputs of a watched weight summed up.
pub(super) fn experts(r: &mut Recorder, pass: &Pass<'_>, x: Tensor, w: &Weight, routing: &Routing) -> Tensor {
    if let Some(watch) = pass.watches.and_then(|watches| watches.get(&w.name)) {
        let counts = watch.counts.expect("experts are watched with counts");
        importance::grouped(r, &w.name, x, routing, watch.sums, counts);
    }
    let y = moe::experts(r, x, w, routing);
    for site in pass.sites.at(&w.name) {
        if let Some(experts) = site.tuning.record.experts {
            experts(r, site, Experts { label: &w.name, x, y, routing });
        }
    }
    y
}

/// Whether what is recorded for the stack of experts `w` needs the pairs sorted.
pub(super) fn sorts(pass: &Pass<'_>, w: &Weight) -> bool {
    let trained = pass.sites.at(&w.name).iter().any(Site::is_trained);
    trained || pass.watches.is_some_and(|watches| watches.get(&w.name).is_some())
}

//! Mixture of experts: routing, products with each token's own experts, and their weighted sum.

use loam_shaders::moe::{self as kernels, Params, grouped};

use crate::model::{Weight, WeightPart};
use crate::plan::{Recorder, Tensor};

/// Which experts every token goes through. A *pair* is a token and one of its slots.
#[derive(Debug, Clone, Copy)]
pub struct Routing {
    params: Params,
    /// Experts, u32[T, slots].
    ids: Tensor,
    /// Their weights, which add up to 1 per token, [T, slots].
    weights: Tensor,
    /// The pairs by expert, u32[T * slots], and the tiles of that list. `None` for a few tokens: not worth a sort.
    sorted: Option<(Tensor, Tensor)>,
}

/// Picks the `slots` experts with the largest logits [T, E] for each token (of equal ones the first) and weighs them
/// with the softmax over those logits: the softmax over all experts, renormalised (`norm_topk_prob` of Qwen3-MoE).
/// The gradient passes through the weights; which experts are chosen is constant.
///
/// # Panics
/// If there are fewer experts than slots.
pub fn route(r: &mut Recorder, label: &str, logits: Tensor, slots: usize) -> Routing {
    let (tokens, experts) = (logits.rows, logits.cols);
    assert!((1..=experts).contains(&slots), "{label}: {slots} of {experts} experts");
    let params =
        Params { tokens: tokens as u32, experts: experts as u32, slots: slots as u32, ..bytemuck::Zeroable::zeroed() };
    let (ids, weights) = (r.temporary(tokens, slots), r.temporary(tokens, slots));
    r.call(label, kernels::route(params), &[logits.view(), ids.view(), weights.view()]);
    // Gradients go through the sorted products only.
    let sort = tokens > loam_shaders::matmul::VECTOR_TOKENS as usize || r.needs_gradient(logits);
    if r.needs_gradient(logits) {
        let label = label.to_owned();
        r.backward(weights, move |r, g| {
            let Some(dweights) = g.take(weights) else { return };
            let dlogits = r.temporary(tokens, experts);
            let bound = [ids.view(), weights.view(), dweights.view(), dlogits.view()];
            r.call(&label, kernels::route_backward(params), &bound);
            g.give(r, logits, dlogits);
        });
    }
    let mut routing = Routing { params, ids, weights, sorted: None };
    if sort {
        routing.sort(r, label);
    }
    routing
}

impl Routing {
    /// Sorts the pairs by expert, if they are not.
    pub fn sort(&mut self, r: &mut Recorder, label: &str) {
        if self.sorted.is_some() {
            return;
        }
        let params = self.params;
        let width = kernels::tiles(params.pairs(), params.experts);
        let counts = r.temporary(1, params.experts as usize);
        self.count(r, label, counts);
        let list = r.temporary(params.tokens as usize, params.slots as usize);
        let tiles = r.temporary(width as usize, 4);
        let bound = [self.ids.view(), counts.view(), list.view(), tiles.view()];
        r.call(label, kernels::place(Params { width, ..params }), &bound);
        self.sorted = Some((list, tiles));
    }

    /// counts u32[1, E] = the pairs of every expert. Returns how many there are in all.
    ///
    /// # Panics
    /// If `counts` has another length.
    pub fn count(&self, r: &mut Recorder, label: &str, counts: Tensor) -> usize {
        assert_eq!(counts.cols, self.params.experts as usize, "{label}: experts");
        r.call(label, kernels::count(self.params), &[self.ids.view(), counts.view()]);
        self.params.pairs() as usize
    }

    /// The pairs by expert, u32[T, slots], if they are sorted.
    pub fn list(&self) -> Option<Tensor> {
        self.sorted.map(|(list, _)| list)
    }
}

/// Products of every pair with its expert's rows of `w` [E * out, in]: `x` [T, in], or [T * slots, in] if it has a row
/// per pair -> [T * slots, out]. Backward as [`super::matmul::matmul`]: through the quantised weight, never a dW.
///
/// # Panics
/// If the shapes do not fit.
pub fn experts(r: &mut Recorder, x: Tensor, w: &Weight, routing: &Routing) -> Tensor {
    let (pairs, experts) = (routing.params.pairs() as usize, routing.params.experts as usize);
    assert!(x.rows == pairs || x.rows == routing.params.tokens as usize, "{}: rows of the input", w.name);
    assert_eq!((x.cols, w.rows % experts), (w.cols, 0), "{}: shape", w.name);
    let y = r.temporary(pairs, w.rows / experts);
    for part in &w.parts {
        let params = product(pairs, pairs / x.rows, w, part, y);
        let bound = [x.view(), part.view(), y.view()];
        match routing.sorted {
            None => r.call(&w.name, grouped::vector(params), &[&bound[..], &[routing.ids.view()]].concat()),
            Some((list, tiles)) => {
                let bound = [&bound[..], &[list.view(), tiles.view()]].concat();
                r.call(&w.name, grouped::tile(params, experts as u32), &bound);
            }
        }
    }
    if let (true, Some(sorted)) = (r.needs_gradient(x), routing.sorted) {
        let (w, routing) = (w.clone(), *routing);
        r.backward(y, move |r, g| {
            let Some(dy) = g.take(y) else { return };
            if x.rows == pairs {
                let (dx, add) = g.target(r, x);
                transposed(r, dy, &w, &routing, sorted, dx, add);
                return;
            }
            let dpairs = r.temporary(pairs, x.cols);
            transposed(r, dy, &w, &routing, sorted, dpairs, false);
            let (dx, add) = g.target(r, x);
            let params = Params { width: x.cols as u32, accumulate: add.into(), ..routing.params };
            r.call(&w.name, kernels::sum(params), &[dpairs.view(), dx.view()]);
        });
    }
    y
}

/// Records dx (+)= dy W per pair, one node per part of the weight.
fn transposed(
    r: &mut Recorder,
    dy: Tensor,
    w: &Weight,
    routing: &Routing,
    (list, tiles): (Tensor, Tensor),
    dx: Tensor,
    add: bool,
) {
    for (i, part) in w.parts.iter().enumerate() {
        let params = grouped::Params { accumulate: (add || i > 0).into(), ..product(dy.rows, 1, w, part, dy) };
        let bound = [dy.view(), part.view(), dx.view(), list.view(), tiles.view()];
        r.call(&w.name, grouped::transposed(params, routing.params.experts), &bound);
    }
}

/// Parameters of a product of `pairs` rows of `y`; `slots` of them share a row of x.
fn product(pairs: usize, slots: usize, w: &Weight, part: &WeightPart, y: Tensor) -> grouped::Params {
    grouped::Params {
        tokens: pairs as u32,
        inner: w.cols as u32,
        row0: part.row0 as u32,
        rows: part.rows as u32,
        stride: y.cols as u32,
        accumulate: 0,
        format: w.format.ggml_id(),
        slots: slots as u32,
    }
}

/// The sum of each token's pairs `y` [T * slots, D], weighted by the router -> [T, D]. The gradient reaches the pairs
/// and the weights.
pub fn combine(r: &mut Recorder, label: &str, y: Tensor, routing: &Routing) -> Tensor {
    let (tokens, weights) = (routing.params.tokens as usize, routing.weights);
    let params = Params { width: y.cols as u32, ..routing.params };
    let out = r.temporary(tokens, y.cols);
    r.call(label, kernels::combine(params), &[y.view(), weights.view(), out.view()]);
    if r.needs_gradient(y) || r.needs_gradient(weights) {
        let label = label.to_owned();
        r.backward(out, move |r, g| {
            let Some(dout) = g.take(out) else { return };
            let (dy, dweights) = (r.temporary(y.rows, y.cols), r.temporary(weights.rows, weights.cols));
            let bound = [y.view(), weights.view(), dout.view(), dy.view(), dweights.view()];
            r.call(&label, kernels::combine_backward(params), &bound);
            for (x, dx) in [(y, dy), (weights, dweights)] {
                if r.needs_gradient(x) {
                    g.give(r, x, dx);
                }
            }
        });
    }
    out
}

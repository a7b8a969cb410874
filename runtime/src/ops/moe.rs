//! Mixture of experts: routing, products with each token's own experts, and their weighted sum.

use loam_shaders::moe::{self as kernels, Params, grouped, low_rank as small};

use super::dense::LowRank;
use crate::plan::{Recorder, Tensor, Weight, WeightPart};

/// Which experts every token goes through. A *pair* is a token and one of its slots.
#[derive(Debug, Clone, Copy)]
pub struct Routing {
    params: Params,
    /// Experts, u32[T, slots].
    ids: Tensor,
    /// Their weights, [T, slots].
    weights: Tensor,
    /// The pairs by expert. `None` for a few tokens: not worth a sort.
    sorted: Option<Sorted>,
}

/// The pairs by expert.
#[derive(Debug, Clone, Copy)]
struct Sorted {
    /// How many each expert has, u32[1, E].
    counts: Tensor,
    /// The pairs, u32[T, slots].
    list: Tensor,
    /// The tiles of that list, u32[tiles, 4].
    tiles: Tensor,
}

/// Picks the `slots` experts with the largest logits [T, E] for each token (of equal ones the first) and weighs them
/// with the softmax over all experts, renormalised to a sum of 1 if `normalised` (`norm_topk_prob` of Qwen3-MoE).
/// The gradient passes through the weights; which experts are chosen is constant.
///
/// # Panics
/// If there are fewer experts than slots.
pub fn route(r: &mut Recorder, label: &str, logits: Tensor, slots: usize, normalised: bool) -> Routing {
    let (tokens, experts) = (logits.rows, logits.cols);
    assert!((1..=experts).contains(&slots), "{label}: {slots} of {experts} experts");
    let params = Params {
        tokens: tokens as u32,
        experts: experts as u32,
        slots: slots as u32,
        over_all: (!normalised).into(),
        ..bytemuck::Zeroable::zeroed()
    };
    let (ids, weights) = (r.temporary(tokens, slots), r.temporary(tokens, slots));
    r.call(label, kernels::route(params), &[logits.view(), ids.view(), weights.view()]);
    // Gradients go through the sorted products only.
    let sort = tokens > loam_shaders::matmul::VECTOR_TOKENS as usize || r.needs_gradient(logits);
    if r.needs_gradient(logits) {
        let label = label.to_owned();
        r.backward(weights, move |r, g| {
            let Some(dweights) = g.take(weights) else { return };
            let dlogits = r.temporary(tokens, experts);
            let bound = [logits.view(), ids.view(), weights.view(), dweights.view(), dlogits.view()];
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
        self.sorted = Some(Sorted { counts, list, tiles });
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
        self.sorted.map(|sorted| sorted.list)
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
            Some(Sorted { list, tiles, .. }) => {
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
            let target = g.target(r, x);
            sum_slots(r, &w.name, &routing, dpairs, target);
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
    Sorted { list, tiles, .. }: Sorted,
    dx: Tensor,
    add: bool,
) {
    for (i, part) in w.parts.iter().enumerate() {
        let params = grouped::Params { accumulate: (add || i > 0).into(), ..product(dy.rows, 1, w, part, dy) };
        let bound = [dy.view(), part.view(), dx.view(), list.view(), tiles.view()];
        r.call(&w.name, grouped::transposed(params, routing.params.experts), &bound);
    }
}

/// y += scale (x Aᵀ) Bᵀ in place, for each pair with A [rank, in] and B [out, rank] of its own expert; the experts'
/// matrices lie one below the other. `x` as in [`experts`], y [T * slots, out].
///
/// Backward as [`super::dense`], for each expert over its own pairs.
///
/// # Panics
/// If the update is trained and the pairs are not sorted.
pub fn low_rank(r: &mut Recorder, label: &str, x: Tensor, y: Tensor, routing: &Routing, l: LowRank) {
    let (routing, slots) = (*routing, (y.rows / x.rows) as u32);
    let rank = l.b.cols;
    let u = r.temporary(y.rows, rank);
    small_product(r, label, &routing, Small { slots, ..Small::new(x, l.a, u) });
    small_product(r, label, &routing, Small { alpha: l.scale, add: true, ..Small::new(u, l.b, y) });
    assert!(l.gradients.is_none() || routing.sorted.is_some(), "{label}: pairs of a trained update are sorted");
    if !r.needs_gradient(x) && l.gradients.is_none() {
        return;
    }
    let label = label.to_owned();
    r.backward(y, move |r, g| {
        // Kept, not taken: the product that first wrote y comes later in the walk.
        let Some(dy) = g.get(y) else { return };
        let du = r.temporary(y.rows, rank);
        small_product(r, &label, &routing, Small { alpha: l.scale, transposed: true, ..Small::new(dy, l.b, du) });
        if let (Some((da, db)), Some(sorted)) = (l.gradients, routing.sorted) {
            outer(r, &label, &routing, sorted, Outer { a: dy, b: u, slots: 1, alpha: l.scale, dw: db });
            outer(r, &label, &routing, sorted, Outer { a: du, b: x, slots, alpha: 1.0, dw: da });
        }
        if !r.needs_gradient(x) {
            return;
        }
        if slots == 1 {
            let (dx, add) = g.target(r, x);
            small_product(r, &label, &routing, Small { transposed: true, add, ..Small::new(du, l.a, dx) });
            return;
        }
        let dpairs = r.temporary(y.rows, x.cols);
        small_product(r, &label, &routing, Small { transposed: true, ..Small::new(du, l.a, dpairs) });
        let target = g.target(r, x);
        sum_slots(r, &label, &routing, dpairs, target);
    });
}

/// A product of pairs with the small matrices of their experts: c (+)= alpha a wᵀ, or alpha a w.
#[derive(Clone, Copy)]
struct Small {
    a: Tensor,
    /// Pairs that share a row of `a`.
    slots: u32,
    /// The matrices of all experts, one below the other.
    w: Tensor,
    /// alpha a w instead of alpha a wᵀ.
    transposed: bool,
    alpha: f32,
    c: Tensor,
    /// Add to `c` instead of overwriting it.
    add: bool,
}

impl Small {
    /// c = a wᵀ with a row of a for each pair.
    fn new(a: Tensor, w: Tensor, c: Tensor) -> Self {
        Self { a, slots: 1, w, transposed: false, alpha: 1.0, c, add: false }
    }
}

fn small_product(r: &mut Recorder, label: &str, routing: &Routing, product: Small) {
    let Small { a, slots, w, transposed, alpha, c, add } = product;
    let params = small::Params {
        pairs: c.rows as u32,
        experts: routing.params.experts,
        slots,
        n: c.cols as u32,
        k: a.cols as u32,
        transposed: transposed.into(),
        accumulate: add.into(),
        alpha,
    };
    r.call(label, small::product(params), &[a.view(), w.view(), routing.ids.view(), c.view()]);
}

/// A gradient of small matrices: dw += alpha aᵀ b over each expert's pairs.
struct Outer {
    a: Tensor,
    b: Tensor,
    /// Pairs that share a row of `b`.
    slots: u32,
    alpha: f32,
    dw: Tensor,
}

fn outer(r: &mut Recorder, label: &str, routing: &Routing, sorted: Sorted, product: Outer) {
    let Outer { a, b, slots, alpha, dw } = product;
    let params = small::Params {
        pairs: a.rows as u32,
        experts: routing.params.experts,
        slots,
        n: a.cols as u32,
        k: b.cols as u32,
        alpha,
        ..bytemuck::Zeroable::zeroed()
    };
    let bound = [a.view(), b.view(), sorted.counts.view(), sorted.list.view(), dw.view()];
    r.call(label, small::outer(params), &bound);
}

/// Records dx (+)= the sum of each token's pairs.
fn sum_slots(r: &mut Recorder, label: &str, routing: &Routing, dpairs: Tensor, (dx, add): (Tensor, bool)) {
    let params = Params { width: dx.cols as u32, accumulate: add.into(), ..routing.params };
    r.call(label, kernels::sum(params), &[dpairs.view(), dx.view()]);
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

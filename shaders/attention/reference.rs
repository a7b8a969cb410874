//! Plain loops in f64 for every attention kernel: the specification.

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};
use crate::softcap::{capped, slope};
use std::ops::Range;

/// Where things are: offsets of heads and the keys that a query sees.
#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    pub(super) p: Params,
    pub(super) past: usize,
    pub(super) starts: &'a [u32],
}

impl Shape<'_> {
    /// Batch, query and query head of every row of `stats`, in order.
    fn rows(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (batch, queries, heads) = (self.p.batch as usize, self.p.queries as usize, self.p.heads as usize);
        (0..batch * queries * heads).map(move |row| (row / heads / queries, row / heads % queries, row % heads))
    }

    /// Row of `stats`.
    pub(super) fn row(&self, batch: usize, query: usize, head: usize) -> usize {
        (batch * self.p.queries as usize + query) * self.p.heads as usize + head
    }

    /// Elements of a query head in `q`, `out`, `dout`, `dq`.
    fn query(&self, batch: usize, query: usize, head: usize) -> Range<usize> {
        let dim = self.p.head_dim as usize;
        let at = self.row(batch, query, head) * dim;
        at..at + dim
    }

    /// Elements of the key/value head that query head `head` reads at key `key`.
    pub(super) fn key(&self, batch: usize, key: usize, head: usize) -> Range<usize> {
        let (dim, kv_heads) = (self.p.head_dim as usize, self.p.kv_heads as usize);
        let kv_head = head / (self.p.heads as usize / kv_heads);
        let at = ((batch * self.p.keys as usize + key) * kv_heads + kv_head) * dim;
        at..at + dim
    }

    /// Keys that a query sees.
    pub(super) fn visible(&self, batch: usize, query: usize) -> Range<usize> {
        let end = self.past + query + 1;
        let window = if self.p.window == 0 { end } else { self.p.window as usize };
        let start = self.starts[batch * self.p.queries as usize + query] as usize;
        start.max(end.saturating_sub(window))..end.min(self.p.keys as usize)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn add_scaled(sum: &mut [f64], factor: f64, row: &[f32]) {
    for (sum, &x) in sum.iter_mut().zip(row) {
        *sum += factor * f64::from(x);
    }
}

fn round_into(out: &mut [f32], values: &[f64]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = value as f32;
    }
}

pub(super) fn forward(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [q, k, v, starts, out, stats] = operands(bound);
    let (q, k, v, out, stats) = (q.f32(), k.f32(), v.f32(), out.f32_mut(), stats.f32_mut());
    let shape = Shape { p, past: step.past as usize, starts: starts.words() };
    for (batch, query, head) in shape.rows() {
        let row = &q[shape.query(batch, query, head)];
        let keys = shape.visible(batch, query);
        let score = |key| capped(f64::from(p.scale) * dot(row, &k[shape.key(batch, key, head)]), p.softcap);
        let scores: Vec<f64> = keys.clone().map(score).collect();
        let max = scores.iter().fold(f64::MIN, |max, &s| max.max(s));
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        let log_sum = if scores.is_empty() { 0.0 } else { max + sum.ln() };
        let mut mean = vec![0.0; p.head_dim as usize];
        for (key, score) in keys.zip(&scores) {
            add_scaled(&mut mean, (score - log_sum).exp(), &v[shape.key(batch, key, head)]);
        }
        round_into(&mut out[shape.query(batch, query, head)], &mean);
        stats[2 * shape.row(batch, query, head)] = log_sum as f32;
    }
}

pub(super) fn backward_prepare(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [dout, out, stats] = operands(bound);
    let (dout, out, stats) = (dout.f32(), out.f32(), stats.f32_mut());
    let dim = p.head_dim as usize;
    for row in 0..(p.batch * p.queries * p.heads) as usize {
        let at = row * dim..(row + 1) * dim;
        stats[2 * row + 1] = dot(&dout[at.clone()], &out[at]) as f32;
    }
}

/// The read-only bindings that both gradient kernels share.
struct Inputs<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    dout: &'a [f32],
    stats: &'a [f32],
}

impl Inputs<'_> {
    /// `P` and `dS` of one query and key.
    fn probability(&self, shape: &Shape<'_>, (batch, query, head): (usize, usize, usize), key: usize) -> (f64, f64) {
        let (at, key) = (shape.query(batch, query, head), shape.key(batch, key, head));
        let row = 2 * shape.row(batch, query, head);
        let scale = f64::from(shape.p.scale);
        let score = capped(scale * dot(&self.q[at.clone()], &self.k[key.clone()]), shape.p.softcap);
        let p = (score - f64::from(self.stats[row])).exp();
        let dp = dot(&self.dout[at], &self.v[key]);
        (p, p * (dp - f64::from(self.stats[row + 1])) * scale * slope(score, shape.p.softcap))
    }
}

pub(super) fn backward_q(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [q, k, v, starts, dout, stats, dq] = operands(bound);
    let inputs = Inputs { q: q.f32(), k: k.f32(), v: v.f32(), dout: dout.f32(), stats: stats.f32() };
    let shape = Shape { p, past: step.past as usize, starts: starts.words() };
    let dq = dq.f32_mut();
    for (batch, query, head) in shape.rows() {
        let mut sum = vec![0.0; p.head_dim as usize];
        for key in shape.visible(batch, query) {
            let (_, ds) = inputs.probability(&shape, (batch, query, head), key);
            add_scaled(&mut sum, ds, &inputs.k[shape.key(batch, key, head)]);
        }
        round_into(&mut dq[shape.query(batch, query, head)], &sum);
    }
}

pub(super) fn backward_kv(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [q, k, v, starts, dout, stats, dk, dv] = operands(bound);
    let inputs = Inputs { q: q.f32(), k: k.f32(), v: v.f32(), dout: dout.f32(), stats: stats.f32() };
    let shape = Shape { p, past: step.past as usize, starts: starts.words() };
    let len = (p.batch * p.keys * p.kv_heads * p.head_dim) as usize;
    let (mut dk_sum, mut dv_sum) = (vec![0.0; len], vec![0.0; len]);
    for (batch, query, head) in shape.rows() {
        let at = shape.query(batch, query, head);
        for key in shape.visible(batch, query) {
            let (p, ds) = inputs.probability(&shape, (batch, query, head), key);
            let target = shape.key(batch, key, head);
            add_scaled(&mut dk_sum[target.clone()], ds, &inputs.q[at.clone()]);
            add_scaled(&mut dv_sum[target], p, &inputs.dout[at.clone()]);
        }
    }
    round_into(dk.f32_mut(), &dk_sum);
    round_into(dv.f32_mut(), &dv_sum);
}

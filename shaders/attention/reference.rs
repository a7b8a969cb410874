//! Plain loops in f64 for every attention kernel: the specification.

use super::{BLOCK, Params};
use crate::Step;
use crate::kernel::{Bind, operands, params};
use crate::softcap::{capped, slope};
use std::ops::Range;

/// Where keys and values are, and which of them a query sees.
#[derive(Clone, Copy)]
pub(super) enum Keys<'a> {
    /// Beside the queries of the same sequence.
    Own { starts: &'a [u32] },
    /// In blocks that tables list.
    Paged { spans: &'a [u32], tables: &'a [u32] },
}

/// Where things are: offsets of heads and the keys that a query sees. Rows are those of `q`: `batch * queries`.
#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    pub(super) p: Params,
    pub(super) keys: Keys<'a>,
}

impl Shape<'_> {
    /// Rows of `q`.
    pub(super) fn rows(&self) -> usize {
        self.p.batch as usize * self.p.queries as usize
    }

    /// Row and query head of every row of `stats`, in order.
    fn heads(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let heads = self.p.heads as usize;
        (0..self.rows() * heads).map(move |row| (row / heads, row % heads))
    }

    /// Row of `stats`.
    pub(super) fn stats(&self, row: usize, head: usize) -> usize {
        row * self.p.heads as usize + head
    }

    /// Elements of a query head in `q`, `out`, `dout`, `dq`.
    fn query(&self, row: usize, head: usize) -> Range<usize> {
        let dim = self.p.head_dim as usize;
        let at = self.stats(row, head) * dim;
        at..at + dim
    }

    /// The sequence of a row: its place in the batch, or where its table begins.
    pub(super) fn sequence(&self, row: usize) -> usize {
        match self.keys {
            Keys::Own { .. } => row / self.p.queries as usize,
            Keys::Paged { spans, .. } => spans[3 * row + 2] as usize,
        }
    }

    /// Elements of the key/value head that query head `head` reads at key `key` of a sequence.
    pub(super) fn key(&self, sequence: usize, key: usize, head: usize) -> Range<usize> {
        let (dim, kv_heads) = (self.p.head_dim as usize, self.p.kv_heads as usize);
        let kv_head = head / (self.p.heads as usize / kv_heads);
        let row = match self.keys {
            Keys::Own { .. } => sequence * self.p.queries as usize + key,
            Keys::Paged { tables, .. } => tables[sequence + key / BLOCK] as usize * BLOCK + key % BLOCK,
        };
        let at = (row * kv_heads + kv_head) * dim;
        at..at + dim
    }

    /// Keys that a row sees.
    pub(super) fn visible(&self, row: usize) -> Range<usize> {
        let (start, end) = match self.keys {
            Keys::Own { starts } => (starts[row] as usize, row % self.p.queries as usize + 1),
            Keys::Paged { spans, .. } => (spans[3 * row] as usize, spans[3 * row + 1] as usize),
        };
        let window = if self.p.window == 0 { end } else { self.p.window as usize };
        start.max(end.saturating_sub(window))..end
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

pub(super) fn forward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let [q, k, v, starts, out, stats] = operands(bound);
    let shape = Shape { p: params(bytes), keys: Keys::Own { starts: starts.words() } };
    let stats = stats.f32_mut();
    attend(shape, [q.f32(), k.f32(), v.f32()], out.f32_mut(), |row, log_sum| stats[2 * row] = log_sum);
}

pub(super) fn forward_paged(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let [q, k, v, spans, tables, out] = operands(bound);
    let keys = Keys::Paged { spans: spans.words(), tables: tables.words() };
    attend(Shape { p: params(bytes), keys }, [q.f32(), k.f32(), v.f32()], out.f32_mut(), |_, _| ());
}

/// The output of every row and head; `keep` gets its row of `stats` and its log-sum-exp.
fn attend(shape: Shape<'_>, [q, k, v]: [&[f32]; 3], out: &mut [f32], mut keep: impl FnMut(usize, f32)) {
    let p = shape.p;
    for (row, head) in shape.heads() {
        let (query, sequence) = (&q[shape.query(row, head)], shape.sequence(row));
        let keys = shape.visible(row);
        let score = |key| capped(f64::from(p.scale) * dot(query, &k[shape.key(sequence, key, head)]), p.softcap);
        let scores: Vec<f64> = keys.clone().map(score).collect();
        let max = scores.iter().fold(f64::MIN, |max, &s| max.max(s));
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        let log_sum = if scores.is_empty() { 0.0 } else { max + sum.ln() };
        let mut mean = vec![0.0; p.head_dim as usize];
        for (key, score) in keys.zip(&scores) {
            add_scaled(&mut mean, (score - log_sum).exp(), &v[shape.key(sequence, key, head)]);
        }
        round_into(&mut out[shape.query(row, head)], &mean);
        keep(shape.stats(row, head), log_sum as f32);
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
    fn probability(&self, shape: &Shape<'_>, (row, head): (usize, usize), key: usize) -> (f64, f64) {
        let (at, key) = (shape.query(row, head), shape.key(shape.sequence(row), key, head));
        let stats = 2 * shape.stats(row, head);
        let scale = f64::from(shape.p.scale);
        let score = capped(scale * dot(&self.q[at.clone()], &self.k[key.clone()]), shape.p.softcap);
        let p = (score - f64::from(self.stats[stats])).exp();
        let dp = dot(&self.dout[at], &self.v[key]);
        (p, p * (dp - f64::from(self.stats[stats + 1])) * scale * slope(score, shape.p.softcap))
    }
}

pub(super) fn backward_q(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [q, k, v, starts, dout, stats, dq] = operands(bound);
    let inputs = Inputs { q: q.f32(), k: k.f32(), v: v.f32(), dout: dout.f32(), stats: stats.f32() };
    let shape = Shape { p, keys: Keys::Own { starts: starts.words() } };
    let dq = dq.f32_mut();
    for (row, head) in shape.heads() {
        let mut sum = vec![0.0; p.head_dim as usize];
        for key in shape.visible(row) {
            let (_, ds) = inputs.probability(&shape, (row, head), key);
            add_scaled(&mut sum, ds, &inputs.k[shape.key(shape.sequence(row), key, head)]);
        }
        round_into(&mut dq[shape.query(row, head)], &sum);
    }
}

pub(super) fn backward_kv(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [q, k, v, starts, dout, stats, dk, dv] = operands(bound);
    let inputs = Inputs { q: q.f32(), k: k.f32(), v: v.f32(), dout: dout.f32(), stats: stats.f32() };
    let shape = Shape { p, keys: Keys::Own { starts: starts.words() } };
    let len = (p.batch * p.queries * p.kv_heads * p.head_dim) as usize;
    let (mut dk_sum, mut dv_sum) = (vec![0.0; len], vec![0.0; len]);
    for (row, head) in shape.heads() {
        let at = shape.query(row, head);
        for key in shape.visible(row) {
            let (p, ds) = inputs.probability(&shape, (row, head), key);
            let target = shape.key(shape.sequence(row), key, head);
            add_scaled(&mut dk_sum[target.clone()], ds, &inputs.q[at.clone()]);
            add_scaled(&mut dv_sum[target], p, &inputs.dout[at.clone()]);
        }
    }
    round_into(dk.f32_mut(), &dk_sum);
    round_into(dv.f32_mut(), &dv_sum);
}

//! Fast host functions of `attention`: tiles of queries against tiles of keys, products on one thread per task.
//!
//! A task owns a tile of query rows of one head (`forward`, `backward_q`) or a tile of key rows of one key/value head
//! (`backward_kv`), so nothing is added from two tasks and the order of all sums is fixed. Tiles of keys that no query
//! of the tile sees are left out, whatever they hold.

use std::ops::Range;

use rayon::prelude::*;

use super::reference::{Keys, Shape};
use super::{BLOCK, Params};
use crate::Step;
use crate::kernel::{Bind, operands, params};
use crate::simd::Simd;
use crate::simd::slices::{dot, exp, exp_sum, max};
use crate::softcap::cpu::{cap_all, capped, slope};
use crate::tiles::{Product, Strided, Tiles, cuts, grid, with_scratch};

/// Query rows of a tile.
const QUERIES: usize = 64;
/// Key rows of a tile of `forward` and `backward_q`.
const KEYS: usize = 128;
/// Key rows of a task of `backward_kv`.
const OWN_KEYS: usize = 64;
/// Rows of `stats` that a task of `backward_prepare` takes.
const PREPARE_ROWS: usize = 256;

/// A tile of query rows of one sequence and one head.
#[derive(Clone, Copy)]
struct Queries {
    sequence: usize,
    head: usize,
    /// First row of `q`.
    first: usize,
    count: usize,
}

/// Shapes, and the matrices that the kernels read.
#[derive(Clone, Copy)]
struct View<'a> {
    shape: Shape<'a>,
    q_width: usize,
    k_width: usize,
    dim: usize,
}

impl<'a> View<'a> {
    fn new(p: Params, keys: Keys<'a>) -> Self {
        let dim = p.head_dim as usize;
        let (q_width, k_width) = (p.heads as usize * dim, p.kv_heads as usize * dim);
        Self { shape: Shape { p, keys }, q_width, k_width, dim }
    }

    /// First row and length of each sequence.
    fn sequences(&self) -> Vec<(usize, usize)> {
        let mut all: Vec<(usize, usize)> = Vec::new();
        for row in 0..self.shape.rows() {
            match all.last_mut() {
                Some((first, count)) if self.shape.sequence(*first) == self.shape.sequence(row) => *count += 1,
                _ => all.push((row, 1)),
            }
        }
        all
    }

    /// Every head's query tiles of every sequence.
    fn query_tiles(&self) -> Vec<Queries> {
        let heads = grid(self.sequences().into_iter(), cuts(self.shape.p.heads as usize, 1));
        let tile = |((row, rows), (head, _)): ((usize, usize), (usize, usize))| {
            let sequence = self.shape.sequence(row);
            cuts(rows, QUERIES).map(move |(first, count)| Queries { sequence, head, first: row + first, count })
        };
        heads.into_iter().flat_map(tile).collect()
    }

    /// `c += a * b` with `m` rows as wide as a head and a sum over `k`.
    fn added<'s>(&self, a: Strided<'s>, b: Strided<'s>, m: usize, k: usize) -> Product<'s> {
        Product { a, b, m, n: self.dim, k, alpha: 1.0, accumulate: true }
    }

    /// A tile of `q` or `dout`.
    fn queries(&self, data: &'a [f32], tile: Queries) -> Strided<'a> {
        Strided::rows(&data[tile.first * self.q_width + tile.head * self.dim..], self.q_width)
    }

    /// Rows of `k` or `v` from `key` on, of the head that query head `head` reads; in tables up to the end of a block.
    fn keys(&self, data: &'a [f32], tile: Queries, key: usize) -> Strided<'a> {
        Strided::rows(&data[self.shape.key(tile.sequence, key, tile.head).start..], self.k_width)
    }

    /// Cuts a tile of `keys` keys into pieces that lie side by side: first key in the tile, and their number.
    fn pieces(&self, keys: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        cuts(keys, if let Keys::Paged { .. } = self.shape.keys { BLOCK } else { keys })
    }

    /// Keys that query `index` of a tile sees. The start is never after the end.
    fn visible(&self, tile: Queries, index: usize) -> Range<usize> {
        let keys = self.shape.visible(tile.first + index);
        keys.start.min(keys.end)..keys.end
    }

    /// From the first to the last key that any query of a tile sees. Of keys in tables whole tiles from the first key
    /// on, so that sums have the same order whatever else is in the tile.
    fn span(&self, tile: Queries) -> Range<usize> {
        let seen = (0..tile.count).map(|index| self.visible(tile, index)).filter(|keys| !keys.is_empty());
        let all = seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        match self.shape.keys {
            Keys::Own { .. } => all,
            Keys::Paged { .. } => all.start / KEYS * KEYS..all.end,
        }
    }

    /// The part of `key..key + keys` that query `index` sees, relative to `key`.
    fn inside(&self, tile: Queries, index: usize, key: usize, keys: usize) -> Range<usize> {
        let seen = self.visible(tile, index);
        let clip = |at: usize| at.clamp(key, key + keys) - key;
        clip(seen.start)..clip(seen.end)
    }
}

pub(super) fn forward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [q, k, v, starts, out, stats] = operands(bound);
    let view = View::new(p, Keys::Own { starts: starts.words() });
    let stats = Tiles::new(stats.f32_mut(), view.shape.rows(), 2 * p.heads as usize, 2 * p.heads as usize);
    attend(view, [q.f32(), k.f32(), v.f32()], out.f32_mut(), Some(&stats));
}

pub(super) fn forward_paged(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [q, k, v, spans, tables, out] = operands(bound);
    let view = View::new(p, Keys::Paged { spans: spans.words(), tables: tables.words() });
    attend(view, [q.f32(), k.f32(), v.f32()], out.f32_mut(), None);
}

/// Online softmax over key tiles (Milakov & Gimelshein 2018): scores are shifted by the maximum so far, what was summed
/// under an older maximum is scaled down.
fn attend<'a>(view: View<'a>, [q, k, v]: [&'a [f32]; 3], out: &mut [f32], stats: Option<&Tiles<'_>>) {
    let p = view.shape.p;
    let out = Tiles::new(out, view.shape.rows(), view.q_width, view.q_width);
    view.query_tiles().into_par_iter().for_each(|tile| {
        with_scratch(QUERIES * KEYS, |scores| {
            let (mut maxima, mut sums) = ([f32::NEG_INFINITY; QUERIES], [0.0; QUERIES]);
            let place = (tile.first, tile.head * view.dim);
            // SAFETY: the task owns these rows of its head.
            let out_row = |index: usize| unsafe { out.row(place.0 + index, place.1, view.dim) };
            (0..tile.count).for_each(|index| out_row(index).fill(0.0));
            let span = view.span(tile);
            for (offset, keys) in cuts(span.len(), KEYS) {
                let key = span.start + offset;
                let scores = &mut scores[..tile.count * keys];
                for (at, count) in view.pieces(keys) {
                    let (a, b) = (view.queries(q, tile), view.keys(k, tile, key + at).transposed());
                    let (m, n, k) = (tile.count, count, view.dim);
                    product(scores, keys, at, Product { a, b, m, n, k, alpha: p.scale, accumulate: false });
                }
                for (index, scores) in scores.chunks_exact_mut(keys).enumerate() {
                    let seen = view.inside(tile, index, key, keys);
                    if p.softcap != 0.0 {
                        cap_all(&mut scores[seen.clone()], p.softcap);
                    }
                    let factor = soften(scores, seen, &mut maxima[index], &mut sums[index]);
                    if factor != 1.0 {
                        out_row(index).iter_mut().for_each(|x| *x *= factor);
                    }
                }
                for (at, count) in view.pieces(keys) {
                    let weights = Strided::rows(&scores[at..], keys);
                    let weighted = view.added(weights, view.keys(v, tile, key + at), tile.count, count);
                    // SAFETY: the task owns these rows of its head.
                    unsafe { out.product(place.0, place.1, weighted) };
                }
            }
            for index in 0..tile.count {
                let (max, sum) = (maxima[index], sums[index]);
                let seen = !view.visible(tile, index).is_empty();
                if let Some(stats) = stats {
                    // SAFETY: the task owns these rows of its head.
                    let log_sum = unsafe { stats.row(place.0 + index, 2 * tile.head, 1) };
                    log_sum[0] = if seen { max + sum.ln() } else { 0.0 };
                }
                if seen {
                    out_row(index).iter_mut().for_each(|x| *x /= sum);
                }
            }
        });
    });
}

/// Turns one row of scores into weights under the new maximum, zeros outside of `seen`. Returns the factor on what was
/// summed before.
fn soften(scores: &mut [f32], seen: Range<usize>, maximum: &mut f32, sum: &mut f32) -> f32 {
    scores[..seen.start].fill(0.0);
    scores[seen.end..].fill(0.0);
    if seen.is_empty() {
        return 1.0;
    }
    let scores = &mut scores[seen];
    let new = max(scores).max(*maximum);
    let factor = (*maximum - new).exp();
    *sum = *sum * factor + exp_sum(scores, 1.0, new);
    *maximum = new;
    factor
}

/// A product into the columns from `at` on of scratch rows of `cols` numbers.
fn product(c: &mut [f32], cols: usize, at: usize, product: Product<'_>) {
    let c = Tiles::new(c, product.m, cols, cols);
    // SAFETY: `c` is borrowed for this call alone.
    unsafe { c.product(0, at, product) };
}

/// `stats[.., 1] = rowsum(dout * out)`
pub(super) fn backward_prepare(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [dout, out, stats] = operands(bound);
    let (dout, out, dim) = (dout.f32(), out.f32(), p.head_dim as usize);
    let rows = p.batch as usize * p.queries as usize * p.heads as usize;
    let tasks = stats.f32_mut()[..2 * rows].par_chunks_mut(2 * PREPARE_ROWS);
    let inputs = dout.par_chunks(dim * PREPARE_ROWS).zip(out.par_chunks(dim * PREPARE_ROWS));
    tasks.zip(inputs).for_each(|(stats, (dout, out))| {
        for (stats, (dout, out)) in stats.chunks_exact_mut(2).zip(dout.chunks_exact(dim).zip(out.chunks_exact(dim))) {
            stats[1] = dot(dout, out);
        }
    });
}

/// What both gradient kernels read.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    view: View<'a>,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    dout: &'a [f32],
    stats: &'a [f32],
}

impl<'a> Inputs<'a> {
    /// Probabilities and gradients of the scores of a tile of queries and `keys` keys, zeros where a key is not seen.
    fn tile(&self, tile: Queries, key: usize, keys: usize, p: &mut [f32], ds: &mut [f32]) {
        let view = &self.view;
        let (k, v) = (view.keys(self.k, tile, key).transposed(), view.keys(self.v, tile, key).transposed());
        let Params { scale, softcap, .. } = view.shape.p;
        let of = |a, b, alpha| Product { a, b, m: tile.count, n: keys, k: view.dim, alpha, accumulate: false };
        product(p, keys, 0, of(view.queries(self.q, tile), k, scale));
        product(ds, keys, 0, of(view.queries(self.dout, tile), v, 1.0));
        for (index, (p, ds)) in p.chunks_exact_mut(keys).zip(ds.chunks_exact_mut(keys)).enumerate() {
            let seen = view.inside(tile, index, key, keys);
            let stats = 2 * view.shape.stats(tile.first + index, tile.head);
            for row in [&mut *p, &mut *ds] {
                row[..seen.start].fill(0.0);
                row[seen.end..].fill(0.0);
            }
            let (p, ds) = (&mut p[seen.clone()], &mut ds[seen]);
            let (log_sum, delta) = (self.stats[stats], self.stats[stats + 1]);
            if softcap == 0.0 {
                probabilities(p, ds, log_sum, delta, scale);
            } else {
                capped_probabilities(p, ds, log_sum, delta, scale, softcap);
            }
        }
    }
}

crate::vectorized! {
    /// `p = exp(p - log_sum)`, `ds = p * (ds - delta) * scale`
    fn probabilities(p: &mut [f32], ds: &mut [f32], log_sum: f32, delta: f32, scale: f32) = probabilities_body
}

#[inline(always)]
fn probabilities_body<S: Simd>(_: S, p: &mut [f32], ds: &mut [f32], log_sum: f32, delta: f32, scale: f32) {
    for (p, ds) in p.iter_mut().zip(ds) {
        *p = exp::<S>(*p - log_sum);
        *ds = *p * (*ds - delta) * scale;
    }
}

crate::vectorized! {
    /// [`probabilities`] of scores to be capped: `ds` has the factor `1 - (score / cap)^2` too.
    fn capped_probabilities(
        p: &mut [f32], ds: &mut [f32], log_sum: f32, delta: f32, scale: f32, cap: f32,
    ) = capped_probabilities_body
}

#[inline(always)]
fn capped_probabilities_body<S: Simd>(
    _: S,
    p: &mut [f32],
    ds: &mut [f32],
    log_sum: f32,
    delta: f32,
    scale: f32,
    cap: f32,
) {
    for (p, ds) in p.iter_mut().zip(ds) {
        let score = capped::<S>(*p, cap);
        *p = exp::<S>(score - log_sum);
        *ds = *p * (*ds - delta) * scale * slope(score, cap);
    }
}

/// `dq = dS k`
pub(super) fn backward_q(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [q, k, v, starts, dout, stats, dq] = operands(bound);
    let view = View::new(p, Keys::Own { starts: starts.words() });
    let inputs = Inputs { view, q: q.f32(), k: k.f32(), v: v.f32(), dout: dout.f32(), stats: stats.f32() };
    let dq = Tiles::new(dq.f32_mut(), view.shape.rows(), view.q_width, view.q_width);
    view.query_tiles().into_par_iter().for_each(|tile| {
        with_scratch(2 * QUERIES * KEYS, |scratch| {
            let (p, ds) = scratch.split_at_mut(QUERIES * KEYS);
            let place = (tile.first, tile.head * view.dim);
            for index in 0..tile.count {
                // SAFETY: the task owns these rows of its head.
                unsafe { dq.row(place.0 + index, place.1, view.dim) }.fill(0.0);
            }
            let span = view.span(tile);
            for (offset, keys) in cuts(span.len(), KEYS) {
                let (key, len) = (span.start + offset, tile.count * keys);
                inputs.tile(tile, key, keys, &mut p[..len], &mut ds[..len]);
                let (ds, k) = (Strided::rows(&ds[..len], keys), view.keys(inputs.k, tile, key));
                let product = view.added(ds, k, tile.count, keys);
                // SAFETY: the task owns these rows of its head.
                unsafe { dq.product(place.0, place.1, product) };
            }
        });
    });
}

/// `dk = dS^T q`, `dv = P^T dout`, over the query heads of each key/value head in order.
pub(super) fn backward_kv(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [q, k, v, starts, dout, stats, dk, dv] = operands(bound);
    let view = View::new(p, Keys::Own { starts: starts.words() });
    let inputs = Inputs { view, q: q.f32(), k: k.f32(), v: v.f32(), dout: dout.f32(), stats: stats.f32() };
    let rows = view.shape.rows();
    let dk = Tiles::new(dk.f32_mut(), rows, view.k_width, view.k_width);
    let dv = Tiles::new(dv.f32_mut(), rows, view.k_width, view.k_width);
    let group = p.heads as usize / p.kv_heads as usize;
    let owners = grid(cuts(p.batch as usize, 1), cuts(p.kv_heads as usize, 1));
    let tasks =
        grid(owners.into_iter().map(|((batch, _), (head, _))| (batch, head)), cuts(p.queries as usize, OWN_KEYS));
    tasks.into_par_iter().for_each(|((batch, kv_head), (key, keys))| {
        let place = (batch * p.queries as usize + key, kv_head * view.dim);
        for index in 0..keys {
            // SAFETY: the task owns these rows of its head.
            unsafe { dk.row(place.0 + index, place.1, view.dim) }.fill(0.0);
            // SAFETY: as above.
            unsafe { dv.row(place.0 + index, place.1, view.dim) }.fill(0.0);
        }
        with_scratch(2 * QUERIES * OWN_KEYS, |scratch| {
            let (p_tile, ds_tile) = scratch.split_at_mut(QUERIES * OWN_KEYS);
            for (head, (first, count)) in tiles_of_group(kv_head * group, group, p.queries as usize) {
                let tile = Queries { sequence: batch, head, first: batch * p.queries as usize + first, count };
                let span = view.span(tile);
                if span.start >= key + keys || span.end <= key {
                    continue;
                }
                let len = count * keys;
                inputs.tile(tile, key, keys, &mut p_tile[..len], &mut ds_tile[..len]);
                let ds = Strided::rows(&ds_tile[..len], keys).transposed();
                let of_keys = view.added(ds, view.queries(inputs.q, tile), keys, count);
                let p = Strided::rows(&p_tile[..len], keys).transposed();
                let of_values = view.added(p, view.queries(inputs.dout, tile), keys, count);
                // SAFETY: the task owns these rows of its head.
                unsafe {
                    dk.product(place.0, place.1, of_keys);
                    dv.product(place.0, place.1, of_values);
                }
            }
        });
    });
}

/// The query tiles of `heads` heads from `head` on.
fn tiles_of_group(head: usize, heads: usize, queries: usize) -> impl Iterator<Item = (usize, (usize, usize))> {
    (head..head + heads).flat_map(move |head| cuts(queries, QUERIES).map(move |tile| (head, tile)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention;
    use crate::check::{Operand, Random, check};
    use crate::kernel::Call;

    fn params(batch: u32, queries: u32, window: u32, softcap: f32) -> Params {
        Params { batch, queries, heads: 6, kv_heads: 2, head_dim: 36, window, scale: 0.3, softcap }
    }

    /// Starts of packed sequences, among them queries that see nothing.
    fn starts(p: &Params) -> Vec<u32> {
        let start = |i: u32| match i % p.queries {
            query if query % 7 == 6 => query + 3,
            query => query / 50 * 50,
        };
        (0..p.batch * p.queries).map(start).collect()
    }

    #[test]
    fn forward_agrees_with_the_reference() {
        for (queries, window, softcap) in [(1, 0, 0.0), (5, 0, 2.0), (70, 0, 1.5), (150, 40, 0.0)] {
            let p = params(2, queries, window, softcap);
            let rows = (p.batch * queries * p.heads) as usize;
            let keys = (p.batch * queries * p.kv_heads * p.head_dim) as usize;
            let operands = [
                Operand::random(rows * p.head_dim as usize, 1),
                Operand::random(keys, 2),
                Operand::random(keys, 3),
                Operand::u32(&starts(&p)),
                Operand::unset(rows * p.head_dim as usize),
                Operand::random(rows * 2, 4),
            ];
            check(&Step::default(), &attention::forward(p), &operands);
        }
    }

    /// Sequences of (keys before, queries), their blocks in any order, and a row of padding.
    #[test]
    fn paged_forward_agrees_with_the_reference() {
        for sequences in [&[(280, 1)][..], &[(0, 70), (30, 1), (129, 65)], &[(5, 1), (0, 1), (400, 1)]] {
            for (window, softcap) in [(0, 0.0), (40, 2.0)] {
                let (mut spans, mut tables, mut block) = (Vec::new(), Vec::new(), 7);
                for &(past, queries) in sequences {
                    let table = tables.len() as u32;
                    spans.extend((1..=queries).flat_map(|count| [0, past + count, table]));
                    for _ in 0..(past + queries).div_ceil(BLOCK as u32) {
                        block = (block * 3) % 31;
                        tables.push(block);
                    }
                }
                spans.extend([0, 0, 0]);
                let p = params(1, spans.len() as u32 / 3, window, softcap);
                let (len, keys) = ((p.queries * p.heads * p.head_dim) as usize, 31 * BLOCK * 2 * 36);
                let inputs = [
                    Operand::random(len, 1),
                    Operand::random(keys, 2),
                    Operand::random(keys, 3),
                    Operand::u32(&spans),
                    Operand::u32(&tables),
                    Operand::unset(len),
                ];
                for apart in [false, true] {
                    check(&Step::default(), &attention::forward_paged(p, apart), &inputs);
                }
            }
        }
    }

    #[test]
    fn backward_agrees_with_the_reference() {
        for (queries, window, softcap) in [(3, 0, 0.0), (64, 0, 1.5), (150, 60, 0.0), (70, 20, 0.7)] {
            let p = params(2, queries, window, softcap);
            let (rows, keys) =
                ((p.batch * queries * p.heads) as usize, (p.batch * queries * p.kv_heads * p.head_dim) as usize);
            let len = rows * p.head_dim as usize;
            let stats: Vec<u32> = Random::new(9).values(2 * rows).iter().map(|x| (x + 3.0).to_bits()).collect();
            let inputs = [
                Operand::random(len, 1),
                Operand::random(keys, 2),
                Operand::random(keys, 3),
                Operand::u32(&starts(&p)),
                Operand::random(len, 5),
                Operand::u32(&stats),
            ];
            let run = |call: Call, outputs: &[usize]| {
                let mut operands = inputs.to_vec();
                operands.extend(outputs.iter().map(|&len| Operand::unset(len)));
                check(&Step::default(), &call, &operands);
            };
            run(attention::backward_q(p), &[len]);
            run(attention::backward_kv(p), &[keys, keys]);
            let prepare = [Operand::random(len, 1), Operand::random(len, 2), Operand::random(2 * rows, 3)];
            check(&Step::default(), &attention::backward_prepare(p), &prepare);
        }
    }
}

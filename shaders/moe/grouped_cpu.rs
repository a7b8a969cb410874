//! Fast host functions of the grouped products: a task takes a tile of pairs (or one pair) and a panel of its expert's
//! rows, and multiplies as `matmul` does. Rows of pairs are gathered into the thread's scratch and scattered back.

use rayon::prelude::*;

use super::grouped::{Params, rows_of};
use crate::Step;
use crate::format::cpu::{dot, with_rows};
use crate::kernel::{Bind, operands, params};
use crate::tiles::{Product, Strided, Tiles, cuts, grid, with_scratch};

/// Rows that `tile` decodes at once.
const PANEL_ROWS: usize = 64;
/// Columns of a task of `transposed`: one Q4_K block.
const SLAB: usize = 256;
/// Rows that `transposed` decodes at once.
const SLAB_ROWS: usize = 128;
/// Weights of a task of `vector`.
const VECTOR_WEIGHTS: usize = 1 << 16;

/// Expert and pairs of every tile that has any.
fn all_tiles<'a>(list: &'a [u32], tiles: &'a [u32]) -> Vec<(u32, &'a [u32])> {
    let tile = |tile: &[u32]| (tile[0], &list[tile[1] as usize..][..tile[2] as usize]);
    tiles.chunks_exact(4).filter(|tile| tile[2] > 0).map(tile).collect()
}

/// `moe_tile`: `y[pair, n] = sum_k x[pair / slots, k] * w[n, k]`.
pub(super) fn tile(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, y, list, tiles] = operands(bound);
    let (x, inner, stride) = (x.f32(), p.inner as usize, p.stride as usize);
    let y = Tiles::new(y.f32_mut(), p.tokens as usize, stride, stride);
    let tiles = all_tiles(list.words(), tiles.words());
    with_rows(p.format, p.rows, p.inner, weight, |part| {
        let tasks = grid(cuts(tiles.len(), 1), cuts(stride, PANEL_ROWS));
        tasks.into_par_iter().for_each(|((tile, _), (row, rows))| {
            let (expert, pairs) = tiles[tile];
            let (held, first) = rows_of(&p, expert);
            let (begin, end) = (held.start.max(row), held.end.min(row + rows));
            if begin >= end {
                return;
            }
            let rows = end - begin;
            with_scratch(rows * inner + pairs.len() * (inner + rows), |scratch| {
                let (panel, scratch) = scratch.split_at_mut(rows * inner);
                let (gathered, sums) = scratch.split_at_mut(pairs.len() * inner);
                part.decode(first + begin - held.start, 0, inner, panel);
                for (to, &pair) in gathered.chunks_exact_mut(inner).zip(pairs) {
                    to.copy_from_slice(&x[(pair / p.slots) as usize * inner..][..inner]);
                }
                let (a, b) = (Strided::rows(gathered, inner), Strided::rows(panel, inner).transposed());
                product(sums, [pairs.len(), rows, inner], a, b, false);
                for (sums, &pair) in sums.chunks_exact(rows).zip(pairs) {
                    // SAFETY: every task has its own pairs and columns of y.
                    unsafe { y.row(pair as usize, begin, rows) }.copy_from_slice(sums);
                }
            });
        });
    });
}

/// `c (+)= a b` in scratch rows of `n` numbers.
fn product(c: &mut [f32], [m, n, k]: [usize; 3], a: Strided<'_>, b: Strided<'_>, accumulate: bool) {
    let c = Tiles::new(c, m, n, n);
    // SAFETY: `c` is borrowed for this call alone.
    unsafe { c.product(0, 0, Product { a, b, m, n, k, alpha: 1.0, accumulate }) };
}

/// `moe_transposed`: `dx[pair, k] (+)= sum_n dy[pair, n] * w[n, k]`.
pub(super) fn transposed(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [dy, weight, dx, list, tiles] = operands(bound);
    let (dy, inner, stride) = (dy.f32(), p.inner as usize, p.stride as usize);
    let dx = Tiles::new(dx.f32_mut(), p.tokens as usize, inner, inner);
    let tiles = all_tiles(list.words(), tiles.words());
    with_rows(p.format, p.rows, p.inner, weight, |part| {
        let tasks = grid(cuts(tiles.len(), 1), cuts(inner, SLAB));
        tasks.into_par_iter().for_each(|((tile, _), (col, cols))| {
            let (expert, pairs) = tiles[tile];
            let (held, first) = rows_of(&p, expert);
            let count = pairs.len();
            with_scratch(SLAB_ROWS * cols + count * (SLAB_ROWS + cols), |scratch| {
                let (panel, scratch) = scratch.split_at_mut(SLAB_ROWS * cols);
                let (gathered, sums) = scratch.split_at_mut(count * SLAB_ROWS);
                sums.fill(0.0);
                for (row, rows) in cuts(held.len(), SLAB_ROWS) {
                    let panel = &mut panel[..rows * cols];
                    part.decode(first + row, col, cols, panel);
                    let gathered = &mut gathered[..count * rows];
                    for (to, &pair) in gathered.chunks_exact_mut(rows).zip(pairs) {
                        to.copy_from_slice(&dy[pair as usize * stride + held.start + row..][..rows]);
                    }
                    let (a, b) = (Strided::rows(gathered, rows), Strided::rows(panel, cols));
                    product(sums, [count, cols, rows], a, b, true);
                }
                for (sums, &pair) in sums.chunks_exact(cols).zip(pairs) {
                    // SAFETY: every task has its own pairs and columns of dx.
                    let dx = unsafe { dx.row(pair as usize, col, cols) };
                    if p.accumulate == 0 {
                        dx.copy_from_slice(sums);
                    } else {
                        dx.iter_mut().zip(sums).for_each(|(dx, sum)| *dx += sum);
                    }
                }
            });
        });
    });
}

/// `moe_vector`: [`tile`]'s product for pairs in any order, straight from the blocks.
pub(super) fn vector(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, y, ids] = operands(bound);
    let (x, ids, inner, stride) = (x.f32(), ids.words(), p.inner as usize, p.stride as usize);
    let y = Tiles::new(y.f32_mut(), p.tokens as usize, stride, stride);
    with_rows(p.format, p.rows, p.inner, weight, |part| {
        let tasks = grid(cuts(p.tokens as usize, 1), cuts(stride, (VECTOR_WEIGHTS / inner.max(1)).max(4)));
        tasks.into_par_iter().for_each(|((pair, _), (row, rows))| {
            let (held, first) = rows_of(&p, ids[pair]);
            let x = &x[pair / p.slots as usize * inner..][..inner];
            for row in held.start.max(row)..held.end.min(row + rows) {
                let [sum] = dot(part.format, part.row(first + row - held.start), [x]);
                // SAFETY: every task has its own row and columns of y.
                let y = unsafe { y.row(pair, row, 1) };
                y[0] = sum;
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use crate::Format;
    use crate::Step;
    use crate::check::{Operand, Random, check};
    use crate::moe::{self, Params, grouped};

    /// Bindings after the output: list and tiles of these pairs.
    fn sorted(ids: &[u32], experts: u32) -> [Operand; 2] {
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by_key(|pair| ids[*pair as usize]);
        let mut tiles = Vec::new();
        let mut first = 0;
        for expert in 0..experts {
            let count = ids.iter().filter(|id| **id == expert).count() as u32;
            for start in (0..count).step_by(moe::TILE as usize) {
                tiles.extend([expert, first + start, moe::TILE.min(count - start), 0]);
            }
            first += count;
        }
        tiles.resize(4 * moe::tiles(ids.len() as u32, experts) as usize, 0);
        [Operand::u32(&order), Operand::u32(&tiles)]
    }

    #[test]
    fn agrees_with_the_reference() {
        for format in Format::ALL {
            for (tokens, experts, slots, stride) in [(2, 3, 1, 5), (40, 4, 2, 70), (90, 3, 2, 64)] {
                let shape = Params { tokens, experts, slots, ..Params::default() };
                let (pairs, inner) = (shape.pairs(), 256);
                let ids: Vec<u32> = (0..pairs).map(|pair| pair * 7 % (experts - 1)).collect();
                // The whole weight, and a part that begins and ends inside of an expert.
                for (row0, rows) in [(0, experts * stride), (stride / 2, stride + 3)] {
                    let base = grouped::Params { tokens: pairs, inner, row0, rows, stride, ..Default::default() };
                    let [list, tiles] = sorted(&ids, experts);
                    let w = Operand::weight(format, rows as usize, inner as usize, &mut Random::new(5));
                    let y = if rows == experts * stride { Operand::unset } else { |len| Operand::random(len, 3) };
                    let y = y((pairs * stride) as usize);
                    for slots in [1, slots] {
                        let p = grouped::Params { format: format.ggml_id(), slots, ..base };
                        let x = Operand::random((pairs / slots * inner) as usize, 1);
                        let step = Step::default();
                        check(&step, &grouped::vector(p), &[x.clone(), w.clone(), y.clone(), Operand::u32(&ids)]);
                        let operands = [x, w.clone(), y.clone(), list.clone(), tiles.clone()];
                        check(&step, &grouped::tile(p, experts), &operands);
                    }
                    for accumulate in [0, 1] {
                        let p = grouped::Params { format: format.ggml_id(), slots: 1, accumulate, ..base };
                        let len = (pairs * inner) as usize;
                        let dx = if accumulate == 1 { Operand::random(len, 8) } else { Operand::unset(len) };
                        let dy = Operand::random((pairs * stride) as usize, 6);
                        let operands = [dy, w.clone(), dx, list.clone(), tiles.clone()];
                        check(&Step::default(), &grouped::transposed(p, experts), &operands);
                    }
                }
            }
        }
    }
}

//! Fast host functions of `matmul`: GGUF blocks in place, decoded once per task into a panel that stays in the cache.
//!
//! - `vector` (up to four tokens): dot products straight from the blocks, tasks of whole rows.
//! - `tile`: a task decodes a panel of rows, transposed as the product reads it, and multiplies it with a tile of
//!   tokens.
//! - `transposed`: a task owns a slab of columns for a tile of tokens and adds up row panels in order.
//!
//! Task boundaries and the order of every sum follow from the shapes, so the bits do not depend on the threads.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::format::cpu::{self, dot, dot2, dot4, with_rows};
use crate::kernel::{Bind, operands, params};
use crate::simd::LANES;
use crate::tiles::{Product, Strided, Tiles, cuts, grid, with_scratch};

/// Rows of a decoded panel of `tile`.
const PANEL_ROWS: usize = 64;
/// Tokens of a task of `tile` and `transposed`: decoding costs a few percent of the product then.
const TOKEN_TILE: usize = 256;
/// Columns of a task of `transposed`: one Q4_K block.
const SLAB: usize = 256;
/// Rows that `transposed` decodes at once.
const SLAB_ROWS: usize = 256;
/// Weights of a task of `vector`.
const VECTOR_WEIGHTS: usize = 1 << 16;

/// A low-rank update in the pass of a product: `left` [tokens, rank] times `right`, rows or columns of rank `rank`.
struct Update<'a> {
    left: &'a [f32],
    right: &'a [f32],
    rank: usize,
}

impl Update<'_> {
    /// No update.
    const NONE: Update<'static> = Update { left: &[], right: &[], rank: 0 };
}

/// `matmul_tile`: `y[t, row0 + n] (+)= sum_k x[t, k] w[n, k]`.
pub(super) fn tile(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let [x, weight, y] = operands(bound);
    tiles(&params(bytes), x.f32(), weight, y.f32_mut(), Update::NONE);
}

/// `matmul_tile_lora`: the same plus `sum_r u[t, r] b[row0 + n, r]`, added to each tile while it is in the cache.
pub(super) fn tile_low_rank(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, y, u, b] = operands(bound);
    tiles(&p, x.f32(), weight, y.f32_mut(), Update { left: u.f32(), right: b.f32(), rank: p.rank as usize });
}

fn tiles(p: &Params, x: &[f32], weight: &Bind<'_>, y: &mut [f32], update: Update<'_>) {
    let Update { left: u, right: b, rank } = update;
    let (inner, stride) = (p.inner as usize, p.stride as usize);
    let y = Tiles::new(y, p.tokens as usize, stride, stride);
    with_rows(p.format, p.rows, p.inner, weight, |weight| {
        let tasks = grid(cuts(weight.rows, PANEL_ROWS), cuts(p.tokens as usize, TOKEN_TILE));
        tasks.into_par_iter().for_each(|((row, rows), (token, tokens))| {
            let wide = rows.next_multiple_of(LANES);
            with_scratch(wide * inner + LANES * cpu::SLAB, |scratch| {
                let (panel, slab) = scratch.split_at_mut(wide * inner);
                weight.decode_columns(row, rows, inner, slab, panel);
                let col = p.row0 as usize + row;
                let x = Strided::rows(&x[token * inner..], inner);
                let product = Product {
                    a: x,
                    b: Strided::rows(panel, wide),
                    m: tokens,
                    n: rows,
                    k: inner,
                    alpha: 1.0,
                    accumulate: p.accumulate != 0,
                };
                // SAFETY: every task has its own rows and columns of y.
                unsafe { y.product(token, col, product) };
                if rank > 0 {
                    let (a, b) =
                        (Strided::rows(&u[token * rank..], rank), Strided::rows(&b[col * rank..], rank).transposed());
                    // SAFETY: as above.
                    unsafe { y.product(token, col, Product { a, b, k: rank, accumulate: true, ..product }) };
                }
            });
        });
    });
}

/// `matmul_transposed`: `dx[t, k] (+)= sum_n dy[t, row0 + n] w[n, k]`.
pub(super) fn transposed(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let [dy, weight, dx] = operands(bound);
    slabs(&params(bytes), dy.f32(), weight, dx.f32_mut(), Update::NONE);
}

/// `matmul_transposed_lora`: the same plus `sum_r du[t, r] a[r, k]`, added to each slab while it is in the cache.
pub(super) fn transposed_low_rank(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [dy, weight, dx, du, a] = operands(bound);
    slabs(&p, dy.f32(), weight, dx.f32_mut(), Update { left: du.f32(), right: a.f32(), rank: p.rank as usize });
}

fn slabs(p: &Params, dy: &[f32], weight: &Bind<'_>, dx: &mut [f32], update: Update<'_>) {
    let Update { left: du, right: a, rank } = update;
    let (inner, stride) = (p.inner as usize, p.stride as usize);
    let dx = Tiles::new(dx, p.tokens as usize, inner, inner);
    with_rows(p.format, p.rows, p.inner, weight, |weight| {
        let tasks = grid(cuts(inner, SLAB), cuts(p.tokens as usize, TOKEN_TILE));
        tasks.into_par_iter().for_each(|((col, cols), (token, tokens))| {
            for (row, rows) in cuts(weight.rows, SLAB_ROWS) {
                with_scratch(rows * cols, |panel| {
                    weight.decode(row, col, cols, panel);
                    let dy = Strided::rows(&dy[token * stride + p.row0 as usize + row..], stride);
                    let accumulate = p.accumulate != 0 || row != 0;
                    let b = Strided::rows(panel, cols);
                    let product = Product { a: dy, b, m: tokens, n: cols, k: rows, alpha: 1.0, accumulate };
                    // SAFETY: every task has its own rows and columns of dx.
                    unsafe { dx.product(token, col, product) };
                });
            }
            if rank > 0 {
                let (a, b) = (Strided::rows(&du[token * rank..], rank), Strided::rows(&a[col..], inner));
                let product = Product { a, b, m: tokens, n: cols, k: rank, alpha: 1.0, accumulate: true };
                // SAFETY: as above.
                unsafe { dx.product(token, col, product) };
            }
        });
    });
}

/// `matmul_vector`: [`tile`]'s product for up to four tokens.
pub(super) fn vector(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [x, weight, y] = operands(bound);
    let (inner, stride, tokens) = (p.inner as usize, p.stride as usize, p.tokens as usize);
    let x = x.f32();
    let row_of_x = |token: usize| &x[token.min(tokens - 1) * inner..][..inner];
    let y = Tiles::new(y.f32_mut(), tokens, stride, stride);
    with_rows(p.format, p.rows, p.inner, weight, |weight| {
        let tasks: Vec<_> = cuts(weight.rows, (VECTOR_WEIGHTS / inner.max(1)).max(4)).collect();
        tasks.into_par_iter().for_each(|(first, rows)| {
            for row in first..first + rows {
                let blocks = weight.row(row);
                let sums = match tokens {
                    0 => return,
                    1 => [dot(weight.format, blocks, [row_of_x(0)])[0], 0.0, 0.0, 0.0],
                    2 => {
                        let [a, b] = dot2(weight.format, blocks, [row_of_x(0), row_of_x(1)]);
                        [a, b, 0.0, 0.0]
                    }
                    _ => dot4(weight.format, blocks, [0, 1, 2, 3].map(row_of_x)),
                };
                for (token, sum) in sums.into_iter().enumerate().take(tokens) {
                    // SAFETY: every task has its own columns of y, and writes each element once.
                    let y = unsafe { y.row(token, p.row0 as usize + row, 1) };
                    y[0] = if p.accumulate != 0 { y[0] + sum } else { sum };
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::check::{Operand, Random, check};
    use crate::matmul::{self, low_rank};

    #[test]
    fn agrees_with_the_reference() {
        for format in Format::ALL {
            for (tokens, inner, rows) in
                [(1, 256, 5), (2, 512, 70), (3, 256, 33), (4, 768, 65), (5, 256, 64), (300, 512, 130)]
            {
                for (row0, stride, accumulate) in [(0, rows, 0), (3, rows + 7, 1)] {
                    let p = Params {
                        tokens,
                        inner,
                        row0,
                        rows,
                        stride,
                        accumulate,
                        format: format.ggml_id(),
                        ..Default::default()
                    };
                    let weight = Operand::weight(format, rows as usize, inner as usize, &mut Random::new(5));
                    let (x, y) =
                        (Operand::random((tokens * inner) as usize, 1), Operand::random((tokens * stride) as usize, 2));
                    check(&Step::default(), &matmul::forward(p), &[x.clone(), weight.clone(), y.clone()]);
                    let dx = if accumulate == 1 { x } else { Operand::unset((tokens * inner) as usize) };
                    check(&Step::default(), &matmul::transposed(p), &[y, weight, dx]);
                }
            }
        }
    }

    #[test]
    fn a_low_rank_product_in_the_same_pass() {
        for format in [Format::F32, Format::Q4_0, Format::Q4_K] {
            for (tokens, rows, rank) in [(5, 33, 8), (33, 65, 4), (300, 130, 40)] {
                for (row0, stride, accumulate) in [(0, rows, 0), (3, rows + 7, 1)] {
                    let inner = 512;
                    let format_id = format.ggml_id();
                    let p = Params { tokens, inner, row0, rows, stride, accumulate, format: format_id, rank };
                    let numbers = |len: u32, seed| Operand::random(len as usize, seed);
                    let weight = Operand::weight(format, rows as usize, inner as usize, &mut Random::new(5));
                    let (x, y, u) =
                        (numbers(tokens * inner, 1), numbers(tokens * stride, 2), numbers(tokens * rank, 3));
                    let operands = [x.clone(), weight.clone(), y.clone(), u.clone(), numbers(stride * rank, 4)];
                    check(&Step::default(), &low_rank::forward(p), &operands);
                    let dx = if accumulate == 1 { x } else { Operand::unset((tokens * inner) as usize) };
                    let operands = [y, weight, dx, u, numbers(rank * inner, 4)];
                    check(&Step::default(), &low_rank::transposed(p), &operands);
                }
            }
        }
    }

    #[test]
    fn takes_rows_that_are_no_whole_slabs() {
        for (format, inner) in [(Format::F32, 36), (Format::F16, 300), (Format::Q4_0, 96), (Format::Q8_0, 288)] {
            for tokens in [1, 3, 9] {
                let p = Params { tokens, inner, rows: 7, stride: 7, format: format.ggml_id(), ..Default::default() };
                let weight = Operand::weight(format, 7, inner as usize, &mut Random::new(5));
                let (x, y) = (Operand::random((tokens * inner) as usize, 1), Operand::random((tokens * 7) as usize, 2));
                check(&Step::default(), &matmul::forward(p), &[x.clone(), weight.clone(), y.clone()]);
                check(&Step::default(), &matmul::transposed(p), &[y, weight, x]);
            }
        }
    }
}

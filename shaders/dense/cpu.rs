//! Fast host function of `dense`: tiles of `c`, each one product on one thread.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};
use crate::tiles::{Product, Strided, Tiles, cuts, grid};

/// Multiply-adds of a task, about a tenth of a millisecond.
const TASK: usize = 1 << 20;
/// Most columns of a tile.
const TILE_COLS: usize = 256;
/// Fewest rows of a tile, when there are that many.
const TILE_ROWS: usize = 16;

/// `c[i, j] (+)= alpha * sum_k a[i, k] b[k, j]`. Tiles depend on the shape only.
pub(super) fn product(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [a, b, c] = operands(bound);
    let (m, n, k) = (p.m as usize, p.n as usize, p.k as usize);
    let a = Strided { data: a.f32(), row: p.a_row as usize, col: p.a_col as usize };
    let b = Strided { data: b.f32(), row: p.b_row as usize, col: p.b_col as usize };
    let c = Tiles::new(c.f32_mut(), m, n, n);
    let tile_cols = n.clamp(1, TILE_COLS);
    let tile_rows = (TASK / (tile_cols * k.max(1))).next_multiple_of(TILE_ROWS).max(TILE_ROWS);
    grid(cuts(m, tile_rows), cuts(n, tile_cols)).into_par_iter().for_each(|((row, rows), (col, cols))| {
        let (a, b) = (a.skip(row, 0), b.skip(0, col));
        let product = Product { a, b, m: rows, n: cols, k, alpha: p.alpha, accumulate: p.accumulate != 0 };
        // SAFETY: tasks have disjoint tiles.
        unsafe { c.product(row, col, product) };
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::dense;

    #[test]
    fn agrees_with_the_reference() {
        let shapes = [(1, 8, 300), (8, 1, 1), (37, 8, 576), (8, 600, 70), (65, 300, 8), (512, 16, 2048), (3, 5, 0)];
        for (m, n, k) in shapes {
            for (transpose_a, transpose_b, accumulate) in [(false, true, 0), (true, false, 1), (false, false, 0)] {
                let (a_row, a_col) = if transpose_a { (1, m) } else { (k, 1) };
                let (b_row, b_col) = if transpose_b { (1, k) } else { (n, 1) };
                let p = Params { m, n, k, a_row, a_col, b_row, b_col, accumulate, alpha: 0.5, ..Default::default() };
                let len = (m * n) as usize;
                let c = if accumulate == 1 { Operand::random(len, 3) } else { Operand::unset(len) };
                let operands = [Operand::random((m * k) as usize, 1), Operand::random((k * n) as usize, 2), c];
                check(&Step::default(), &dense::product(p), &operands);
            }
        }
    }
}

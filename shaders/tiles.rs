//! Matrices that several tasks write at once, and single-threaded products into their tiles.

use std::cell::RefCell;
use std::marker::PhantomData;

thread_local! {
    /// What tasks on this thread compute with, kept from one to the next.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with `len` numbers of this thread's scratch, whose values are left over from earlier tasks.
///
/// # Panics
/// If `work` calls it again, or runs other tasks that do.
pub fn with_scratch(len: usize, work: impl FnOnce(&mut [f32])) {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        work(&mut scratch[..len]);
    });
}

/// A row-major matrix whose disjoint tiles are written by different tasks.
#[derive(Debug)]
pub struct Tiles<'a> {
    start: *mut f32,
    rows: usize,
    cols: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: `Tiles` borrows its slice exclusively; the unsafe methods require that tasks write disjoint tiles.
unsafe impl Sync for Tiles<'_> {}
// SAFETY: it is a mutable borrow of plain numbers, which may move to another thread.
unsafe impl Send for Tiles<'_> {}

/// A strided matrix that a product reads: element (i, j) is `data[i * row + j * col]`.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Distance of two rows.
    pub row: usize,
    /// Distance of two columns.
    pub col: usize,
}

impl<'a> Strided<'a> {
    /// A matrix whose rows are contiguous and `row` apart.
    pub fn rows(data: &'a [f32], row: usize) -> Self {
        Self { data, row, col: 1 }
    }

    /// The transposed matrix.
    pub fn transposed(self) -> Self {
        Self { row: self.col, col: self.row, ..self }
    }

    /// The part from row `row` and column `col` on.
    pub fn skip(self, row: usize, col: usize) -> Self {
        let start = (row * self.row + col * self.col).min(self.data.len());
        Self { data: &self.data[start..], ..self }
    }

    fn holds(&self, rows: usize, cols: usize) -> bool {
        let last = |count: usize, step: usize| count.saturating_sub(1).checked_mul(step);
        let index = last(rows, self.row).zip(last(cols, self.col)).and_then(|(i, j)| i.checked_add(j));
        rows == 0 || cols == 0 || index.is_some_and(|index| index < self.data.len())
    }
}

/// A matrix product: `c = alpha * a * b`, or `c += alpha * a * b`.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    /// `m` x `k`.
    pub a: Strided<'a>,
    /// `k` x `n`.
    pub b: Strided<'a>,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// What is summed over.
    pub k: usize,
    /// Factor on the product.
    pub alpha: f32,
    /// Add to the result instead of overwriting it.
    pub accumulate: bool,
}

/// Pairs of (first element, length) that cut `total` into tiles of `tile`.
pub fn cuts(total: usize, tile: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    (0..total.div_ceil(tile)).map(move |index| (index * tile, tile.min(total - index * tile)))
}

/// All pairs of two lists of [`cuts`], as tasks.
pub fn grid(
    rows: impl Iterator<Item = (usize, usize)>,
    cols: impl Iterator<Item = (usize, usize)> + Clone,
) -> Vec<((usize, usize), (usize, usize))> {
    rows.flat_map(|row| cols.clone().map(move |col| (row, col))).collect()
}

impl<'a> Tiles<'a> {
    /// A matrix of `rows` x `cols` whose rows are `stride` apart.
    ///
    /// # Panics
    /// If `data` does not hold it.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(cols <= stride, "{cols} columns in rows of {stride}");
        assert!(Strided::rows(data, stride).holds(rows, cols), "{rows} x {cols} in {} numbers", data.len());
        Self { start: data.as_mut_ptr(), rows, cols, stride, borrow: PhantomData }
    }

    /// Columns `from..from + len` of a row.
    ///
    /// # Safety
    /// No other task may use any of these elements while the result lives.
    ///
    /// # Panics
    /// If they are outside of the matrix.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's promise, as the safety section says")]
    pub unsafe fn row(&self, row: usize, from: usize, len: usize) -> &mut [f32] {
        assert!(row < self.rows && from <= self.cols && len <= self.cols - from, "row {row}, {len} columns at {from}");
        // SAFETY: the range is inside the borrowed slice (checked in `new` and above) and the caller's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride + from), len) }
    }

    /// Computes `product` into the tile at (`row`, `col`). Runs on this thread alone; the order of the sum depends on
    /// the shapes only.
    ///
    /// # Safety
    /// No other task may use any element of the tile during the call.
    ///
    /// # Panics
    /// If the tile is outside of the matrix, or `a` or `b` do not hold their elements.
    pub unsafe fn product(&self, row: usize, col: usize, product: Product<'_>) {
        let Product { a, b, m, n, k, alpha, accumulate } = product;
        assert!(row <= self.rows && m <= self.rows - row, "{m} rows at {row} of {}", self.rows);
        assert!(col <= self.cols && n <= self.cols - col, "{n} columns at {col} of {}", self.cols);
        assert!(a.holds(m, k) && b.holds(k, n), "{m} x {k} times {k} x {n}");
        if m == 0 || n == 0 {
            return;
        }
        // SAFETY: `row` and `col` are inside the matrix, because m and n are not 0.
        let start = unsafe { self.start.add(row * self.stride + col) };
        let stride = |step: usize| step as isize;
        // SAFETY: every index that the three shapes and strides reach is inside its slice (asserted above and in
        // `new`); c is the caller's alone, so it overlaps neither a nor b.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                start,
                1,
                stride(self.stride),
                accumulate,
                a.data.as_ptr(),
                stride(a.col),
                stride(a.row),
                b.data.as_ptr(),
                stride(b.col),
                stride(b.row),
                1.0,
                alpha,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_write_their_tile_only() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 2), (4, 1, 7), (1, 6, 3), (2, 3, 0), (0, 2, 2), (17, 33, 65)] {
            for accumulate in [false, true] {
                let a: Vec<f32> = (0..m * k).map(|i| (i % 7) as f32 - 3.0).collect();
                let b: Vec<f32> = (0..k * n).map(|i| (i % 5) as f32 - 2.0).collect();
                let mut c = vec![1.0; (m + 2) * (n + 3)];
                let tiles = Tiles::new(&mut c, m + 2, n + 2, n + 3);
                let (a, b) = (Strided::rows(&a, k), Strided { data: &b, row: 1, col: k });
                // SAFETY: this is the only task.
                unsafe { tiles.product(1, 2, Product { a, b, m, n, k, alpha: 2.0, accumulate }) };
                for (index, &found) in c.iter().enumerate() {
                    let (i, j) = (index / (n + 3), index % (n + 3));
                    let inside = (1..1 + m).contains(&i) && (2..2 + n).contains(&j);
                    let sum = |i: usize, j: usize| (0..k).map(|l| a.data[i * k + l] * b.data[j * k + l]).sum::<f32>();
                    let expected = if inside { 2.0 * sum(i - 1, j - 2) + f32::from(accumulate) } else { 1.0 };
                    assert_eq!(found, expected, "{m} {n} {k} at {i} {j}");
                }
            }
        }
    }
}

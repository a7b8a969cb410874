//! Kernels of `dense` against their references.

use loam_shaders::dense::{self, Params};
use loam_shaders::{Bind, Step};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

/// A product whose operands lie as they are or transposed.
fn params([m, n, k]: [u32; 3], transposed: (bool, bool)) -> Params {
    let (a_row, a_col) = if transposed.0 { (1, m) } else { (k, 1) };
    let (b_row, b_col) = if transposed.1 { (1, k) } else { (n, 1) };
    Params { m, n, k, a_row, a_col, b_row, b_col, accumulate: 0, alpha: 0.75, pad: [0; 3] }
}

fn operand(rows: u32, cols: u32, random: &mut Random) -> Operand {
    Operand::f32(&random.values((rows * cols) as usize))
}

const LAYOUTS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

#[test]
fn products() {
    let mut random = Random::new(20);
    let shapes =
        [[1, 1, 1], [1, 8, 64], [5, 8, 64], [33, 16, 172], [65, 67, 4], [8, 172, 33], [17, 3, 300], [64, 48, 32]];
    for shape in shapes {
        for layout in LAYOUTS {
            let p = params(shape, layout);
            let (a, b) = (operand(p.m, p.k, &mut random), operand(p.k, p.n, &mut random));
            let written = check_kernel(&dense::product(p), &[a, b, Operand::unset((p.m * p.n) as usize)]);
            assert!(written[0].iter().all(|value| value.is_finite()), "{shape:?} {layout:?}");
        }
    }
}

#[test]
fn a_low_rank_and_a_long_sum() {
    let mut random = Random::new(21);
    for shape in [[1, 16, 768], [4, 8, 130], [1, 1, 1000], [8, 17, 129], [67, 5, 200]] {
        for layout in LAYOUTS {
            let p = params(shape, layout);
            let (a, b) = (operand(p.m, p.k, &mut random), operand(p.k, p.n, &mut random));
            let call = dense::product(p);
            assert_eq!(call.kernel.name(), if layout.0 && p.m > 1 { "dense_tile" } else { "dense_dot" });
            check_kernel(&call, &[a, b, Operand::unset((p.m * p.n) as usize)]);
        }
    }
}

#[test]
fn accumulates() {
    let mut random = Random::new(22);
    for shape in [[9, 20, 40], [2, 8, 256]] {
        let p = Params { accumulate: 1, ..params(shape, (false, true)) };
        let (a, b) = (operand(p.m, p.k, &mut random), operand(p.k, p.n, &mut random));
        check_kernel(&dense::product(p), &[a, b, operand(p.m, p.n, &mut random)]);
    }
}

/// Rows of a larger matrix: strides larger than the operand, the rest is not read.
#[test]
fn strided_operands() {
    let mut random = Random::new(23);
    for [m, n, k] in [[6, 7, 10], [3, 4, 200]] {
        let p = Params { a_row: k + 5, b_row: n + 3, ..params([m, n, k], (false, false)) };
        let (mut a, mut b) = (random.values((m * (k + 5)) as usize), random.values((k * (n + 3)) as usize));
        a.iter_mut().enumerate().filter(|(i, _)| i % (k as usize + 5) >= k as usize).for_each(|(_, v)| *v = f32::NAN);
        b.iter_mut().enumerate().filter(|(i, _)| i % (n as usize + 3) >= n as usize).for_each(|(_, v)| *v = f32::NAN);
        let operands = [Operand::f32(&a), Operand::f32(&b), Operand::unset((m * n) as usize)];
        let written = check_kernel(&dense::product(p), &operands);
        assert!(written[0].iter().all(|value| value.is_finite()));
    }
}

fn by_reference(p: Params, a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut out = vec![0u32; (p.m * p.n) as usize];
    let call = dense::product(p);
    let (a, b): (&[u32], &[u32]) = (bytemuck::cast_slice(a), bytemuck::cast_slice(b));
    (call.kernel.reference)(&Step::default(), &call.params, &mut [Bind::Read(a), Bind::Read(b), Bind::Write(&mut out)]);
    bytemuck::cast_slice(&out).to_vec()
}

/// With loss = <c, dc>: da = alpha dc bᵀ and db = alpha aᵀ dc, themselves products with other strides.
#[test]
fn gradients_are_products() {
    let mut random = Random::new(24);
    let [m, n, k] = [5, 4, 6];
    let p = params([m, n, k], (false, false));
    let (a, b) = (random.values((m * k) as usize), random.values((k * n) as usize));
    let dc = random.values((m * n) as usize);
    let loss = |c: &[f32]| c.iter().zip(&dc).map(|(c, dc)| f64::from(*c) * f64::from(*dc)).sum::<f64>();
    let da = by_reference(params([m, k, n], (false, true)), &dc, &b);
    let db = by_reference(params([k, n, m], (true, false)), &a, &dc);
    check_gradient("a", &a, &da, (0.5, 1e-5), |a| loss(&by_reference(p, a, &b)));
    check_gradient("b", &b, &db, (0.5, 1e-5), |b| loss(&by_reference(p, &a, b)));
}

//! Kernels of `rmsnorm` against their references, and the gradient against finite differences.

use loam_shaders::rmsnorm::{self, Params};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

const SHAPES: [(u32, u32); 6] = [(1, 2), (3, 7), (17, 48), (65, 300), (2, 2048), (5, 257)];

fn params((rows, width): (u32, u32)) -> Params {
    Params { rows, width, accumulate: 0, eps: 1e-5 }
}

fn matrix(p: Params, random: &mut Random) -> Operand {
    Operand::f32(&random.values((p.rows * p.width) as usize))
}

fn weight(p: Params, random: &mut Random) -> Operand {
    Operand::f32(&random.values(p.width as usize))
}

#[test]
fn forward() {
    let mut random = Random::new(100);
    for p in SHAPES.map(params) {
        let out = Operand::unset((p.rows * p.width) as usize);
        check_kernel(&rmsnorm::forward(p), &[matrix(p, &mut random), weight(p, &mut random), out]);
    }
}

#[test]
fn backward_overwrites_or_accumulates() {
    let mut random = Random::new(101);
    for p in SHAPES.map(params) {
        let inputs = [matrix(p, &mut random), weight(p, &mut random), matrix(p, &mut random)];
        let [x, w, dy] = inputs;
        let dx = Operand::unset((p.rows * p.width) as usize);
        check_kernel(&rmsnorm::backward(p), &[x.clone(), w.clone(), dy.clone(), dx]);
        let p = Params { accumulate: 1, ..p };
        check_kernel(&rmsnorm::backward(p), &[x, w, dy, matrix(p, &mut random)]);
    }
}

/// More rows than workgroups in one dimension of a grid.
#[test]
fn folded_grid() {
    let mut random = Random::new(102);
    let p = params((65_535 + 70, 4));
    let call = rmsnorm::forward(p);
    assert_eq!(call.grid, [65_535, 2, 1]);
    check_kernel(&call, &[matrix(p, &mut random), weight(p, &mut random), Operand::unset((p.rows * p.width) as usize)]);
}

/// The formula as it is written in the paper, in f64.
fn formula(p: Params, x: &[f32], weight: &[f32]) -> Vec<f64> {
    let normalise = |row: &[f32]| {
        let mean = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / row.len() as f64;
        let rms = (mean + f64::from(p.eps)).sqrt();
        row.iter().zip(weight).map(|(v, w)| f64::from(*v) / rms * f64::from(*w)).collect::<Vec<_>>()
    };
    x.chunks(p.width as usize).flat_map(normalise).collect()
}

#[test]
fn gradient() {
    let mut random = Random::new(103);
    let p = params((3, 17));
    let (x, w, dy) = (random.values(51), random.values(17), random.values(51));
    let operands = [&x, &w, &dy].map(|values| Operand::f32(values));
    let [x_in, w_in, dy_in] = operands;
    let y = check_kernel(&rmsnorm::forward(p), &[x_in.clone(), w_in.clone(), Operand::unset(51)]).remove(0);
    let worst = formula(p, &x, &w).iter().zip(&y).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-6, "the reference is {worst:.1e} from the formula");
    let dx = check_kernel(&rmsnorm::backward(p), &[x_in, w_in, dy_in, Operand::unset(51)]).remove(0);
    let loss = |x: &[f32]| formula(p, x, &w).iter().zip(&dy).map(|(y, dy)| y * f64::from(*dy)).sum();
    check_gradient("rmsnorm x", &x, &dx, (1e-3, 1e-5), loss);
}

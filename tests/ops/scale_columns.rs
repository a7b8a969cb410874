//! The kernels of `scale_columns` against their references, and both gradients against finite differences.

use loam_shaders::scale_columns::{self, Params};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

#[test]
fn products_and_gradients_of_the_scales() {
    let mut random = Random::new(220);
    for (rows, width) in [(1, 1), (3, 31), (9, 33), (17, 256), (130, 300)] {
        let len = (rows * width) as usize;
        for (strength, accumulate) in [(1.0, 0), (0.25, 1), (0.0, 0)] {
            let p = Params { rows, width, strength, accumulate };
            let x = Operand::f32(&random.values(len));
            let scales = Operand::f32(&random.values(width as usize));
            let start = if accumulate == 1 { Operand::f32(&random.values(len)) } else { Operand::unset(len) };
            let out = check_kernel(&scale_columns::apply(p), &[x.clone(), scales.clone(), start]).remove(0);
            assert!(out.iter().all(|value| value.is_finite()), "an element was left out");
            let dout = Operand::f32(&random.values(len));
            check_kernel(&scale_columns::gradient(p), &[x, dout, scales]);
        }
    }
}

/// With strength 1 a scale of 1 keeps every bit; with strength 0 every scale does.
#[test]
fn what_changes_nothing_keeps_the_bits() {
    let x = Random::new(221).values(12);
    for (strength, scale) in [(1.0, 1.0), (0.0, -7.5), (0.5, 1.0)] {
        let p = Params { rows: 3, width: 4, strength, accumulate: 0 };
        let operands = [Operand::f32(&x), Operand::f32(&[scale; 4]), Operand::unset(12)];
        assert_eq!(check_kernel(&scale_columns::apply(p), &operands).remove(0), x, "{strength} of {scale}");
    }
}

/// The loss is the sum of `dout * out`: linear in x and in the scales.
#[test]
fn gradients() {
    let mut random = Random::new(222);
    let (x, scales, dout) = (random.values(5 * 7), random.values(7), random.values(5 * 7));
    let p = Params { rows: 5, width: 7, strength: 0.75, accumulate: 0 };
    let loss = |x: &[f32], scales: &[f32]| {
        let out = |i: usize| f64::from(x[i]) * (0.75 * f64::from(scales[i % 7]) + 0.25);
        (0..x.len()).map(|i| out(i) * f64::from(dout[i])).sum::<f64>()
    };
    let operands = [Operand::f32(&dout), Operand::f32(&scales), Operand::unset(5 * 7)];
    let dx = check_kernel(&scale_columns::apply(p), &operands).remove(0);
    check_gradient("x", &x, &dx, (0.5, 1e-5), |x| loss(x, &scales));
    let operands = [Operand::f32(&x), Operand::f32(&dout), Operand::f32(&[0.0; 7])];
    let dscales = check_kernel(&scale_columns::gradient(p), &operands).remove(0);
    check_gradient("scales", &scales, &dscales, (0.5, 1e-5), |scales| loss(&x, scales));
}

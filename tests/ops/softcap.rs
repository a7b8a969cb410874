//! Kernels of `softcap` against their references, and the gradient against finite differences.

use loam_shaders::softcap::{self, Params};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

fn params(len: usize, cap: f32) -> Params {
    Params { len: len as u32, cap, pad: [0; 2] }
}

/// Values on both sides of the cap, with a few far beyond it.
fn inputs(len: usize, cap: f32, random: &mut Random) -> Vec<f32> {
    let mut values: Vec<f32> = random.values(len).iter().map(|v| 2.0 * cap * v).collect();
    for (value, extreme) in values.iter_mut().zip([0.0, 1e-6, -1e-6, 1e4, -1e4, 3e30, -3e30]) {
        *value = extreme;
    }
    values
}

#[test]
fn forward_and_backward() {
    let mut random = Random::new(190);
    for len in [1, 9, 255, 257, 1000] {
        for cap in [0.5, 30.0] {
            let x = inputs(len, cap, &mut random);
            let y = check_kernel(&softcap::forward(params(len, cap)), &[Operand::f32(&x)]).remove(0);
            for (x, y) in x.iter().zip(&y) {
                let expected = f64::from(cap) * (f64::from(*x) / f64::from(cap)).tanh();
                assert!((f64::from(*y) - expected).abs() <= 1e-6 * expected.abs(), "{x} gives {y}, not {expected}");
            }
            let dx = random.values(len);
            check_kernel(&softcap::backward(params(len, cap)), &[Operand::f32(&y), Operand::f32(&dx)]);
        }
    }
}

#[test]
fn gradient() {
    let mut random = Random::new(191);
    let (len, cap) = (40, 1.5f32);
    let x: Vec<f32> = random.values(len).iter().map(|v| 3.0 * v).collect();
    let dy = random.values(len);
    let y = check_kernel(&softcap::forward(params(len, cap)), &[Operand::f32(&x)]).remove(0);
    let dx = check_kernel(&softcap::backward(params(len, cap)), &[Operand::f32(&y), Operand::f32(&dy)]).remove(0);
    check_gradient("softcap x", &x, &dx, (1e-3, 1e-5), |x| {
        let cap = f64::from(cap);
        x.iter().zip(&dy).map(|(x, dy)| cap * (f64::from(*x) / cap).tanh() * f64::from(*dy)).sum()
    });
}

//! Kernels of `glu` against their references, and the gradients against finite differences.

use loam_shaders::glu::{self, Activation, Params};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

fn params(len: usize, activation: Activation) -> Params {
    Params { len: len as u32, activation: activation as u32, pad: [0; 2] }
}

/// Moderate gates with a few that saturate either way.
fn gates(len: usize, random: &mut Random) -> Vec<f32> {
    let mut gates: Vec<f32> = random.values(len).iter().map(|v| 4.0 * v).collect();
    for (gate, extreme) in gates.iter_mut().zip([0.0, 100.0, -100.0, 12.5, -12.5, 1e4, -1e4, 88.8, -88.8]) {
        *gate = extreme;
    }
    gates
}

#[test]
fn forward_and_backward() {
    let mut random = Random::new(120);
    for len in [1, 9, 255, 256, 257, 1000] {
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let p = params(len, activation);
            let inputs = [gates(len, &mut random), random.values(len), random.values(len)];
            let [gate, up, dout] = inputs.map(|values| Operand::f32(&values));
            check_kernel(&glu::forward(p), &[gate.clone(), up.clone(), Operand::unset(len)]);
            check_kernel(&glu::backward(p), &[gate, up, dout, Operand::unset(len), Operand::unset(len)]);
        }
    }
}

/// The activations as their papers write them, in f64.
fn formula(activation: Activation, gate: f32, up: f32) -> f64 {
    let (x, up) = (f64::from(gate), f64::from(up));
    if activation == Activation::Silu {
        return up * x / (1.0 + (-x).exp());
    }
    up * 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

#[test]
fn gradients() {
    let mut random = Random::new(121);
    for activation in [Activation::Silu, Activation::GeluTanh] {
        let len = 40;
        let gate: Vec<f32> = random.values(len).iter().map(|v| 3.0 * v).collect();
        let (up, dout) = (random.values(len), random.values(len));
        let p = params(len, activation);
        let [gate_in, up_in, dout_in] = [&gate, &up, &dout].map(|values| Operand::f32(values));
        let out = check_kernel(&glu::forward(p), &[gate_in.clone(), up_in.clone(), Operand::unset(len)]).remove(0);
        for i in 0..len {
            let expected = formula(activation, gate[i], up[i]);
            assert!(
                (f64::from(out[i]) - expected).abs() < 1e-6,
                "out[{i}] is {}, the formula gives {expected}",
                out[i]
            );
        }
        let unset = Operand::unset(len);
        let gradients = check_kernel(&glu::backward(p), &[gate_in, up_in, dout_in, unset.clone(), unset]);
        let loss = |gate: &[f32], up: &[f32]| -> f64 {
            (0..len).map(|i| formula(activation, gate[i], up[i]) * f64::from(dout[i])).sum()
        };
        check_gradient("glu gate", &gate, &gradients[0], (1e-3, 1e-5), |gate| loss(gate, &up));
        check_gradient("glu up", &up, &gradients[1], (1e-1, 1e-5), |up| loss(&gate, up));
    }
}

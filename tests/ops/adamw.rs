//! The kernel of `adamw` against its reference and against PyTorch's numbers.

use loam_shaders::Step;
use loam_shaders::adamw::{self, Params};
use loam_tests::{Operand, Random, check_kernel_at};

use crate::optimizers::{DECAY, PARAMETERS, compare, expected, six_steps};

fn params(len: usize, weight_decay: f32, lr_factor: f32) -> Params {
    Params { len: len as u32, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, lr_factor, pad: [0; 2] }
}

fn step(step: i32, clip: f32) -> Step {
    let correction = |beta: f64| (1.0 - beta.powi(step)) as f32;
    let (correction1, correction2) = (correction(0.9), correction(0.999));
    Step { step: step as u32, lr: 0.1, correction1, correction2, clip, ..Step::default() }
}

#[test]
fn updates() {
    let mut random = Random::new(170);
    for len in [1, 255, 256, 1000] {
        for (count, clip, norm, factor) in
            [(1, 0.0, 3.0, 1.0), (7, 1.0, 3.0, 16.0), (7, 1.0, 0.5, 1.0), (2, 1.0, 0.0, 0.5)]
        {
            let mut values = || random.values(len);
            let (weights, grads, m) = (values(), values(), values());
            let v: Vec<f32> = values().iter().map(|v| v * v).collect();
            let operands = [&weights, &grads, &m, &v, &vec![norm]].map(|values| Operand::f32(values));
            check_kernel_at(&step(count, clip), &adamw::update(params(len, 0.01, factor)), &operands);
        }
    }
}

#[test]
fn a_norm_that_is_not_finite_changes_nothing() {
    let mut random = Random::new(171);
    let (weights, m, v) = (random.values(300), random.values(300), vec![0.5; 300]);
    for norm in [f32::NAN, f32::INFINITY] {
        for clip in [0.0, 1.0] {
            let operands = [&weights, &vec![f32::NAN; 300], &m, &v, &vec![norm]].map(|values| Operand::f32(values));
            let written = check_kernel_at(&step(3, clip), &adamw::update(params(300, 0.01, 1.0)), &operands);
            assert_eq!(written, [weights.clone(), m.clone(), v.clone()], "norm {norm}, clip {clip}");
        }
    }
}

/// `torch.optim.AdamW(lr=0.1)` on w = 1 with gradients 0.5, then -0.25: 0.899, then 0.871467.
#[test]
fn two_steps_by_hand() {
    let mut state = [vec![1.0], vec![0.0], vec![0.0]];
    for (count, gradient, expected) in [(1, 0.5, 0.899), (2, -0.25, 0.871_467_2)] {
        let [weights, m, v] = &state;
        let operands = [weights, &vec![gradient], m, v, &vec![1.0]].map(|values| Operand::f32(values));
        let written = check_kernel_at(&step(count, 0.0), &adamw::update(params(1, 0.01, 1.0)), &operands);
        state = written.try_into().unwrap_or_else(|written| panic!("three written bindings, not {written:?}"));
        assert!((state[0][0] - expected).abs() < 2e-6, "step {count}: {}, expected {expected}", state[0][0]);
    }
}

#[test]
fn six_steps_are_pytorchs() {
    let call = adamw::update(params(PARAMETERS, DECAY, 1.0));
    let zeros = Operand::f32(&[0.0; PARAMETERS]);
    let written = six_steps(&call, vec![zeros.clone(), zeros], |written, gradient, norm| {
        vec![written[0].clone(), gradient, written[1].clone(), written[2].clone(), norm]
    });
    compare("adamw", &written[0], &expected("adamw"));
}

//! The kernels of `sgd` against their references and against PyTorch's numbers.

use loam_shaders::Step;
use loam_shaders::sgd::{self, Params};
use loam_tests::{Operand, Random, check_kernel_at};

use crate::optimizers::{DECAY, PARAMETERS, compare, expected, six_steps};

fn params(len: usize, momentum: f32, weight_decay: f32) -> Params {
    Params { len: len as u32, momentum, weight_decay, lr_factor: 1.0 }
}

#[test]
fn updates() {
    let mut random = Random::new(175);
    for len in [1, 255, 256, 1000] {
        for (clip, norm) in [(0.0, 3.0), (1.0, 3.0), (1.0, 0.0), (1.0, f32::NAN), (0.0, f32::INFINITY)] {
            let (weights, grads, m) = (random.values(len), random.values(len), random.values(len));
            let step = Step { lr: 0.1, clip, ..Step::default() };
            let operands = [&weights, &grads, &vec![norm], &m].map(|values| Operand::f32(values));
            let plain = check_kernel_at(&step, &sgd::update(params(len, 0.0, DECAY)), &operands[..3]);
            assert_eq!(plain[0] == weights, !norm.is_finite(), "a norm of {norm}");
            let moved = check_kernel_at(&step, &sgd::momentum(params(len, 0.9, DECAY)), &operands);
            assert_eq!(moved == [weights, m], !norm.is_finite(), "a norm of {norm}");
        }
    }
}

#[test]
fn six_steps_are_pytorchs() {
    let call = sgd::update(params(PARAMETERS, 0.0, DECAY));
    let written = six_steps(&call, Vec::new(), |written, gradient, norm| vec![written[0].clone(), gradient, norm]);
    compare("sgd", &written[0], &expected("sgd"));
    let call = sgd::momentum(params(PARAMETERS, 0.9, 0.0));
    let state = vec![Operand::f32(&[0.0; PARAMETERS])];
    let written =
        six_steps(&call, state, |written, gradient, norm| vec![written[0].clone(), gradient, norm, written[1].clone()]);
    compare("sgd with momentum", &written[0], &expected("sgd_momentum"));
}

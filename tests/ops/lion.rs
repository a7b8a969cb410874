//! The kernel of `lion` against its reference and against the algorithm as tests/assets/optimizers.py has it.

use loam_shaders::Step;
use loam_shaders::lion::{self, Params};
use loam_tests::{Operand, Random, check_kernel_at};

use crate::optimizers::{DECAY, PARAMETERS, compare, expected, six_steps};

fn params(len: usize) -> Params {
    let (beta1, beta2) = (0.9, 0.99);
    Params { len: len as u32, beta1, beta2, weight_decay: DECAY, lr_factor: 1.0, ..Default::default() }
}

#[test]
fn updates() {
    let mut random = Random::new(174);
    for len in [1, 255, 256, 1000] {
        for (clip, norm) in [(0.0, 3.0), (1.0, 3.0), (1.0, 0.0), (1.0, f32::NAN), (0.0, f32::INFINITY)] {
            let (weights, grads, m) = (random.values(len), random.values(len), random.values(len));
            let step = Step { lr: 0.1, clip, ..Step::default() };
            let operands = [&weights, &grads, &m, &vec![norm]].map(|values| Operand::f32(values));
            let written = check_kernel_at(&step, &lion::update(params(len)), &operands);
            assert_eq!(written == [weights, m], !norm.is_finite(), "a norm of {norm}");
        }
    }
}

/// Where nothing pulls, nothing moves.
#[test]
fn the_sign_of_zero_is_zero() {
    let call = lion::update(Params { weight_decay: 0.0, ..params(2) });
    let operands = [&[1.0, 1.0], &[0.0, 2.0], &[0.0, 0.0]].map(|values| Operand::f32(values));
    let operands = [operands.as_slice(), &[Operand::f32(&[1.0])]].concat();
    let written = check_kernel_at(&Step { lr: 0.5, ..Step::default() }, &call, &operands);
    assert_eq!(written[0], [1.0, 0.5]);
}

#[test]
fn six_steps_are_those_of_the_algorithm() {
    let state = vec![Operand::f32(&[0.0; PARAMETERS])];
    let written = six_steps(&lion::update(params(PARAMETERS)), state, |written, gradient, norm| {
        vec![written[0].clone(), gradient, written[1].clone(), norm]
    });
    compare("lion", &written[0], &expected("lion"));
}

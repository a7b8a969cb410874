//! The kernel of `adamw_8bit` against its reference, against the definition as tests/assets/optimizers.py has it, and
//! against AdamW in f32.

use loam_shaders::Step;
use loam_shaders::adamw_8bit::{self, BLOCK, Params, map};
use loam_tests::{Operand, Random, check_kernel_at};

use crate::optimizers::{DECAY, PARAMETERS, compare, expected, numbers, six_steps, start};

fn params(len: usize, first_block: u32) -> Params {
    let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
    Params { len: len as u32, beta1, beta2, eps, weight_decay: DECAY, lr_factor: 1.0, first_block, pad: 0 }
}

fn random_codes(random: &mut Random, len: usize) -> Vec<u32> {
    let values = random.values(len.div_ceil(4));
    values.iter().map(|x| x.to_bits().wrapping_mul(0x9e37_79b9)).collect()
}

#[test]
fn updates() {
    let mut random = Random::new(173);
    for (len, first) in [(1, 0), (255, 2), (256, 0), (1000, 1)] {
        for (clip, norm) in [(0.0, 3.0), (1.0, 3.0), (1.0, 0.0), (1.0, f32::NAN), (0.0, f32::INFINITY)] {
            let step = Step { lr: 0.1, correction1: 0.19, correction2: 0.002, clip, ..Step::default() };
            let (m, v) = (random_codes(&mut random, len), random_codes(&mut random, len));
            let absmax = vec![0.5; 2 * (first as usize + len.div_ceil(BLOCK))];
            let (weights, grads) = (random.values(len), random.values(len));
            let operands = [
                Operand::f32(&weights),
                Operand::f32(&grads),
                Operand::u32(&m),
                Operand::u32(&v),
                Operand::f32(&absmax),
                Operand::f32(&[norm]),
                Operand::f32(map()),
            ];
            let written = check_kernel_at(&step, &adamw_8bit::update(params(len, first)), &operands);
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
            let same =
                written[0] == weights && bits(&written[1]) == m && bits(&written[2]) == v && written[3] == absmax;
            assert_eq!(same, !norm.is_finite(), "a norm of {norm}");
            assert_eq!(written[3][..2 * first as usize], absmax[..2 * first as usize], "blocks of other calls stay");
        }
    }
}

/// Six steps from nothing: parameters and codes.
fn trained() -> (Vec<f32>, [Vec<u32>; 2]) {
    let blocks = PARAMETERS.div_ceil(BLOCK);
    let codes = Operand::u32(&[0; PARAMETERS / 4]);
    let state = vec![codes.clone(), codes, Operand::f32(&vec![0.0; 2 * blocks])];
    let written = six_steps(&adamw_8bit::update(params(PARAMETERS, 0)), state, |written, gradient, norm| {
        let [weights, m, v, absmax] = [0, 1, 2, 3].map(|i| written[i].clone());
        vec![weights, gradient, m, v, absmax, norm, Operand::f32(map())]
    });
    let bytes = |words: &[f32]| words.iter().flat_map(|x| x.to_bits().to_le_bytes()).map(u32::from).collect();
    (written[0].clone(), [bytes(&written[1]), bytes(&written[2])])
}

#[test]
fn six_steps_are_those_of_the_definition() {
    let expected = expected("adamw_8bit");
    let listed = numbers(&expected["map"]);
    assert!(map().iter().zip(&listed).all(|(entry, listed)| (f64::from(*entry) - listed).abs() <= 1e-7 * listed.abs()));
    let (weights, codes) = trained();
    compare("adamw_8bit", &weights, &expected["w"]);
    for (codes, name) in codes.iter().zip(["m", "v"]) {
        // A ratio on the very edge between two entries may fall to either side.
        let listed = numbers(&expected[name]);
        let apart = codes.iter().zip(&listed).filter(|(code, listed)| f64::from(**code) != **listed).count();
        assert!(apart <= 1, "{name}: {apart} codes differ");
        assert!(codes.iter().zip(&listed).all(|(code, listed)| (f64::from(*code) - listed).abs() <= 1.0));
    }
}

/// The way of the parameters differs from that of f32 moments by about a tenth of its length, though the gradients
/// within a block differ by up to 2,000 times; tests/training.rs compares losses of a model.
#[test]
fn the_way_is_nearly_that_of_adamw_in_f32() {
    let (found, f32_weights, start) = (trained().0, numbers(&expected("adamw")), start());
    let square = |i: usize, x: f64| (x - f64::from(start[i])).powi(2);
    let apart: f64 = (0..PARAMETERS).map(|i| (f64::from(found[i]) - f32_weights[i]).powi(2)).sum();
    let way: f64 = (0..PARAMETERS).map(|i| square(i, f32_weights[i])).sum();
    let relative = (apart / way).sqrt();
    assert!(relative > 1e-6 && relative < 0.15, "{relative:.3} of the way");
}

//! Kernels of `gradient_norm` against their references.

use loam_shaders::Step;
use loam_shaders::gradient_norm::{self, Params};
use loam_tests::{Operand, Random, check_kernel};

#[test]
fn norms() {
    let mut random = Random::new(172);
    for (len, partials) in [(1, 1), (1, 3), (300, 7), (1000, 1), (5000, 2), (100_003, 300)] {
        let grads = random.values(len);
        let p = Params { len: len as u32, partials, pad: [0; 2] };
        let operands = [Operand::f32(&grads), Operand::unset(partials as usize)];
        let sums = check_kernel(&gradient_norm::partial(p), &operands).remove(0);
        let norm = check_kernel(&gradient_norm::total(p), &[Operand::f32(&sums), Operand::unset(1)]).remove(0)[0];
        let expected = grads.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!((f64::from(norm) - expected).abs() <= 1e-6 * expected, "{norm}, expected {expected}");
    }
}

#[test]
fn chunks_do_not_depend_on_the_device() {
    assert_eq!([0, 1, 4096, 4097, u32::MAX].map(gradient_norm::partials), [1, 1, 1, 2, 1024]);
}

#[test]
fn clipping_is_pytorchs() {
    let scale = |clip, norm| gradient_norm::clip_scale(&Step { clip, ..Step::default() }, norm);
    assert_eq!([scale(0.0, 3.0), scale(1.0, 0.5), scale(1.0, 0.0)], [Some(1.0); 3]);
    assert_eq!(scale(1.0, 4.0), Some(1.0 / (4.0 + 1e-6)));
    assert_eq!([scale(1.0, f32::NAN), scale(0.0, f32::INFINITY)], [None, None]);
}

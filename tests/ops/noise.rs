//! The kernel of `noise` against its reference, and the statistics of what it adds.

use loam_shaders::Step;
use loam_shaders::noise::{self, Params};
use loam_tests::{Operand, Random, check_kernel_at};

fn noise(step: &Step, magnitudes: &[f32], width: usize, x: &[f32]) -> Vec<f32> {
    let call = noise::add(Params { rows: magnitudes.len() as u32, width: width as u32, ..Default::default() });
    check_kernel_at(step, &call, &[Operand::f32(magnitudes), Operand::f32(x)]).remove(0)
}

#[test]
fn adds() {
    let mut random = Random::new(182);
    for (rows, width) in [(1, 1), (3, 5), (7, 64), (33, 130)] {
        let (magnitudes, x) = (random.values(rows), random.values(rows * width));
        noise(&Step { seed: 1, step: 2, rows: 3, ..Step::default() }, &magnitudes, width, &x);
    }
}

/// Uniform in plus and minus the magnitude of the row: mean 0, variance a third of the square, both ends reached.
#[test]
fn noise_is_uniform_within_the_magnitude_of_its_row() {
    let magnitudes = [2.0, 0.0, 0.5];
    let width = 20_000;
    let step = |rows| Step { seed: 9, step: 1, rows, ..Step::default() };
    let first = noise(&step(0), &magnitudes, width, &vec![0.0; 3 * width]);
    for (row, magnitude) in first.chunks(width).zip(magnitudes) {
        let magnitude = f64::from(magnitude);
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
        let variance = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64;
        assert!(
            mean.abs() <= 0.02 * magnitude && (variance - magnitude.powi(2) / 3.0).abs() <= 0.02 * magnitude.powi(2)
        );
        let most = row.iter().fold(0.0f64, |most, x| most.max(f64::from(x.abs())));
        assert!(most <= magnitude && most >= 0.99 * magnitude);
    }
    assert_ne!(first, noise(&step(1), &magnitudes, width, &vec![0.0; 3 * width]), "other rows");
}

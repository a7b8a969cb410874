//! The kernel of `dropout` against its reference, the statistics of its masks, and its gradient.

use loam_shaders::Step;
use loam_shaders::dropout::{self, Params};
use loam_tests::{Operand, Random, check_gradient, check_kernel_at};

fn at(seed: u32, step: u32, rows: u32) -> Step {
    Step { seed, step, rows, ..Step::default() }
}

/// What the kernel makes of ones, on all back ends.
fn mask(step: &Step, len: usize, site: u32, rate: f32) -> Vec<f32> {
    let call = dropout::apply(Params::new(len as u32, site, rate, false));
    check_kernel_at(step, &call, &[Operand::f32(&vec![1.0; len]), Operand::unset(len)]).remove(0)
}

#[test]
fn applies() {
    let mut random = Random::new(180);
    for len in [1, 3, 4, 1023, 1024, 5000] {
        for add in [false, true] {
            let call =
                dropout::apply(Params { first: 5, row: len as u32 / 7, ..Params::new(len as u32, 7, 0.25, add) });
            let operands = [Operand::f32(&random.values(len)), Operand::f32(&random.values(len))];
            check_kernel_at(&at(1, 2, 3), &call, &operands);
        }
    }
}

#[test]
fn masks_drop_their_share_and_keep_the_mean() {
    for rate in [0.0, 0.05, 0.5, 0.9] {
        let mask = mask(&at(1, 1, 0), 40_000, 0, rate);
        let dropped = mask.iter().filter(|m| **m == 0.0).count() as f64 / 40_000.0;
        let deviation = (f64::from(rate) * (1.0 - f64::from(rate)) / 40_000.0).sqrt();
        assert!((dropped - f64::from(rate)).abs() <= 4.0 * deviation, "{dropped} of the elements at rate {rate}");
        assert!(mask.iter().all(|m| *m == 0.0 || *m == 1.0 / (1.0 - rate)));
    }
}

/// A part of a mask is where it lies in the whole.
#[test]
fn masks_go_on_behind_their_first_elements() {
    let whole = mask(&at(1, 1, 0), 1000, 3, 0.5);
    let call = dropout::apply(Params { first: 50, ..Params::new(800, 3, 0.5, false) });
    let part = check_kernel_at(&at(1, 1, 0), &call, &[Operand::f32(&[1.0; 800]), Operand::unset(800)]).remove(0);
    assert_eq!(part, whole[200..]);
}

/// A row of a batch has its mask wherever the batch is divided.
#[test]
fn masks_go_by_the_row_of_the_step() {
    let of = |rows: u32, count: usize| {
        let params = Params { row: 50, ..Params::new(200 * count as u32, 3, 0.5, false) };
        let ones = vec![1.0; 200 * count];
        let operands = [Operand::f32(&ones), Operand::unset(ones.len())];
        check_kernel_at(&at(1, 1, rows), &dropout::apply(params), &operands).remove(0)
    };
    let whole = of(0, 4);
    assert_eq!([of(0, 1), of(1, 1), of(2, 2)].concat(), whole);
    assert_ne!(whole[..200], whole[200..400], "rows have masks of their own");
}

/// Two masks that have nothing to do with each other agree in half of their elements at rate 0.5.
#[test]
fn masks_are_independent_of_each_other_and_of_their_neighbors() {
    let base = mask(&at(1, 1, 0), 40_000, 0, 0.5);
    assert_eq!(base, mask(&at(1, 1, 0), 40_000, 0, 0.5), "the same mask again");
    let others = [(at(2, 1, 0), 0), (at(1, 2, 0), 0), (at(1, 1, 1), 0), (at(1, 1, 0), 1)];
    let shifted: Vec<f32> = base.iter().cycle().skip(1).take(40_000).copied().collect();
    for other in others.iter().map(|(step, site)| mask(step, 40_000, *site, 0.5)).chain([shifted]) {
        let same = base.iter().zip(&other).filter(|(a, b)| a == b).count() as f64;
        assert!((same - 20_000.0).abs() <= 400.0, "{same} of 40000 elements agree");
    }
}

#[test]
fn the_gradient_goes_through_the_same_mask() {
    let mut random = Random::new(181);
    let (x, dy) = (random.values(50), random.values(50));
    let apply = |values: &[f32]| {
        let call = dropout::apply(Params::new(50, 2, 0.4, false));
        check_kernel_at(&at(3, 4, 5), &call, &[Operand::f32(values), Operand::unset(50)]).remove(0)
    };
    let loss = |x: &[f32]| apply(x).iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum();
    check_gradient("dropout", &x, &apply(&dy), (0.5, 1e-5), loss);
}

//! The kernel of `importance` against its reference.

use loam_shaders::importance::{self, Params};
use loam_tests::{Operand, Random, check_kernel};

#[test]
fn squares() {
    let mut random = Random::new(210);
    for (rows, width) in [(1, 1), (3, 63), (17, 65), (5, 256), (130, 300), (64, 1000)] {
        let p = Params { rows, width, ..Default::default() };
        let x = Operand::f32(&random.values((rows * width) as usize));
        let sums = check_kernel(&importance::squares(p), &[x, Operand::unset(width as usize)]).remove(0);
        assert!(sums.iter().all(|sum| sum.is_finite()), "a column was left out");
    }
}

/// By hand: columns of [[1, 2], [3, 4], [5, -6]].
#[test]
fn by_hand() {
    let p = Params { rows: 3, width: 2, ..Default::default() };
    let x = Operand::f32(&[1.0, 2.0, 3.0, 4.0, 5.0, -6.0]);
    assert_eq!(check_kernel(&importance::squares(p), &[x, Operand::unset(2)])[0], [35.0, 56.0]);
}

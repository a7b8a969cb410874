//! The kernels of `importance` against their references.

use loam_shaders::importance::{self, GroupedParams, Params};
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

/// Pairs with a row each, and such that share the rows of their tokens; experts without pairs at the front, in the
/// middle and at the end.
#[test]
fn grouped() {
    let mut random = Random::new(211);
    let cases: [(&[u32], u32, u32); 5] =
        [(&[1], 1, 1), (&[0, 3, 0, 5, 0], 2, 63), (&[2, 2, 2], 3, 65), (&[100, 0, 1, 155], 8, 130), (&[7; 64], 1, 300)];
    for (counts, slots, width) in cases {
        let pairs: u32 = counts.iter().sum();
        for slots in [1, slots] {
            let p = GroupedParams { experts: counts.len() as u32, slots, width, ..Default::default() };
            let x = random.values((pairs / slots * width) as usize);
            // Any order of the pairs will do: 11 has no factor in common with their number.
            let list: Vec<u32> = (0..pairs).map(|i| i * 11 % pairs).collect();
            let sums = counts.len() * width as usize;
            let bound = [Operand::f32(&x), Operand::u32(counts), Operand::u32(&list), Operand::unset(sums)];
            let sums = check_kernel(&importance::grouped(p), &bound).remove(0);
            for (count, sums) in counts.iter().zip(sums.chunks(width as usize)) {
                assert!(sums.iter().all(|sum| if *count == 0 { *sum == 0.0 } else { sum.is_finite() && *sum > 0.0 }));
            }
        }
    }
}

/// By hand: pairs 0 to 3 of two tokens with two slots each, of which expert 0 has 1 and 2, expert 2 the others.
#[test]
fn grouped_by_hand() {
    let p = GroupedParams { experts: 3, slots: 2, width: 2, ..Default::default() };
    let sums = |p, x: &[f32]| {
        let (counts, list) = (Operand::u32(&[2, 0, 2]), Operand::u32(&[1, 2, 0, 3]));
        check_kernel(&importance::grouped(p), &[Operand::f32(x), counts, list, Operand::unset(6)]).remove(0)
    };
    assert_eq!(sums(p, &[1.0, 2.0, 3.0, -4.0]), [10.0, 20.0, 0.0, 0.0, 10.0, 20.0]);
    let rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    assert_eq!(sums(GroupedParams { slots: 1, ..p }, &rows), [34.0, 52.0, 0.0, 0.0, 50.0, 68.0]);
}

/// By hand: columns of [[1, 2], [3, 4], [5, -6]].
#[test]
fn by_hand() {
    let p = Params { rows: 3, width: 2, ..Default::default() };
    let x = Operand::f32(&[1.0, 2.0, 3.0, 4.0, 5.0, -6.0]);
    assert_eq!(check_kernel(&importance::squares(p), &[x, Operand::unset(2)])[0], [35.0, 56.0]);
}

//! Kernels of `rows` against their references.

use loam_shaders::rows::{self, Params};
use loam_shaders::step::NONE;
use loam_tests::{Operand, Random, check_gradient, check_kernel};

/// A list of distinct rows below `total` with gaps, of which the first two entries belong to another chunk.
fn list(count: u32, total: u32, random: &mut Random) -> Vec<u32> {
    let mut left: Vec<u32> = (0..total).collect();
    let pick = |i: u32| if i % 4 == 3 { NONE } else { left.swap_remove(random.below(left.len() as u32) as usize) };
    (0..count + 2).map(pick).collect()
}

#[test]
fn gather_and_scatter() {
    let mut random = Random::new(140);
    for (count, total) in [(1, 4), (3, 17), (17, 65), (65, 300)] {
        for width in [1, 5, 48, 300] {
            let p = Params { count, width, offset: 2, pad: 0 };
            let rows = Operand::u32(&list(count, total, &mut random));
            let x = Operand::f32(&random.values((total * width) as usize));
            let src = Operand::f32(&random.values((count * width) as usize));
            let gathered =
                check_kernel(&rows::gather(p), &[rows.clone(), x.clone(), Operand::unset((count * width) as usize)]);
            assert!(gathered[0].iter().all(|value| value.is_finite()), "a row was left out");
            check_kernel(&rows::scatter(p), &[rows, src, x]);
        }
    }
}

/// Rows that occur several times, none, and rows that do not occur: the gradient of [`rows::gather`].
#[test]
fn sums_of_rows() {
    let mut random = Random::new(141);
    for (count, total) in [(1, 4), (7, 2), (70, 13), (300, 40)] {
        for width in [1, 4, 33] {
            let p = Params { count, width, offset: 2, pad: 0 };
            let entry = |_| if random.below(5) == 0 { NONE } else { random.below(total) };
            let list: Vec<u32> = (0..count + 2).map(entry).collect();
            let (len, sums) = ((count * width) as usize, (total * width) as usize);
            let operands = [Operand::u32(&list), Operand::f32(&random.values(len)), Operand::f32(&random.values(sums))];
            check_kernel(&rows::add(p), &operands);
        }
    }
    let src: Vec<f32> = random.values(12);
    let p = Params { count: 6, width: 2, offset: 0, pad: 0 };
    let list = Operand::u32(&[1, 0, NONE, 1, 1, 2]);
    // The slopes of sum(src * gather(x)) at x are the sums of the rows of src.
    let operands = [list.clone(), Operand::f32(&src), Operand::f32(&[0.0; 6])];
    let dx = check_kernel(&rows::add(p), &operands).remove(0);
    check_gradient("x", &[0.5; 6], &dx, (0.5, 1e-5), |x| {
        let gathered = check_kernel(&rows::gather(p), &[list.clone(), Operand::f32(x), Operand::unset(12)]).remove(0);
        gathered.iter().zip(&src).map(|(x, d)| f64::from(*x) * f64::from(*d)).sum()
    });
}

/// By hand: row 2, nothing, row 0; and back.
#[test]
fn by_hand() {
    let p = Params { count: 3, width: 2, offset: 1, pad: 0 };
    let rows = Operand::u32(&[9, 2, NONE, 0]);
    let x = Operand::f32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let gathered = check_kernel(&rows::gather(p), &[rows.clone(), x.clone(), Operand::unset(6)]).remove(0);
    assert_eq!(gathered, [5.0, 6.0, 0.0, 0.0, 1.0, 2.0]);
    let src = Operand::f32(&[10.0, 11.0, 12.0, 13.0, 14.0, 15.0]);
    assert_eq!(check_kernel(&rows::scatter(p), &[rows, src, x])[0], [14.0, 15.0, 3.0, 4.0, 10.0, 11.0]);
}

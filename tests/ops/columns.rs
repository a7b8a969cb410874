//! Kernels of `columns` against their references: columns by hand, and that putting back is the gradient of taking.

use loam_shaders::columns::{self, Params};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

fn params(rows: u32, [start, width, stride]: [u32; 3], accumulate: u32) -> Params {
    Params { rows, width, start, stride, accumulate, pad: [0; 3] }
}

#[test]
fn columns_are_taken_and_put_back() {
    let mut random = Random::new(200);
    for rows in [1, 3, 65] {
        for range in [[0, 1, 1], [0, 5, 9], [4, 5, 9], [17, 64, 300]] {
            let p = params(rows, range, 0);
            let (start, width, stride) = (range[0] as usize, range[1] as usize, range[2] as usize);
            let wide = random.values(rows as usize * stride);
            let unset = Operand::unset(rows as usize * width);
            let part = check_kernel(&columns::copy(p), &[Operand::f32(&wide), unset]).remove(0);
            for (i, value) in part.iter().enumerate() {
                assert_eq!(*value, wide[i / width * stride + start + i % width], "element {i}");
            }
            for accumulate in [0, 1] {
                let p = params(rows, range, accumulate);
                let after = check_kernel(&columns::put(p), &[Operand::f32(&part), Operand::f32(&wide)]).remove(0);
                for (i, (before, after)) in wide.iter().zip(&after).enumerate() {
                    let mine = (start..start + width).contains(&(i % stride));
                    let factor = if mine && accumulate == 1 { 2.0 } else { 1.0 };
                    assert_eq!(*after, factor * before, "element {i}");
                }
            }
        }
    }
}

#[test]
fn gradient() {
    let mut random = Random::new(201);
    let (x, dy) = (random.values(3 * 11), random.values(3 * 4));
    let p = params(3, [5, 4, 11], 0);
    let dx = check_kernel(&columns::put(p), &[Operand::f32(&dy), Operand::f32(&[0.0; 33])]).remove(0);
    check_gradient("columns x", &x, &dx, (0.5, 1e-5), |x| {
        let y = check_kernel(&columns::copy(p), &[Operand::f32(x), Operand::unset(12)]).remove(0);
        y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
    });
}

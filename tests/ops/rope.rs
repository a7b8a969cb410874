//! The kernel of `rope` against its reference: both styles, partial rotation, and that -1 undoes 1.

use loam_shaders::rope::{self, Params, Style};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

const CONTEXT: u32 = 100;

fn params(tokens: u32, [heads, head_dim, rotary]: [u32; 3], style: Style) -> Params {
    Params { tokens, heads, head_dim, rotary, style: style as u32, sign: 1.0, pad: [0; 2] }
}

/// Cosines and sines of the usual angles `position * 10000^(-2i / rotary)`.
fn table(rotary: u32) -> Vec<f32> {
    let pair = |position: u32, i: u32| {
        let angle = f64::from(position) * 10_000f64.powf(-2.0 * f64::from(i) / f64::from(rotary));
        [angle.cos() as f32, angle.sin() as f32]
    };
    (0..CONTEXT).flat_map(|position| (0..rotary / 2).flat_map(move |i| pair(position, i))).collect()
}

fn rotate(p: Params, positions: &[u32], x: &[f32]) -> Vec<f32> {
    let operands = [Operand::u32(positions), Operand::f32(&table(p.rotary)), Operand::f32(x)];
    check_kernel(&rope::rotate(p), &operands).remove(0)
}

fn inputs(p: Params, random: &mut Random) -> (Vec<u32>, Vec<f32>) {
    let positions = (0..p.tokens).map(|_| random.below(CONTEXT)).collect();
    (positions, random.values((p.tokens * p.heads * p.head_dim) as usize))
}

#[test]
fn both_styles_and_their_inverse() {
    let mut random = Random::new(110);
    for tokens in [1, 3, 17, 65] {
        for heads in [[1, 16, 16], [4, 48, 48], [3, 80, 32], [2, 128, 128]] {
            for style in [Style::Adjacent, Style::Halves] {
                let p = params(tokens, heads, style);
                let (positions, x) = inputs(p, &mut random);
                let turned = rotate(p, &positions, &x);
                let back = rotate(Params { sign: -1.0, ..p }, &positions, &turned);
                let worst = x.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-6, "{p:?}: {worst:.1e}");
            }
        }
    }
}

/// Which dimensions form a pair, and which way they turn, by hand: the angle of position 1, pair 0 is 1.
#[test]
fn pairs_by_hand() {
    let (cos, sin) = (1f32.cos(), 1f32.sin());
    let mut x = vec![0.0; 8];
    x[0] = 1.0;
    let adjacent = rotate(params(1, [1, 8, 6], Style::Adjacent), &[1], &x);
    assert!((adjacent[0] - cos).abs() < 1e-6 && (adjacent[1] - sin).abs() < 1e-6, "{adjacent:?}");
    let halves = rotate(params(1, [1, 8, 6], Style::Halves), &[1], &x);
    assert!((halves[0] - cos).abs() < 1e-6 && (halves[3] - sin).abs() < 1e-6, "{halves:?}");
}

/// The transposed rotation is the gradient. The loss is linear in x, so a large step is exact.
#[test]
fn gradient() {
    let mut random = Random::new(111);
    for style in [Style::Adjacent, Style::Halves] {
        let p = params(3, [2, 8, 6], style);
        let (positions, x) = inputs(p, &mut random);
        let dy = random.values(x.len());
        let dx = rotate(Params { sign: -1.0, ..p }, &positions, &dy);
        let loss = |x: &[f32]| {
            let y = rotate(p, &positions, x);
            y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
        };
        check_gradient("rope x", &x, &dx, (1.0, 1e-5), loss);
    }
}

//! Kernels of `matmul` against their references.

use loam_shaders::matmul::{self, Params};
use loam_shaders::{Bind, Call, Format, Step};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

/// Input widths that a format can have: less than a slab, odd numbers of slabs, many.
fn inners(format: Format) -> &'static [u32] {
    match format.block_len() {
        1 => &[4, 12, 36, 64, 172, 256],
        32 => &[32, 64, 96, 288, 768],
        _ => &[256, 768],
    }
}

fn whole(format: Format, tokens: u32, inner: u32, rows: u32) -> Params {
    Params { tokens, inner, row0: 0, rows, stride: rows, accumulate: 0, format: format.ggml_id(), rank: 0 }
}

fn x(p: &Params, random: &mut Random) -> Operand {
    Operand::f32(&random.values((p.tokens * p.inner) as usize))
}

fn weight(p: &Params, random: &mut Random) -> Operand {
    let format = Format::from_ggml_id(p.format).expect("a format");
    Operand::weight(format, p.rows as usize, p.inner as usize, random)
}

#[test]
fn forward_of_few_tokens() {
    let mut random = Random::new(10);
    for format in Format::ALL {
        for &inner in inners(format) {
            for (tokens, rows) in [(1, 37), (2, 8), (3, 1), (4, 13)] {
                let p = whole(format, tokens, inner, rows);
                let y = Operand::unset((tokens * rows) as usize);
                let call = matmul::forward(p);
                assert_eq!(call.kernel.name(), format!("matmul_vector_{format}"));
                let written = check_kernel(&call, &[x(&p, &mut random), weight(&p, &mut random), y]);
                assert!(written[0].iter().all(|value| value.is_finite()));
            }
        }
    }
}

#[test]
fn forward_of_many_tokens() {
    let mut random = Random::new(11);
    for format in Format::ALL {
        for &inner in inners(format) {
            for (tokens, rows) in [(5, 67), (17, 64), (33, 5), (65, 129)] {
                let p = whole(format, tokens, inner, rows);
                let y = Operand::unset((tokens * rows) as usize);
                let call = matmul::forward(p);
                assert_eq!(call.kernel.name(), format!("matmul_tile_{format}"));
                let written = check_kernel(&call, &[x(&p, &mut random), weight(&p, &mut random), y]);
                assert!(written[0].iter().all(|value| value.is_finite()));
            }
        }
    }
}

#[test]
fn transposed() {
    let mut random = Random::new(12);
    for format in Format::ALL {
        for &inner in inners(format) {
            for (tokens, rows) in [(1, 33), (3, 1), (17, 64), (65, 37)] {
                let p = whole(format, tokens, inner, rows);
                let dy = Operand::f32(&random.values((tokens * rows) as usize));
                let dx = Operand::unset((tokens * inner) as usize);
                let written = check_kernel(&matmul::transposed(p), &[dy, weight(&p, &mut random), dx]);
                assert!(written[0].iter().all(|value| value.is_finite()));
            }
        }
    }
}

/// Variants agree with the reference, and on the GPU they give the bits of the kernel that a plan records: choosing one
/// by measurement changes no result.
#[test]
fn variants_give_the_same_bits() {
    let mut random = Random::new(13);
    for format in Format::ALL {
        let inner = inners(format)[inners(format).len() / 2];
        for (tokens, rows) in [(5, 67), (130, 37)] {
            let p = whole(format, tokens, inner, rows);
            let mut all = |call: Call, x: u32, y: u32| {
                let x = Operand::f32(&random.values((tokens * x) as usize));
                let operands = [x, weight(&p, &mut random), Operand::f32(&random.values((tokens * y) as usize))];
                assert!(!call.kernel.variants.is_empty(), "{}", call.kernel.name());
                let recorded = loam_tests::gpu().map(|gpu| gpu.run(&Step::default(), &call, &operands));
                for variant in call.kernel.variants {
                    check_kernel(&call.by(variant), &operands);
                    let bits = loam_tests::gpu().map(|gpu| gpu.run(&Step::default(), &call.by(variant), &operands));
                    assert_eq!(bits, recorded, "{} for {}", variant.kernel.name(), call.kernel.name());
                }
            };
            let p = Params { accumulate: 1, ..p };
            all(matmul::forward(p), inner, rows);
            all(matmul::transposed(p), rows, inner);
        }
    }
}

/// A part of a split weight touches its own columns of `y` only, reads its own columns of `dy` only, and adds.
#[test]
fn parts_of_a_split_weight() {
    let mut random = Random::new(13);
    for format in Format::ALL {
        for tokens in [2, 19] {
            for accumulate in [0, 1] {
                let p = Params { row0: 21, stride: 77, accumulate, ..whole(format, tokens, 256, 35) };
                let start = random.values((tokens * 77) as usize);
                let y = Operand::f32(&start);
                let written = check_kernel(&matmul::forward(p), &[x(&p, &mut random), weight(&p, &mut random), y]);
                for (i, (before, after)) in start.iter().zip(&written[0]).enumerate() {
                    let mine = (21..56).contains(&(i % 77));
                    assert_eq!(before != after, mine, "{format}: column {}", i % 77);
                }
                let dx = if accumulate == 1 { x(&p, &mut random) } else { Operand::unset((tokens * 256) as usize) };
                let dy = Operand::f32(&random.values((tokens * 77) as usize));
                check_kernel(&matmul::transposed(p), &[dy, weight(&p, &mut random), dx]);
            }
        }
    }
}

/// A kernel must not read what it does not own: NaN in a foreign column of `dy` would spread.
#[test]
fn foreign_gradients_do_not_leak() {
    let mut random = Random::new(14);
    let p = Params { row0: 3, stride: 9, ..whole(Format::Q4_0, 6, 32, 5) };
    let dy: Vec<f32> = (0..54).map(|i| if (3..8).contains(&(i % 9)) { random.value() } else { f32::NAN }).collect();
    let written =
        check_kernel(&matmul::transposed(p), &[Operand::f32(&dy), weight(&p, &mut random), Operand::unset(6 * 32)]);
    assert!(written[0].iter().all(|value| value.is_finite()));
}

/// Runs a reference on blocks and returns what it wrote.
fn by_reference(call: &Call, input: &[f32], blocks: &[u8], len: usize) -> Vec<f32> {
    let mut out = vec![0u32; len];
    let input: &[u32] = bytemuck::cast_slice(input);
    let mut bound = [Bind::Read(input), Bind::Blocks(blocks), Bind::Write(&mut out)];
    (call.kernel.reference)(&Step::default(), &call.params, &mut bound);
    bytemuck::cast_slice(&out).to_vec()
}

#[test]
fn transposed_is_the_gradient_of_forward() {
    let mut random = Random::new(15);
    for format in Format::ALL {
        let p = whole(format, 3, 256, 11);
        let Operand::Weight { blocks, .. } = weight(&p, &mut random) else { unreachable!("a weight") };
        let x = random.values(3 * 256);
        let dy = random.values(3 * 11);
        let dx = by_reference(&matmul::transposed(p), &dy, &blocks, x.len());
        check_gradient(&format!("{format}"), &x, &dx, (0.5, 1e-4), |x| {
            let y = by_reference(&matmul::forward(p), x, &blocks, dy.len());
            y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
        });
    }
}

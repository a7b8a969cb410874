//! Products with a low-rank update in the same pass, against their references and against the way in two passes.

use loam_shaders::dense;
use loam_shaders::matmul::{self, Params, low_rank};
use loam_shaders::{Bind, Call, Format, Step};
use loam_tests::{Operand, Random, check_gradient, check_kernel};

/// Ranks that have a kernel: less than a step of 32, whole steps, and more.
const RANKS: [u32; 5] = [4, 8, 16, 40, 64];

fn params(format: Format, [tokens, inner, rows]: [u32; 3], rank: u32) -> Params {
    Params { tokens, inner, row0: 0, rows, stride: rows, accumulate: 0, format: format.ggml_id(), rank }
}

/// A width that is no multiple of 32, or of 64, where the format has one.
fn inner(format: Format) -> u32 {
    match format.block_len() {
        1 => 172,
        32 => 96,
        _ => 256,
    }
}

fn values(len: u32, random: &mut Random) -> Operand {
    Operand::f32(&random.values(len as usize))
}

fn weight(p: &Params, random: &mut Random) -> Operand {
    let format = Format::from_ggml_id(p.format).expect("a format");
    Operand::weight(format, p.rows as usize, p.inner as usize, random)
}

/// x, weight, y, u and B of [`low_rank::forward`].
fn forward_operands(p: &Params, random: &mut Random) -> [Operand; 5] {
    let x = values(p.tokens * p.inner, random);
    let (weight, y) = (weight(p, random), values(p.tokens * p.stride, random));
    [x, weight, y, values(p.tokens * p.rank, random), values(p.stride * p.rank, random)]
}

/// dy, weight, dx, du and A of [`low_rank::transposed`].
fn transposed_operands(p: &Params, random: &mut Random) -> [Operand; 5] {
    let dy = values(p.tokens * p.stride, random);
    let (weight, dx) = (weight(p, random), values(p.tokens * p.inner, random));
    [dy, weight, dx, values(p.tokens * p.rank, random), values(p.rank * p.inner, random)]
}

#[test]
fn ranks_without_a_kernel() {
    let fits: Vec<usize> = (0..=40).filter(|rank| low_rank::has_kernel(*rank)).collect();
    assert_eq!(fits, [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]);
}

#[test]
fn forward() {
    let mut random = Random::new(40);
    for format in Format::ALL {
        for (rank, (tokens, rows)) in RANKS.into_iter().zip([(5, 67), (33, 5), (65, 129), (130, 64), (5, 1)]) {
            let p = params(format, [tokens, inner(format), rows], rank);
            let mut operands = forward_operands(&p, &mut random);
            operands[2] = Operand::unset((tokens * rows) as usize);
            let call = low_rank::forward(p);
            assert_eq!(call.kernel.name(), format!("matmul_tile_lora_{format}"));
            let written = check_kernel(&call, &operands);
            assert!(written[0].iter().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn transposed() {
    let mut random = Random::new(41);
    for format in Format::ALL {
        for (rank, (tokens, rows)) in RANKS.into_iter().zip([(5, 67), (33, 5), (65, 129), (130, 64), (1, 33)]) {
            let p = params(format, [tokens, inner(format), rows], rank);
            let mut operands = transposed_operands(&p, &mut random);
            operands[2] = Operand::unset((tokens * p.inner) as usize);
            let call = low_rank::transposed(p);
            assert_eq!(call.kernel.name(), format!("matmul_transposed_lora_{format}"));
            let written = check_kernel(&call, &operands);
            assert!(written[0].iter().all(|value| value.is_finite()));
        }
    }
}

/// A part of a split weight touches its own columns of `y` only, and takes its own rows of B and columns of `dy`.
#[test]
fn parts_of_a_split_weight() {
    let mut random = Random::new(42);
    for format in Format::ALL {
        for (accumulate, rank) in [(0, 8), (1, 20)] {
            let p = Params { row0: 21, stride: 77, accumulate, ..params(format, [19, 256, 35], rank) };
            let mut operands = forward_operands(&p, &mut random);
            let start = random.values(19 * 77);
            operands[2] = Operand::f32(&start);
            // A row of another part must not spread.
            let foreign = |i: usize| !(21..56).contains(&(i / rank as usize));
            let b: Vec<f32> =
                (0..77 * rank as usize).map(|i| if foreign(i) { f32::NAN } else { random.value() }).collect();
            operands[4] = Operand::f32(&b);
            let written = check_kernel(&low_rank::forward(p), &operands);
            for (i, (before, after)) in start.iter().zip(&written[0]).enumerate() {
                let mine = (21..56).contains(&(i % 77));
                assert_eq!(before != after, mine, "{format}: column {}", i % 77);
            }
            check_kernel(&low_rank::transposed(p), &transposed_operands(&p, &mut random));
        }
    }
}

/// As of the plain products: which variant is chosen changes no result, for ranks that end within a step of some of
/// them too.
#[test]
fn variants_give_the_same_bits() {
    let mut random = Random::new(43);
    for format in Format::ALL {
        for (rank, (tokens, rows)) in [(8, (5, 67)), (40, (130, 37)), (20, (65, 64))] {
            let p = Params { accumulate: 1, ..params(format, [tokens, inner(format), rows], rank) };
            let forward = (low_rank::forward(p), forward_operands(&p, &mut random), 2);
            let transposed = (low_rank::transposed(p), transposed_operands(&p, &mut random), 1);
            for (call, operands, variants) in [forward, transposed] {
                assert_eq!(call.kernel.variants.len(), variants, "{}", call.kernel.name());
                let recorded = loam_tests::gpu().map(|gpu| gpu.run(&Step::default(), &call, &operands));
                for variant in call.kernel.variants {
                    check_kernel(&call.by(variant), &operands);
                    let bits = loam_tests::gpu().map(|gpu| gpu.run(&Step::default(), &call.by(variant), &operands));
                    assert_eq!(bits, recorded, "{} for {}", variant.kernel.name(), call.kernel.name());
                }
            }
        }
    }
}

/// Runs a reference and returns what it wrote over `out`.
fn by_reference(call: &Call, read: &[&[f32]], blocks: Option<&[u8]>, mut out: Vec<f32>) -> Vec<f32> {
    let mut read = read.iter().map(|values| Bind::Read(bytemuck::cast_slice(values)));
    let mut bound: Vec<Bind<'_>> = read.by_ref().take(if blocks.is_some() { 1 } else { 2 }).collect();
    bound.extend(blocks.map(Bind::Blocks));
    bound.push(Bind::Write(bytemuck::cast_slice_mut(&mut out)));
    bound.extend(read);
    (call.kernel.reference)(&Step::default(), &call.params, &mut bound);
    drop(bound);
    out
}

fn assert_close(what: &str, expected: &[f32], found: &[f32]) {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let error = norm(&mut expected.iter().zip(found).map(|(e, f)| e - f)) / norm(&mut expected.iter().copied());
    assert!(error < 1e-6, "{what}: {error:.1e}");
}

/// One pass gives what a product and a low-rank product added to it give.
#[test]
fn one_pass_is_two_passes() {
    let mut random = Random::new(44);
    let (tokens, inner, rows, rank) = (9, 256, 70, 12);
    for format in [Format::F32, Format::Q4_0, Format::Q4_K] {
        let p = params(format, [tokens, inner, rows], rank);
        let Operand::Weight { blocks, .. } = weight(&p, &mut random) else { unreachable!("a weight") };
        let mut values = |len: u32| random.values(len as usize);
        let (x, u, b) = (values(tokens * inner), values(tokens * rank), values(rows * rank));
        let (dy, du, a) = (values(tokens * rows), values(tokens * rank), values(rank * inner));
        let dense = |m, n, (b_row, b_col)| {
            let d = dense::Params { m, n, k: rank, a_row: rank, a_col: 1, b_row, b_col, ..Default::default() };
            dense::product(dense::Params { accumulate: 1, alpha: 1.0, ..d })
        };
        let y = by_reference(&matmul::forward(p), &[&x], Some(&blocks), vec![0.0; (tokens * rows) as usize]);
        let y = by_reference(&dense(tokens, rows, (1, rank)), &[&u, &b], None, y);
        let one = by_reference(&low_rank::forward(p), &[&x, &u, &b], Some(&blocks), vec![0.0; y.len()]);
        assert_close(&format!("{format} forward"), &y, &one);
        let dx = by_reference(&matmul::transposed(p), &[&dy], Some(&blocks), vec![0.0; (tokens * inner) as usize]);
        let dx = by_reference(&dense(tokens, inner, (inner, 1)), &[&du, &a], None, dx);
        let one = by_reference(&low_rank::transposed(p), &[&dy, &du, &a], Some(&blocks), vec![0.0; dx.len()]);
        assert_close(&format!("{format} transposed"), &dx, &one);
    }
}

/// With u = x Aᵀ, the transposed product of dy and of du = dy B is the gradient of the forward one by x.
#[test]
fn transposed_is_the_gradient_of_forward() {
    let mut random = Random::new(45);
    let (tokens, inner, rows, rank) = (5, 256, 11, 8);
    for format in Format::ALL {
        let p = params(format, [tokens, inner, rows], rank);
        let Operand::Weight { blocks, .. } = weight(&p, &mut random) else { unreachable!("a weight") };
        let mut values = |len: u32| random.values(len as usize);
        let (x, dy) = (values(tokens * inner), values(tokens * rows));
        let (a, b) = (values(rank * inner), values(rows * rank));
        let lowered = |left: &[f32], right: &[f32], k, (b_row, b_col)| {
            let d = dense::Params { m: tokens, n: rank, k, a_row: k, a_col: 1, b_row, b_col, ..Default::default() };
            let call = dense::product(dense::Params { alpha: 1.0, ..d });
            by_reference(&call, &[left, right], None, vec![0.0; (tokens * rank) as usize])
        };
        let du = lowered(&dy, &b, rows, (rank, 1));
        let dx = by_reference(&low_rank::transposed(p), &[&dy, &du, &a], Some(&blocks), vec![0.0; x.len()]);
        check_gradient(&format!("{format}"), &x, &dx, (0.5, 1e-4), |x| {
            let u = lowered(x, &a, inner, (1, inner));
            let y = by_reference(&low_rank::forward(p), &[x, &u, &b], Some(&blocks), vec![0.0; dy.len()]);
            y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
        });
    }
}

//! Products in less than single precision: kernels that run in place of others where they are asked for.

use loam_shaders::matmul::{self, Params};
use loam_shaders::{Call, Format, InPrecision, Need, Precision, Step};
use loam_tests::{Operand, Random, check_kernel, gpu, relative, skipped};

fn whole(format: Format, tokens: u32, inner: u32, rows: u32) -> Params {
    Params { tokens, inner, row0: 0, rows, stride: rows, accumulate: 0, format: format.ggml_id(), rank: 0 }
}

fn weight(p: &Params, random: &mut Random) -> Operand {
    let format = Format::from_ggml_id(p.format).expect("a format");
    Operand::weight(format, p.rows as usize, p.inner as usize, random)
}

/// Widths that end within a slab, and within a run of 32 columns where a format can.
fn inners(format: Format) -> &'static [u32] {
    match format.block_len() {
        1 => &[36, 172],
        32 => &[96, 288],
        _ => &[256, 768],
    }
}

#[test]
fn they_agree_with_the_reference() {
    let mut random = Random::new(40);
    let mut seen = Vec::new();
    for format in Format::ALL {
        for (&inner, (tokens, rows)) in inners(format).iter().zip([(37, 67), (130, 37)]) {
            for accumulate in [0, 1] {
                let p = Params { accumulate, row0: 8, stride: rows + 11, ..whole(format, tokens, inner, rows) };
                let mut all = |call: Call, x: u32, y: u32| {
                    let x = Operand::f32(&random.values((tokens * x) as usize));
                    let y = Operand::f32(&random.values((tokens * y) as usize));
                    let operands = [x, weight(&p, &mut random), y];
                    assert!(call.kernel.by_precision.len() >= 3, "{}", call.kernel.name());
                    for one in call.kernel.by_precision {
                        check_kernel(&call.by(&one.variant), &operands);
                        seen.extend(one.variant.kernel.source.needs);
                    }
                };
                all(matmul::forward(p), inner, p.stride);
                all(matmul::transposed(p), p.stride, inner);
            }
        }
    }
    for need in [Need::Half, Need::Cooperative(8), Need::Cooperative(16)] {
        assert!(seen.contains(&need), "no kernel needs {need:?}");
    }
}

/// Rows far outside of what half precision holds: gradients of 1e-9, activations of 1e9, and a row of zeros.
#[test]
fn rows_of_any_size_keep_their_digits() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(41);
    let (tokens, inner, rows) = (6, 96, 40);
    let p = whole(Format::Q8_0, tokens, inner, rows);
    let sizes = [1e-30, 1e-9, 1.0, 1e9, 0.0, 1e30];
    let mut scaled = |width: u32| {
        let values = random.values((tokens * width) as usize);
        let sized = values.chunks(width as usize).zip(sizes).flat_map(|(row, size)| row.iter().map(move |v| v * size));
        sized.collect::<Vec<f32>>()
    };
    let (x, dy) = (scaled(inner), scaled(rows));
    let weight = weight(&p, &mut Random::new(42));
    let mut ran = 0;
    for (call, input, width) in [(matmul::forward(p), x, rows), (matmul::transposed(p), dy, inner)] {
        let operands = [Operand::f32(&input), weight.clone(), Operand::unset((tokens * width) as usize)];
        let expected = gpu.run(&Step::default(), &call, &operands);
        for InPrecision { precision, variant } in
            call.kernel.by_precision.iter().filter(|one| gpu.runs(one.variant.kernel.source))
        {
            let found = gpu.run(&Step::default(), &call.by(variant), &operands);
            let width = width as usize;
            let bound = if *precision == Precision::F16 { 1e-3 } else { 1e-2 };
            for (expected, found) in expected[0].chunks(width).zip(found[0].chunks(width)) {
                let error = if found == expected { 0.0 } else { relative(found, expected) };
                assert!(error < bound, "{}: {error:.1e}", variant.kernel.name());
            }
            ran += 1;
        }
    }
    if ran < 2 {
        skipped("the GPU has no half precision");
    }
}

/// What is not finite must be seen: a step with it is left out.
#[test]
fn values_that_are_not_finite_stay_so() {
    let Some(gpu) = gpu() else { return };
    let p = whole(Format::F32, 6, 64, 40);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = Random::new(43).values(6 * 64);
        x[70] = bad;
        let operands = [Operand::f32(&x), weight(&p, &mut Random::new(44)), Operand::unset(6 * 40)];
        let call = matmul::forward(p);
        for variant in
            call.kernel.by_precision.iter().map(|one| &one.variant).filter(|variant| gpu.runs(variant.kernel.source))
        {
            let found = gpu.run(&Step::default(), &call.by(variant), &operands);
            for (row, values) in found[0].chunks(40).enumerate() {
                let finite = values.iter().all(|value| value.is_finite());
                assert_eq!(finite, row != 1, "{}: row {row} of {bad}", variant.kernel.name());
            }
        }
    }
}

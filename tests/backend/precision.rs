//! Products in less than single precision: only where asked for, close to those in single precision, and checked first.

use std::collections::BTreeMap;

use loam::backend::{Backend, Precision};
use loam_shaders::Format;
use loam_tests::relative;
use pollster::block_on;

use crate::feed_forward::result;
use crate::fixture::{
    A, B, OUT, gpu, gpu_for, mix, mix_with_a_wrong_variant, node, plan, read, run, slot, stored, values, zeros,
};

#[test]
fn half_precision_is_close_and_repeats_its_bits() {
    let (Some(mut single), Some(mut half)) = (gpu(), gpu_for(Precision::F16)) else { return };
    assert_eq!(single.info().precision, Precision::F32);
    assert_eq!(half.info().precision, Precision::F16);
    for format in [Format::Q4_0, Format::Q6_K] {
        let (expected, found) = (result(&mut single, format, 70), result(&mut half, format, 70));
        let error = relative(&found, &expected);
        assert!((1e-6..2e-3).contains(&error), "{format}: {error:.1e}");
        assert_eq!(result(&mut half, format, 70), found, "{format}");
        let few = (result(&mut single, format, 2), result(&mut half, format, 2));
        assert_eq!(few.0, few.1, "{format}: a few tokens stay in single precision");
    }
    let chosen: BTreeMap<_, _> = half.replacements().collect();
    let matrices = half.info().features.iter().find_map(|feature| feature.strip_prefix("cooperative-matrix-"));
    let expected = match matrices {
        Some(side) => format!("matmul_cooperative_{side}_q4_0"),
        None => "matmul_half_q4_0".to_owned(),
    };
    assert_eq!(chosen["matmul_tile_q4_0"], Some(expected.as_str()));
    assert_eq!(chosen.len(), 2, "{chosen:?}");
}

#[test]
fn integers_are_close_and_need_no_feature() {
    let (Some(mut single), Some(mut int8)) = (gpu(), gpu_for(Precision::Int8)) else { return };
    assert_eq!(int8.info().precision, Precision::Int8);
    let (expected, found) = (result(&mut single, Format::Q4_0, 70), result(&mut int8, Format::Q4_0, 70));
    let error = relative(&found, &expected);
    assert!((1e-5..2e-2).contains(&error), "{error:.1e}");
    assert_eq!(int8.replacements().collect::<Vec<_>>(), [("matmul_tile_q4_0", Some("matmul_int8_q4_0"))]);
}

/// What the tuner may choose among has the bits of single precision.
#[test]
fn tuning_leaves_half_precision_alone() {
    let (Some(mut plain), Some(mut tuned)) = (gpu_for(Precision::F16), gpu_for(Precision::F16)) else { return };
    tuned = tuned.tuned(None);
    assert_eq!(result(&mut tuned, Format::Q4_0, 70), result(&mut plain, Format::Q4_0, 70));
    assert!(tuned.choices().expect("tuned").is_empty());
}

#[test]
fn a_kernel_in_half_precision_that_is_wrong_is_never_used() {
    let Some(mut backend) = gpu_for(Precision::F16) else { return };
    for (id, entry) in [(A, values(&[1.0; 64])), (B, values(&[2.0; 64])), (OUT, zeros(64))] {
        block_on(backend.allocate(id, &entry)).expect("allocated");
    }
    let all = |id| stored(id, 64);
    let nodes = vec![
        node("first", mix_with_a_wrong_variant(64, 3.0), &[all(A), all(B), slot(0, 64)]),
        node("second", mix(64, 0.0), &[slot(0, 64), all(B), all(OUT)]),
    ];
    let program = block_on(backend.compile(&plan(&[64], nodes))).expect("compiled");
    assert_eq!(backend.replacements().collect::<Vec<_>>(), [("test_mix", None)]);
    run(&mut backend, program);
    assert_eq!(read(&mut backend, OUT, 0, 64), [7.0; 64]);
}

//! What a plan, a device or a driver can do wrong: a typed error each, never a panic.

use loam::Error;
use loam::backend::wgpu::{Checks, WgpuBackend, adapters};
use loam::backend::{Backend, ProgramId};
use loam::plan::{Node, View};
use loam_shaders::{Call, Step};
use pollster::block_on;

use crate::fixture::{A, B, OUT, add, broken, gpu, mix, node, plan, read, run, slot, stored, values, zeros};

#[test]
fn a_lost_device_is_a_typed_error_everywhere() {
    let Some(mut gpu) = gpu() else { return };
    block_on(gpu.allocate(OUT, &zeros(64))).unwrap();
    let one = plan(&[64], vec![node("add", add(64, 1.0), &[stored(OUT, 64)])]);
    let program = block_on(gpu.compile(&one)).unwrap();
    run(&mut gpu, program);
    gpu.destroy();
    let lost = |result: loam::Result<()>| match result {
        Err(Error::DeviceLost { device, reason }) => assert!(!device.is_empty() && !reason.is_empty()),
        other => panic!("{other:?}"),
    };
    lost(gpu.run(program, &Step::default(), 0).map(drop));
    lost(gpu.write(OUT, 0, &[1]));
    lost(block_on(gpu.allocate(A, &zeros(64))));
    lost(block_on(gpu.compile(&one)).map(drop));
    lost(block_on(gpu.read(OUT, 0, 64)).map(drop));
    gpu.discard(program);
    gpu.release(OUT);
}

/// The loss comes while work is under way, at every point of a short run.
#[test]
fn a_device_lost_behind_any_submission_is_a_typed_error() {
    for after in 0..6 {
        let Some(mut gpu) = gpu() else { return };
        block_on(gpu.allocate(OUT, &zeros(64))).unwrap();
        let program = block_on(gpu.compile(&plan(&[], vec![node("add", add(64, 1.0), &[stored(OUT, 64)])]))).unwrap();
        (0..after).for_each(|_| run(&mut gpu, program));
        gpu.destroy();
        assert!(matches!(block_on(gpu.read(OUT, 0, 1)), Err(Error::DeviceLost { .. })));
        assert!(matches!(gpu.run(program, &Step::default(), 0), Err(Error::DeviceLost { .. })));
    }
}

#[test]
fn a_buffer_over_the_limit_is_a_typed_error() {
    let Some(mut gpu) = gpu() else { return };
    let limit = gpu.info().limits.max_buffer_bytes;
    for words in [limit / 4 + 1, u64::MAX / 2] {
        match block_on(gpu.allocate(A, &zeros(words))) {
            Err(Error::Limit { what, limit: found, .. }) => {
                assert!(what.contains("zeros"), "{what}");
                assert_eq!(found, limit);
            }
            other => panic!("{other:?}"),
        }
        let one = plan(&[words], vec![]);
        assert!(matches!(block_on(gpu.compile(&one)), Err(Error::Limit { .. })));
    }
    block_on(gpu.allocate(A, &zeros(64))).unwrap();
    assert_eq!(read(&mut gpu, A, 0, 1), [0.0]);
}

#[test]
fn requested_limits_hold() {
    let Some(adapter) = block_on(adapters()).into_iter().next() else {
        loam_tests::skipped("no adapter");
        return;
    };
    let limits =
        wgpu::Limits { max_storage_buffer_binding_size: 1 << 20, max_buffer_size: 2 << 20, ..wgpu::Limits::default() };
    let opened = WgpuBackend::open_limited(adapter.clone(), limits, Checks::On);
    let mut gpu = block_on(opened).unwrap();
    assert_eq!((gpu.info().limits.max_binding_bytes, gpu.info().limits.max_buffer_bytes), (1 << 20, 2 << 20));
    let words = (1 << 18) + 64;
    block_on(gpu.allocate(OUT, &zeros(words))).unwrap();
    let over = plan(&[], vec![node("blk.0.over", add(64, 1.0), &[stored(OUT, words)])]);
    match block_on(gpu.compile(&over)) {
        Err(Error::Limit { what, .. }) => assert!(what.contains("blk.0.over"), "{what}"),
        other => panic!("{other:?}"),
    }
    let too_much = wgpu::Limits { max_storage_buffers_per_shader_stage: u32::MAX, ..wgpu::Limits::default() };
    let opened = block_on(WgpuBackend::open_limited(adapter, too_much, Checks::On));
    assert!(matches!(opened, Err(Error::Device { .. })));
}

fn refused(node: Node, expected: &str) {
    let Some(mut gpu) = gpu() else { return };
    block_on(gpu.allocate(A, &values(&[1.0; 256]))).unwrap();
    block_on(gpu.allocate(B, &values(&[1.0; 256]))).unwrap();
    let label = node.label.clone();
    match block_on(gpu.compile(&plan(&[256], vec![node]))) {
        Err(Error::Device { problem, .. }) => {
            let problem = problem.to_string();
            assert!(problem.contains(&label) && problem.contains(expected), "{problem}");
        }
        other => panic!("{expected}: {other:?}"),
    }
    assert_eq!(read(&mut gpu, A, 0, 1), [1.0], "the back end still works");
}

#[test]
fn nodes_that_break_a_rule_are_refused_by_label() {
    let mix_on = |operands: &[View]| node("blk.7.ffn_up", mix(64, 1.0), operands);
    let (a, b, s) = (stored(A, 64), stored(B, 64), slot(0, 64));
    refused(mix_on(&[a, s, s]), "operands b and out share a buffer that is written");
    refused(mix_on(&[a, View { offset: 128, ..s }, s]), "operands b and out share a buffer");
    refused(mix_on(&[a, b]), "2 operands for 3 bindings");
    refused(mix_on(&[a, View { words: 0, ..b }, s]), "operand b is empty");
    refused(mix_on(&[a, View { offset: 3, ..b }, s]), "no multiple of");
    refused(mix_on(&[a, View { offset: 256, ..b }, s]), "64 words at 256 of a buffer of 256");
    refused(mix_on(&[a, View { offset: u64::MAX, ..b }, s]), "of a buffer of 256");
    refused(mix_on(&[a, b, slot(3, 64)]), "slot 3 does not exist");
    refused(mix_on(&[a, stored(OUT, 64), s]), "stored buffer 2 is not allocated");
    let call = Call { grid: [65_536, 1, 1], ..mix(64, 1.0) };
    refused(Node { call, ..mix_on(&[a, b, s]) }, "grid [65536, 1, 1]");
    let call = Call { params: vec![0; 32], ..mix(64, 1.0) };
    refused(Node { call, ..mix_on(&[a, b, s]) }, "32 bytes of parameters");
}

#[test]
fn a_kernel_that_the_driver_refuses_is_named() {
    let Some(mut gpu) = gpu() else { return };
    block_on(gpu.allocate(OUT, &zeros(64))).unwrap();
    for _ in 0..2 {
        let error = block_on(gpu.compile(&plan(&[], vec![node("x", broken(), &[stored(OUT, 64)])]))).unwrap_err();
        assert!(error.to_string().contains("test_broken"), "{error}");
    }
}

#[test]
fn a_released_buffer_is_an_error_and_not_a_crash() {
    let Some(mut gpu) = gpu() else { return };
    block_on(gpu.allocate(OUT, &zeros(64))).unwrap();
    let program = block_on(gpu.compile(&plan(&[], vec![node("add", add(64, 1.0), &[stored(OUT, 64)])]))).unwrap();
    gpu.release(OUT);
    assert!(matches!(gpu.run(program, &Step::default(), 0), Err(Error::Device { .. })));
    assert!(matches!(gpu.run(ProgramId(9), &Step::default(), 0), Err(Error::Device { .. })));
    block_on(gpu.allocate(OUT, &zeros(64))).unwrap();
    assert_eq!(read(&mut gpu, OUT, 0, 1), [0.0]);
}

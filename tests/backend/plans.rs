//! Compiling and running plans on the GPU back end.

use loam::backend::wgpu::Checks;
use loam::backend::{self, Backend};
use loam::plan::{Node, Plan, Pool, View, When};
use loam_shaders::Step;
use pollster::block_on;

use crate::fixture::{A, B, OUT, add, gpu, gpu_with, mix, node, plan, read, run, slot, stored, values, zeros};

const LEN: u64 = 1000;

/// `out = a + 2 * b`, through a slot.
fn sum_plan() -> Plan {
    let len = LEN as u32;
    let nodes = vec![
        node("first", mix(len, 2.0), &[stored(A, LEN), stored(B, LEN), slot(0, LEN)]),
        node("second", mix(len, 0.0), &[slot(0, LEN), stored(B, LEN), stored(OUT, LEN)]),
    ];
    plan(&[LEN], nodes)
}

fn provide(backend: &mut dyn Backend) {
    let a: Vec<f32> = (0..LEN).map(|i| i as f32).collect();
    block_on(backend.allocate(A, &values(&a))).unwrap();
    block_on(backend.allocate(B, &values(&vec![0.5; LEN as usize]))).unwrap();
    block_on(backend.allocate(OUT, &zeros(LEN))).unwrap();
}

#[test]
fn runs_with_and_without_checks() {
    for checks in [Checks::On, Checks::Off] {
        let Some(mut gpu) = gpu_with(checks) else { return };
        provide(&mut gpu);
        let program = block_on(gpu.compile(&sum_plan())).unwrap();
        run(&mut gpu, program);
        let expected: Vec<f32> = (0..LEN).map(|i| i as f32 + 1.0).collect();
        assert_eq!(read(&mut gpu, OUT, 0, LEN), expected);
    }
}

#[test]
fn every_run_sees_its_own_step_and_the_writes_before_it() {
    let Some(mut gpu) = gpu() else { return };
    block_on(gpu.allocate(OUT, &zeros(LEN))).unwrap();
    let program =
        block_on(gpu.compile(&plan(&[], vec![node("add", add(LEN as u32, 1.0), &[stored(OUT, LEN)])]))).unwrap();
    for i in 0..200 {
        backend::run(&mut gpu, program, &Step { lr: i as f32, ..Step::default() }).unwrap();
    }
    let sum = 200.0 + (0..200).sum::<i32>() as f32;
    assert_eq!(read(&mut gpu, OUT, 0, LEN), vec![sum; LEN as usize]);
    gpu.write(OUT, 10, &[0.0f32.to_bits()]).unwrap();
    run(&mut gpu, program);
    assert_eq!(read(&mut gpu, OUT, 9, 3), [sum + 1.0, 1.0, sum + 1.0]);
}

/// More nodes than one submission takes at first; later runs join the submissions. All orders must be kept.
#[test]
fn long_plans_are_cut_into_submissions_in_order() {
    let Some(mut gpu) = gpu() else { return };
    provide(&mut gpu);
    let len = LEN as u32;
    let mut nodes = Vec::new();
    for i in 0..150 {
        let from = if i == 0 { stored(A, LEN) } else { slot((i - 1) % 2, LEN) };
        nodes.push(node(&format!("step {i}"), mix(len, 1.0), &[from, stored(B, LEN), slot(i % 2, LEN)]));
    }
    nodes.push(node("out", mix(len, 0.0), &[slot(1, LEN), stored(B, LEN), stored(OUT, LEN)]));
    let program = block_on(gpu.compile(&plan(&[LEN, LEN], nodes))).unwrap();
    let expected: Vec<f32> = (0..LEN).map(|i| i as f32 + 75.0).collect();
    for _ in 0..6 {
        gpu.write(OUT, 0, &[0; LEN as usize]).unwrap();
        run(&mut gpu, program);
        assert_eq!(read(&mut gpu, OUT, 0, LEN), expected);
    }
}

#[test]
fn two_plans_share_a_stored_buffer_and_views_are_ranges() {
    let Some(mut gpu) = gpu() else { return };
    block_on(gpu.allocate(OUT, &zeros(192))).unwrap();
    let part = |offset, words| View { offset, ..stored(OUT, words) };
    let first = block_on(gpu.compile(&plan(&[], vec![node("first", add(64, 1.0), &[part(0, 64)])]))).unwrap();
    let second = block_on(gpu.compile(&plan(&[], vec![node("second", add(65, 2.0), &[part(64, 65)])]))).unwrap();
    for program in [first, second, first] {
        run(&mut gpu, program);
    }
    let expected: Vec<f32> = [vec![2.0; 64], vec![2.0; 65], vec![0.0; 63]].concat();
    assert_eq!(read(&mut gpu, OUT, 0, 192), expected);
}

#[test]
fn nodes_for_later_loss_chunks_sit_out() {
    let Some(mut gpu) = gpu() else { return };
    block_on(gpu.allocate(OUT, &zeros(64))).unwrap();
    let chunk = |above| Node { when: When { above, phase: None }, ..node("chunk", add(64, 1.0), &[stored(OUT, 64)]) };
    let program = block_on(gpu.compile(&plan(&[], vec![chunk(Some(4)), chunk(Some(8)), chunk(Some(16))]))).unwrap();
    for (trained, sum) in [(4, 0.0), (9, 2.0), (17, 5.0)] {
        backend::run(&mut gpu, program, &Step { trained, ..Step::default() }).unwrap();
        assert_eq!(read(&mut gpu, OUT, 0, 1), [sum]);
    }
}

#[test]
fn discard_frees_the_slots() {
    let Some(mut gpu) = gpu() else { return };
    provide(&mut gpu);
    let mut programs = Vec::new();
    for _ in 0..3 {
        let program = block_on(gpu.compile(&sum_plan())).unwrap();
        run(&mut gpu, program);
        programs.push(program);
    }
    // The programs share their slots; each has parameters of its own.
    let full = gpu.usage().memory.current[&Pool::Activations];
    assert!((LEN * 4..2 * LEN * 4).contains(&full), "{full}");
    // Right after the run, while it may still be under way.
    for program in programs.iter().copied() {
        gpu.discard(program);
        gpu.discard(program);
    }
    assert_eq!(gpu.usage().memory.current[&Pool::Activations], 0);
    assert_eq!(read(&mut gpu, OUT, 0, 2), [1.0, 2.0]);
    let error = backend::run(&mut gpu, programs[0], &Step::default()).unwrap_err().to_string();
    assert!(error.contains("is not compiled"), "{error}");
}

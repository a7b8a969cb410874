//! One plan on both back ends.

use loam::backend::cpu::CpuBackend;
use loam::backend::{self, Backend};
use loam::plan::{Plan, View};
use loam_shaders::Step;
use pollster::block_on;

use crate::fixture::{A, B, OUT, add, gpu, mix, node, plan, read, slot, stored, values, zeros};

const LEN: u64 = 333;

fn chain() -> Plan {
    let len = LEN as u32;
    let half = View { offset: 128, ..slot(1, 100) };
    let nodes = vec![
        node("mix", mix(len, 0.25), &[stored(A, LEN), stored(B, LEN), slot(0, LEN)]),
        node("copy", mix(len, 0.0), &[slot(0, LEN), stored(B, LEN), slot(1, LEN)]),
        node("part", add(100, 3.0), &[half]),
        node("out", mix(len, -1.5), &[slot(1, LEN), slot(0, LEN), stored(OUT, LEN)]),
    ];
    plan(&[LEN, LEN], nodes)
}

fn results(backend: &mut dyn Backend) -> Vec<f32> {
    let ramp = |scale: f32| values(&(0..LEN).map(|i| (i as f32 - 100.0) * scale).collect::<Vec<_>>());
    block_on(backend.allocate(A, &ramp(0.5))).unwrap();
    block_on(backend.allocate(B, &ramp(-0.125))).unwrap();
    block_on(backend.allocate(OUT, &zeros(LEN))).unwrap();
    let program = block_on(backend.compile(&chain())).unwrap();
    for lr in [1.0, 0.5] {
        backend::run(backend, program, &Step { lr, ..Step::default() }).unwrap();
    }
    read(backend, OUT, 0, LEN)
}

/// All values are small multiples of powers of two, so that results are exact whatever the order of operations.
#[test]
fn both_back_ends_compute_the_same() {
    let cpu = results(&mut CpuBackend::new(Some(1)).unwrap());
    let Some(mut gpu) = gpu() else { return };
    assert_eq!(results(&mut gpu), cpu);
}

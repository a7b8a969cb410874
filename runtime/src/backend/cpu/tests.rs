//! The executor on plans of one or two hand-written kernels.

use std::sync::Arc;

use loam_shaders::{Access, Bind, Binding, Call, Format, Kernel, Source, Step};

use super::*;
use crate::plan::{Location, Node, View, When};
use loam_files::SharedBytes;
use pollster::block_on;

const SUM_BINDINGS: &[Binding] = &[
    Binding { name: "x", access: Access::Read },
    Binding { name: "weight", access: Access::Read },
    Binding { name: "out", access: Access::ReadWrite },
];
static SUM_SOURCE: Source =
    Source { name: "sum", wgsl: "", bindings: SUM_BINDINGS, workgroup: [1; 3], params_bytes: 16, needs: &[] };
static SUM: Kernel = Kernel::new(&SUM_SOURCE, wrong).with_cpu(sum);

/// The reference must not run where there is a fast function.
fn wrong(_: &Step, _: &[u8], bound: &mut [Bind<'_>]) {
    bound[2].f32_mut().fill(f32::NAN);
}

/// out[i] += x[i] + params[0] + the first byte of the weight (or its first word, when it is bound as words).
fn sum(step: &Step, params: &[u8], bound: &mut [Bind<'_>]) {
    let [x, weight, out] = bound else { panic!("three bindings") };
    let first = match weight {
        Bind::Blocks(bytes) => f32::from(bytes[0]),
        other => other.f32()[0],
    };
    for (out, x) in out.f32_mut().iter_mut().zip(x.f32()) {
        *out += x + first + f32::from(params[0]) + step.lr;
    }
}

fn call() -> Call {
    Call { kernel: &SUM, params: vec![2; 16], grid: [1, 1, 1] }
}

fn entry(pool: Pool, content: Content, words: u64) -> Entry {
    Entry { name: "buffer".into(), pool, words, content }
}

fn node(views: [View; 3], above: Option<u32>) -> Node {
    Node { call: call(), operands: views.to_vec(), label: "test".into(), when: When { above, phase: None } }
}

fn stored_view(id: u32, offset: u64, words: u64) -> View {
    View { location: Location::Stored(StorageId(id)), offset, words }
}

fn slot(index: u32, words: u64) -> View {
    View { location: Location::Slot(index), offset: 0, words }
}

/// Buffer 0: inputs 1..=128. Buffer 1: a Q8_0 weight of one row. Buffer 2: 64 results.
fn backend() -> CpuBackend {
    let mut backend = CpuBackend::new(Some(2)).unwrap();
    let input = (1..=128).map(|i| (i as f32).to_bits()).collect();
    let source: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(vec![7u8; 100]);
    let blocks = SharedBytes { source, range: 10..44 }.into();
    let weight = Content::Weight { format: Format::Q8_0, rows: 1, cols: 32, blocks };
    block_on(backend.allocate(StorageId(0), &entry(Pool::Inputs, Content::Words(input), 128))).unwrap();
    block_on(backend.allocate(StorageId(1), &entry(Pool::Weights, weight, 20))).unwrap();
    block_on(backend.allocate(StorageId(2), &entry(Pool::Inputs, Content::Zeros, 64))).unwrap();
    backend
}

fn plan(nodes: Vec<Node>) -> Plan {
    Plan { name: "test".into(), nodes, slots: vec![64] }
}

fn result(backend: &mut CpuBackend) -> Vec<f32> {
    block_on(backend.read(StorageId(2), 0, 64)).unwrap().into_iter().map(f32::from_bits).collect()
}

#[test]
fn nodes_run_in_order_on_views_slots_and_blocks() {
    let mut backend = backend();
    let first = node([stored_view(0, 64, 64), stored_view(1, 0, 20), slot(0, 64)], None);
    let second = node([slot(0, 64), stored_view(0, 0, 64), stored_view(2, 0, 64)], None);
    let program = block_on(backend.compile(&plan(vec![first, second]))).unwrap();
    let step = Step { lr: 0.5, ..Step::default() };
    crate::backend::run(&mut backend, program, &step).unwrap();
    let expected: Vec<f32> = (65..=128).map(|x| (x as f32 + 7.0 + 2.0 + 0.5) + 1.0 + 2.0 + 0.5).collect();
    assert_eq!(result(&mut backend), expected);
}

#[test]
fn nodes_behind_the_last_trained_row_are_skipped() {
    let mut backend = backend();
    let skipped = node([stored_view(0, 0, 64), stored_view(1, 0, 20), stored_view(2, 0, 64)], Some(5));
    let program = block_on(backend.compile(&plan(vec![skipped]))).unwrap();
    crate::backend::run(&mut backend, program, &Step { trained: 5, ..Step::default() }).unwrap();
    assert!(result(&mut backend).iter().all(|&x| x == 0.0));
    crate::backend::run(&mut backend, program, &Step { trained: 6, ..Step::default() }).unwrap();
    assert_eq!(result(&mut backend)[0], 1.0 + 7.0 + 2.0);
}

#[test]
fn wrong_plans_are_refused_with_the_node() {
    let (x, w, y) = (stored_view(0, 0, 64), stored_view(1, 0, 20), stored_view(2, 0, 64));
    let cases = [
        ([x, w, stored_view(0, 64, 64)], "out is written and bound again as x"),
        ([x, y, y], "bound again"),
        ([x, w, stored_view(1, 0, 20)], "can only be read"),
        ([x, stored_view(1, 0, 10), y], "only as a whole"),
        ([stored_view(0, 64, 65), w, y], "65 words at 64 of a buffer of 128"),
        ([stored_view(0, u64::MAX, 2), w, y], "of a buffer of 128"),
        ([stored_view(9, 0, 1), w, y], "stored buffer 9 is not allocated"),
        ([x, w, slot(3, 64)], "no slot 3"),
    ];
    for (views, message) in cases {
        let error = block_on(backend().compile(&plan(vec![node(views, None)]))).unwrap_err().to_string();
        assert!(error.contains(message) && error.contains("sum test"), "{error}");
    }
}

#[test]
fn a_released_buffer_is_an_error_not_a_panic() {
    let mut backend = backend();
    let work = node([stored_view(0, 0, 64), stored_view(1, 0, 20), stored_view(2, 0, 64)], None);
    let program = block_on(backend.compile(&plan(vec![work]))).unwrap();
    backend.release(StorageId(1));
    let error = backend.run(program, &Step::default(), 0).unwrap_err().to_string();
    assert!(error.contains("released"), "{error}");
    backend.discard(program);
    assert!(backend.run(program, &Step::default(), 0).is_err());
}

#[test]
fn reads_and_writes_stay_inside_their_buffer() {
    let mut backend = backend();
    backend.write(StorageId(2), 62, &[1, 2]).unwrap();
    assert!(backend.write(StorageId(2), 63, &[1, 2]).is_err());
    assert!(backend.write(StorageId(1), 0, &[1]).is_err(), "a weight is not written");
    assert_eq!(block_on(backend.read(StorageId(2), 61, 3)).unwrap(), [0, 1, 2]);
    assert!(block_on(backend.read(StorageId(2), u64::MAX, 3)).is_err());
}

#[test]
fn memory_is_counted_by_pool() {
    let mut backend = backend();
    let program = block_on(backend.compile(&plan(vec![]))).unwrap();
    let memory = backend.usage().memory.clone();
    assert_eq!(memory.current[&Pool::Weights], 34);
    assert_eq!(memory.current[&Pool::Inputs], (128 + 64) * 4);
    assert_eq!(memory.current[&Pool::Activations], 256);
    backend.discard(program);
    backend.release(StorageId(0));
    assert_eq!(backend.usage().memory.current[&Pool::Activations], 0);
    assert_eq!(backend.usage().memory.current[&Pool::Inputs], 256);
    assert_eq!(backend.usage().memory.peak_bytes, memory.peak_bytes);
}

#[test]
fn contents_that_do_not_fit_their_entry_are_refused() {
    let mut backend = backend();
    assert!(block_on(backend.allocate(StorageId(5), &entry(Pool::Inputs, Content::Words(vec![0; 3]), 4))).is_err());
    let source: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(vec![0u8; 33]);
    let short = SharedBytes { source, range: 0..33 }.into();
    let weight = Content::Weight { format: Format::Q8_0, rows: 1, cols: 32, blocks: short };
    let error = block_on(backend.allocate(StorageId(5), &entry(Pool::Weights, weight, 20))).unwrap_err().to_string();
    assert!(error.contains("33 bytes for 1 x 32 q8_0"), "{error}");
    let huge = block_on(backend.allocate(StorageId(5), &entry(Pool::Inputs, Content::Zeros, u64::MAX))).unwrap_err();
    assert!(matches!(huge, Error::OutOfMemory { .. }));
    assert!(matches!(CpuBackend::new(Some(0)), Err(Error::Option(_))));
}

//! A back end on the GPU that is present, and two small kernels that need no op.

use loam::backend::choice::Choosing;
use loam::backend::wgpu::{Adapter, Checks, WgpuBackend, adapters};
use loam::backend::{Backend, Options, Precision, ProgramId};
use loam::plan::StorageId;
use loam_shaders::{Access, Bind, Binding, Call, InPrecision, Kernel, Source, Step, Variant};
pub use loam_tests::plans::{node, plan, slot, stored, values, zeros};
use pollster::block_on;

/// The GPU back end, or `None` after a line on standard error.
pub fn gpu() -> Option<WgpuBackend> {
    gpu_with(Checks::On)
}

/// As [`gpu`], to multiply in `precision`, with a choice of kernels. `None` too where the device has none.
pub fn gpu_for(precision: Precision) -> Option<Choosing> {
    let adapter = adapter()?;
    if !adapter.info.precisions.contains(&precision) {
        loam_tests::skipped("the GPU has no such precision");
        return None;
    }
    let options = Options { precision, ..Options::default() };
    let opened = block_on(WgpuBackend::open(adapter, &options, Checks::On));
    Some(Choosing::new(Box::new(opened.expect("the adapter opens"))))
}

fn adapter() -> Option<Adapter> {
    let first = block_on(adapters()).into_iter().next();
    if first.is_none() {
        loam_tests::skipped("no adapter");
    }
    first
}

/// As [`gpu`], with or without checks in shaders.
pub fn gpu_with(checks: Checks) -> Option<WgpuBackend> {
    let adapter = adapter()?;
    Some(block_on(WgpuBackend::open(adapter, &Options::default(), checks)).expect("the adapter opens"))
}

pub const A: StorageId = StorageId(0);
pub const B: StorageId = StorageId(1);
pub const OUT: StorageId = StorageId(2);

/// Reads values back.
pub fn read(backend: &mut dyn Backend, id: StorageId, offset: u64, words: u64) -> Vec<f32> {
    let words = block_on(backend.read(id, offset, words)).expect("read");
    words.into_iter().map(f32::from_bits).collect()
}

/// Runs a program once with the default step.
pub fn run(backend: &mut dyn Backend, program: ProgramId) {
    loam::backend::run(backend, program, &Step::default()).expect("run");
}

#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Params {
    len: u32,
    factor: f32,
    pad: [u32; 2],
}

macro_rules! wgsl {
    ($bindings:literal, $body:literal) => {
        concat!(
            "struct Params { len: u32, factor: f32 }\n",
            include_str!("../../shaders/include/step.wgsl"),
            "@group(1) @binding(0) var<uniform> params: Params;\n",
            $bindings,
            "@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {\n",
            "    let i = id.x; if i < params.len {",
            $body,
            "} }"
        )
    };
}

const fn binding(name: &'static str, access: Access) -> Binding {
    Binding { name, access }
}

static MIX_SOURCE: Source = Source {
    name: "test_mix",
    wgsl: wgsl!(
        "@group(0) @binding(0) var<storage, read> a: array<f32>;
         @group(0) @binding(1) var<storage, read> b: array<f32>;
         @group(0) @binding(2) var<storage, read_write> out: array<f32>;",
        "out[i] = a[i] + params.factor * b[i] + step.lr;"
    ),
    bindings: &[binding("a", Access::Read), binding("b", Access::Read), binding("out", Access::ReadWrite)],
    workgroup: [64, 1, 1],
    params_bytes: 16,
    needs: &[],
};

static ADD_SOURCE: Source = Source {
    name: "test_add",
    wgsl: wgsl!(
        "@group(0) @binding(0) var<storage, read_write> out: array<f32>;",
        "out[i] += params.factor + step.lr;"
    ),
    bindings: &[binding("out", Access::ReadWrite)],
    workgroup: [64, 1, 1],
    params_bytes: 16,
    needs: &[],
};

static BROKEN_SOURCE: Source = Source { wgsl: "fn main() { this is no shader }", name: "test_broken", ..ADD_SOURCE };

static WRONG_SOURCE: Source = Source {
    name: "test_wrong",
    wgsl: wgsl!(
        "@group(0) @binding(0) var<storage, read> a: array<f32>;
         @group(0) @binding(1) var<storage, read> b: array<f32>;
         @group(0) @binding(2) var<storage, read_write> out: array<f32>;",
        "out[i] = a[i];"
    ),
    ..MIX_SOURCE
};

static WRONG: Kernel = Kernel::new(&WRONG_SOURCE, mix_reference);
static WRONG_VARIANTS: [Variant; 1] = [Variant { kernel: &WRONG, grid: one_per_64 }];
static WRONG_PRECISION: [InPrecision; 1] = [InPrecision { precision: Precision::F16, variant: WRONG_VARIANTS[0] }];
static SLOW_MIX: Kernel = Kernel { variants: &WRONG_VARIANTS, by_precision: &WRONG_PRECISION, ..MIX };

fn one_per_64(params: &[u8]) -> [u32; 3] {
    [loam_shaders::kernel::params::<Params>(params).len.div_ceil(64), 1, 1]
}

static MIX: Kernel = Kernel::new(&MIX_SOURCE, mix_reference);
static ADD: Kernel = Kernel::new(&ADD_SOURCE, add_reference);
static BROKEN: Kernel = Kernel::new(&BROKEN_SOURCE, add_reference);

/// `out = a + factor * b + step.lr`. Bindings: `a[len]`, `b[len]`, `out[len]`.
pub fn mix(len: u32, factor: f32) -> Call {
    Call::new(&MIX, &Params { len, factor, pad: [0; 2] }, [len.div_ceil(64), 1, 1])
}

/// [`mix`] by a kernel whose variant is faster and wrong, as is what claims to be its counterpart in half precision.
pub fn mix_with_a_wrong_variant(len: u32, factor: f32) -> Call {
    Call { kernel: &SLOW_MIX, ..mix(len, factor) }
}

/// `out += factor + step.lr`. Bindings: `out[len]`.
pub fn add(len: u32, factor: f32) -> Call {
    Call::new(&ADD, &Params { len, factor, pad: [0; 2] }, [len.div_ceil(64), 1, 1])
}

/// A kernel that no driver accepts.
pub fn broken() -> Call {
    Call::new(&BROKEN, &Params { len: 1, factor: 0.0, pad: [0; 2] }, [1, 1, 1])
}

fn mix_reference(step: &Step, params: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = loam_shaders::kernel::params(params);
    let [a, b, out] = bound else { panic!("three bindings") };
    let (a, b, out) = (a.f32(), b.f32(), out.f32_mut());
    for i in 0..p.len as usize {
        out[i] = a[i] + p.factor * b[i] + step.lr;
    }
}

fn add_reference(step: &Step, params: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = loam_shaders::kernel::params(params);
    let [out] = bound else { panic!("one binding") };
    out.f32_mut()[..p.len as usize].iter_mut().for_each(|x| *x += p.factor + step.lr);
}

//! What a kernel is: its WGSL text, what it binds, and the host functions that do the same work.
//!
//! A [`Kernel`] is found by one name everywhere: `matmul_tile_q4_0` is the variant in `shaders/variants`, the
//! generated [`Source`], the entry of the support table and the label in a printed plan. A [`Call`] is a kernel with
//! its parameters and grid: what a plan records and a back end runs.

use crate::format::Format;
use crate::step::Step;

/// Kernels of a family.
const FORMATS: usize = Format::ALL.len();

/// Whether a kernel only reads a storage binding or also writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
}

/// One storage binding of a kernel, reflected from its WGSL. Its index in [`Source::bindings`] is its `@binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Name of the WGSL variable.
    pub name: &'static str,
    /// Read or read_write.
    pub access: Access,
}

/// What a kernel asks of a device beyond the WebGPU baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// `enable f16;`
    Half,
    /// Cooperative matrices of so many rows and columns, half precision in and single precision out, and a subgroup's
    /// number. The override `LANES` is four times the largest size of a subgroup.
    Cooperative(u32),
}

/// One expanded variant of a `.wgsl` file, validated and reflected by `build.rs`.
///
/// Group 0 holds the storage bindings, numbered from 0. Group 1 holds `params` (uniform, binding 0, dynamic offset)
/// and `step` (uniform, binding 1).
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Kernel name, e.g. `rmsnorm_forward` or `matmul_tile_q4_0`.
    pub name: &'static str,
    /// Text for wgpu's native back ends (no `enable subgroups;`).
    pub wgsl: &'static str,
    /// Storage bindings of group 0 in order.
    pub bindings: &'static [Binding],
    /// Threads per workgroup.
    pub workgroup: [u32; 3],
    /// Size of the `Params` uniform in bytes (a multiple of 16).
    pub params_bytes: u32,
    /// What a device must offer. Empty: every device runs it.
    pub needs: &'static [Need],
}

/// A bound buffer as a host function sees it. Words are `f32` bits or `u32`, as the WGSL declares.
#[derive(Debug)]
pub enum Bind<'a> {
    /// A read-only storage binding.
    Read(&'a [u32]),
    /// A read_write storage binding.
    Write(&'a mut [u32]),
    /// A weight in its GGUF block layout (rows of whole blocks): what the CPU back end binds where a GPU binds planes.
    Blocks(&'a [u8]),
}

impl Bind<'_> {
    /// The words as `u32`.
    ///
    /// # Panics
    /// If this is a [`Bind::Blocks`].
    pub fn words(&self) -> &[u32] {
        match self {
            Bind::Read(words) => words,
            Bind::Write(words) => words,
            Bind::Blocks(_) => panic!("a block weight was bound where words are expected"),
        }
    }

    /// The words as `f32`.
    pub fn f32(&self) -> &[f32] {
        bytemuck::cast_slice(self.words())
    }

    /// A weight decoded to `rows * cols` values, bound packed or as blocks.
    ///
    /// # Panics
    /// If `format` is not the ggml id of a [`Format`], or the length is not that of `rows` x `cols` weights.
    pub fn decoded(&self, format: u32, rows: usize, cols: usize) -> Vec<f32> {
        let format = Format::from_ggml_id(format).unwrap_or_else(|| panic!("{format} is no format of a weight"));
        let mut values = vec![0.0; rows * cols];
        match self {
            Bind::Blocks(blocks) => format.decode_row(blocks, &mut values),
            _ => format.decode_row(&format.unpack(rows, cols, self.words()), &mut values),
        }
        values
    }

    /// The words as writable `f32`.
    ///
    /// # Panics
    /// If this is not a [`Bind::Write`].
    pub fn f32_mut(&mut self) -> &mut [f32] {
        match self {
            Bind::Write(words) => bytemuck::cast_slice_mut(words),
            _ => panic!("a read-only binding was written"),
        }
    }
}

/// A host function with a kernel's bindings: the plain reference, or the fast CPU version.
///
/// `params` are the bytes of the op's `Params`. Bindings come in the order of [`Source::bindings`].
pub type HostFn = fn(step: &Step, params: &[u8], bound: &mut [Bind<'_>]);

/// A kernel: device text, plain reference and, for hot ops, a fast CPU function.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// The validated WGSL variant.
    pub source: &'static Source,
    /// Plain loops, the oracle of all tests. Accepts weights packed ([`Bind::Read`]) or as blocks.
    pub reference: HostFn,
    /// The fast CPU function (rayon, SIMD). `None`: the CPU back end runs the reference.
    pub cpu: Option<HostFn>,
    /// Kernels that may run in its place.
    pub variants: &'static [Variant],
    /// Kernels with its bindings and parameters that multiply in less, the best of a precision first. Their results
    /// differ, so they run only where that precision was asked for.
    pub by_precision: &'static [InPrecision],
}

/// A kernel that takes the bindings and parameters of another and computes the same bits with other tiles. Plans record
/// the other one; which of them is faster depends on the device and on the shape, and a back end may measure it.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Its grid.
    pub grid: Grid,
}

/// What products with weights are multiplied in. Sums are in single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Half precision: relative errors of about 4e-4 per product.
    F16,
    /// Integers of 8 bits with a factor for each eight of them, forward only: relative errors of about 4e-3 per
    /// product.
    Int8,
}

impl Precision {
    /// What it is called in messages and files.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Int8 => "int8",
        }
    }
}

/// A kernel that may run in place of another where `precision` was asked for.
#[derive(Debug, Clone, Copy)]
pub struct InPrecision {
    /// What it multiplies in.
    pub precision: Precision,
    /// The kernel and its grid.
    pub variant: Variant,
}

/// The grid of a kernel for the bytes of a call's `Params`.
pub type Grid = fn(&[u8]) -> [u32; 3];

impl Kernel {
    /// A kernel whose CPU path is its reference.
    pub const fn new(source: &'static Source, reference: HostFn) -> Self {
        Self { source, reference, cpu: None, variants: &[], by_precision: &[] }
    }

    /// Adds the fast CPU function.
    pub const fn with_cpu(mut self, cpu: HostFn) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// The kernels of one file over all block formats, to be indexed by `format as usize`.
    pub const fn family(
        sources: &[&'static Source; FORMATS],
        reference: HostFn,
        cpu: Option<HostFn>,
    ) -> [Self; FORMATS] {
        let mut kernels = [Self { source: sources[0], reference, cpu, variants: &[], by_precision: &[] }; FORMATS];
        let mut index = 1;
        while index < kernels.len() {
            kernels[index].source = sources[index];
            index += 1;
        }
        kernels
    }

    /// The kernels of a family with their variants, by format.
    pub const fn with_variants<const N: usize>(
        mut kernels: [Self; FORMATS],
        variants: &'static [[Variant; N]; FORMATS],
    ) -> [Self; FORMATS] {
        let mut index = 0;
        while index < FORMATS {
            kernels[index].variants = &variants[index];
            index += 1;
        }
        kernels
    }

    /// The kernels of a family with those that multiply in less, by format.
    pub const fn with_precisions<const N: usize>(
        mut kernels: [Self; FORMATS],
        by_precision: &'static [[InPrecision; N]; FORMATS],
    ) -> [Self; FORMATS] {
        let mut index = 0;
        while index < FORMATS {
            kernels[index].by_precision = &by_precision[index];
            index += 1;
        }
        kernels
    }

    /// The kernels of some families, `N` in all.
    pub const fn list<const N: usize>(families: &[&'static [Self; FORMATS]]) -> [&'static Self; N] {
        assert!(N == families.len() * FORMATS, "one entry per kernel");
        let mut kernels = [&families[0][0]; N];
        let mut index = 1;
        while index < N {
            kernels[index] = &families[index / FORMATS][index % FORMATS];
            index += 1;
        }
        kernels
    }

    /// Kernel name.
    pub const fn name(&self) -> &'static str {
        self.source.name
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Variant {
    /// The variants from some families, each with its grid, by format.
    pub const fn families<const N: usize>(families: &[(&'static [Kernel; FORMATS], Grid); N]) -> [[Self; N]; FORMATS] {
        let mut variants = [[Self { kernel: &families[0].0[0], grid: families[0].1 }; N]; FORMATS];
        let mut format = 0;
        while format < FORMATS {
            let mut index = 0;
            while index < N {
                variants[format][index] = Self { kernel: &families[index].0[format], grid: families[index].1 };
                index += 1;
            }
            format += 1;
        }
        variants
    }
}

impl InPrecision {
    /// The kernels from some families, each with its precision and grid, by format.
    pub const fn families<const N: usize>(
        precisions: [Precision; N],
        families: &[(&'static [Kernel; FORMATS], Grid); N],
    ) -> [[Self; N]; FORMATS] {
        let variants = Variant::families(families);
        let mut all = [[Self { precision: precisions[0], variant: variants[0][0] }; N]; FORMATS];
        let mut format = 0;
        while format < FORMATS {
            let mut index = 0;
            while index < N {
                all[format][index] = Self { precision: precisions[index], variant: variants[format][index] };
                index += 1;
            }
            format += 1;
        }
        all
    }
}

/// A kernel ready to be recorded: parameters and grid are fixed, buffers are not.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which kernel.
    pub kernel: &'static Kernel,
    /// Bytes of the op's `Params`, a multiple of 16.
    pub params: Vec<u8>,
    /// Workgroups per dimension, each at most 65,535.
    pub grid: [u32; 3],
}

impl Call {
    /// A call with `params` as its uniform.
    pub fn new<P: bytemuck::Pod>(kernel: &'static Kernel, params: &P, grid: [u32; 3]) -> Self {
        let params = bytemuck::bytes_of(params).to_vec();
        debug_assert_eq!(params.len() % 16, 0, "Params of {} are no multiple of 16 bytes", kernel.name());
        debug_assert!(grid.iter().all(|&g| (1..=65_535).contains(&g)), "grid {grid:?} of {}", kernel.name());
        Self { kernel, params, grid }
    }

    /// The same call by a variant of its kernel.
    pub fn by(&self, variant: &Variant) -> Self {
        Self { kernel: variant.kernel, params: self.params.clone(), grid: (variant.grid)(&self.params) }
    }
}

/// Where the fields of a `Params` struct lie: a test compares with the offsets that WGSL gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Name of the struct.
    pub name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Name and byte offset of each field, padding left out.
    pub fields: &'static [(&'static str, usize)],
}

/// The [`Layout`] of a struct: `layout!(Params { rows, width, eps })` with all fields but the padding.
macro_rules! layout {
    ($name:ident { $($field:ident),* $(,)? }) => {
        $crate::kernel::Layout {
            name: stringify!($name),
            size: size_of::<$name>(),
            fields: &[$((stringify!($field), std::mem::offset_of!($name, $field))),*],
        }
    };
}
pub(crate) use layout;

/// An op: the kernels and uniforms of one folder.
#[derive(Debug, Clone, Copy)]
pub struct Op {
    /// Name of the folder.
    pub name: &'static str,
    /// All kernels.
    pub kernels: &'static [&'static Kernel],
    /// Every struct that a kernel's `params` may be.
    pub layouts: &'static [Layout],
}

/// Reads an op's `Params` back from the bytes of a call.
///
/// # Panics
/// If `bytes` has another length than `P`: the caller passed the parameters of another op.
pub fn params<P: bytemuck::Pod>(bytes: &[u8]) -> P {
    bytemuck::pod_read_unaligned(bytes)
}

/// Bindings of a kernel that has `N` of them, for destructuring: `let [x, weight, y] = operands(bound);`.
///
/// # Panics
/// If another number is bound: the caller passed the buffers of another kernel.
pub fn operands<'s, 'b, const N: usize>(bound: &'s mut [Bind<'b>]) -> &'s mut [Bind<'b>; N] {
    let found = bound.len();
    bound.try_into().unwrap_or_else(|_| panic!("{found} buffers are bound to a kernel with {N} bindings"))
}

/// Most workgroups that WebGPU allows in one dimension of a grid; WGSL that runs on a folded grid repeats it.
pub const MAX_GROUPS: u32 = 65_535;

/// A grid of at least `groups` workgroups. From 65,536 on it is folded: workgroup `(x, y)` has index
/// `x + y * 65535`, and the kernel leaves out the surplus ones.
pub fn fold(groups: u64) -> [u32; 3] {
    let rows = groups.div_ceil(u64::from(MAX_GROUPS)).max(1);
    let columns = if rows == 1 { groups.max(1) } else { u64::from(MAX_GROUPS) };
    [columns as u32, rows as u32, 1]
}

/// The grid of a kernel with one thread per element in workgroups of 256.
pub fn fold_elements(elements: u64) -> [u32; 3] {
    fold(elements.div_ceil(256))
}

//! loam's device code and its host mirror.
//!
//! Every op is a folder: `mod.rs` holds its `Params` (the uniform, [`bytemuck::Pod`]), its kernels and their plain
//! references, `*.wgsl` the device code, `cpu.rs` the fast host version of a hot op. `build.rs` expands every variant,
//! parses and validates it with naga and reflects its bindings into [`source`], so that a broken shader fails
//! `cargo build`. This crate knows neither wgpu nor files.

pub mod adamw;
pub mod adamw_8bit;
pub mod attention;
#[cfg(any(test, feature = "check"))]
pub mod check;
pub mod columns;
pub mod cross_entropy;
pub mod dense;
pub mod dropout;
pub mod elementwise;
pub mod embed;
pub mod format;
pub mod glu;
pub mod gradient_norm;
pub mod importance;
pub mod kernel;
pub mod kv_cache;
pub mod lion;
pub mod matmul;
pub mod moe;
pub mod noise;
pub mod random;
pub mod rmsnorm;
pub mod rope;
pub mod rows;
pub mod scale_columns;
pub mod sgd;
pub mod simd;
pub mod softcap;
pub mod source;
pub mod step;
pub mod tiles;

pub use format::Format;
pub use kernel::{Access, Bind, Binding, Call, HostFn, InPrecision, Kernel, Need, Op, Precision, Source, Variant};
pub use step::Step;

/// All ops.
pub static OPS: &[Op] = &[
    Op { name: "adamw", kernels: adamw::KERNELS, layouts: adamw::LAYOUTS },
    Op { name: "adamw_8bit", kernels: adamw_8bit::KERNELS, layouts: adamw_8bit::LAYOUTS },
    Op { name: "attention", kernels: attention::KERNELS, layouts: attention::LAYOUTS },
    Op { name: "columns", kernels: columns::KERNELS, layouts: columns::LAYOUTS },
    Op { name: "cross_entropy", kernels: cross_entropy::KERNELS, layouts: cross_entropy::LAYOUTS },
    Op { name: "dense", kernels: dense::KERNELS, layouts: dense::LAYOUTS },
    Op { name: "dropout", kernels: dropout::KERNELS, layouts: dropout::LAYOUTS },
    Op { name: "elementwise", kernels: elementwise::KERNELS, layouts: elementwise::LAYOUTS },
    Op { name: "embed", kernels: embed::KERNELS, layouts: embed::LAYOUTS },
    Op { name: "glu", kernels: glu::KERNELS, layouts: glu::LAYOUTS },
    Op { name: "gradient_norm", kernels: gradient_norm::KERNELS, layouts: gradient_norm::LAYOUTS },
    Op { name: "importance", kernels: importance::KERNELS, layouts: importance::LAYOUTS },
    Op { name: "kv_cache", kernels: kv_cache::KERNELS, layouts: kv_cache::LAYOUTS },
    Op { name: "lion", kernels: lion::KERNELS, layouts: lion::LAYOUTS },
    Op { name: "matmul", kernels: matmul::KERNELS, layouts: matmul::LAYOUTS },
    Op { name: "moe", kernels: moe::KERNELS, layouts: moe::LAYOUTS },
    Op { name: "noise", kernels: noise::KERNELS, layouts: noise::LAYOUTS },
    Op { name: "rmsnorm", kernels: rmsnorm::KERNELS, layouts: rmsnorm::LAYOUTS },
    Op { name: "rope", kernels: rope::KERNELS, layouts: rope::LAYOUTS },
    Op { name: "rows", kernels: rows::KERNELS, layouts: rows::LAYOUTS },
    Op { name: "scale_columns", kernels: scale_columns::KERNELS, layouts: scale_columns::LAYOUTS },
    Op { name: "sgd", kernels: sgd::KERNELS, layouts: sgd::LAYOUTS },
    Op { name: "softcap", kernels: softcap::KERNELS, layouts: softcap::LAYOUTS },
];

/// All kernels of all ops.
pub fn kernels() -> impl Iterator<Item = &'static Kernel> {
    OPS.iter().flat_map(|op| op.kernels.iter().copied())
}

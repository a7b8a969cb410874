//! The key/value cache of generation: rows are appended at the position that the step state names.

use bytemuck::{Pod, Zeroable};

use crate::kernel::{Bind, Call, Kernel, Layout, fold_elements, layout, operands, params};
use crate::{Step, source};

/// Uniform of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Rows to append.
    pub tokens: u32,
    /// Columns: `kv_heads * head_dim`.
    pub width: u32,
    /// Rows of the cache. Rows that would land beyond are left out.
    pub capacity: u32,
    /// Zero.
    pub pad: u32,
}

static APPEND: Kernel = Kernel::new(&source::KV_CACHE_APPEND, append_reference);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&APPEND];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { tokens, width, capacity })];

/// `cache[step.past + t] = src[t]`. Bindings: `src[tokens, width]`, `cache[capacity, width]`.
pub fn append(params: Params) -> Call {
    Call::new(&APPEND, &params, fold_elements(u64::from(params.tokens) * u64::from(params.width)))
}

fn append_reference(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [src, cache] = operands(bound);
    let (src, cache) = (src.f32(), cache.f32_mut());
    let width = p.width as usize;
    for token in 0..p.tokens as usize {
        let row = step.past as usize + token;
        if row < p.capacity as usize {
            cache[row * width..][..width].copy_from_slice(&src[token * width..][..width]);
        }
    }
}

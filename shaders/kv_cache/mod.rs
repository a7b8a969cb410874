//! The key/value cache of generation: each row is put where a list says.

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
    /// Rows of the cache. Rows whose place is not below are left out.
    pub capacity: u32,
    /// Zero.
    pub pad: u32,
}

static APPEND: Kernel = Kernel::new(&source::KV_CACHE_APPEND, append_reference);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&APPEND];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { tokens, width, capacity })];

/// `cache[places[t]] = src[t]`. Bindings: `src[tokens, width]`, `places u32[tokens]`, `cache[capacity, width]`.
pub fn append(params: Params) -> Call {
    Call::new(&APPEND, &params, fold_elements(u64::from(params.tokens) * u64::from(params.width)))
}

fn append_reference(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [src, places, cache] = operands(bound);
    let (src, places, cache) = (src.f32(), places.words(), cache.f32_mut());
    let width = p.width as usize;
    for (token, &row) in places[..p.tokens as usize].iter().enumerate().filter(|(_, row)| **row < p.capacity) {
        cache[row as usize * width..][..width].copy_from_slice(&src[token * width..][..width]);
    }
}

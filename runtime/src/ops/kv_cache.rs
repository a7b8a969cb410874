//! Appending to the cache of keys and values.

use loam_shaders::kv_cache::{self as kernels, Params};

use crate::plan::{Recorder, Tensor};

/// Copies `source` [T, width] to rows `past..past + T` of `cache` [capacity, width].
pub fn append(r: &mut Recorder, label: &str, source: Tensor, cache: Tensor) {
    let params = Params {
        tokens: source.rows as u32,
        width: source.cols as u32,
        capacity: cache.rows as u32,
        ..bytemuck::Zeroable::zeroed()
    };
    r.call(label, kernels::append(params), &[source.view(), cache.view()]);
}

//! Appending to the cache of keys and values.

use loam_shaders::kv_cache::{self as kernels, Params};

use crate::plan::{Recorder, Tensor, View};

/// Copies each row of `source` [T, width] to the row of `cache` [capacity, width] that `places` `u32[T]` names, if
/// there is one.
pub fn append(r: &mut Recorder, label: &str, source: Tensor, places: View, cache: Tensor) {
    let params = Params {
        tokens: source.rows as u32,
        width: source.cols as u32,
        capacity: cache.rows as u32,
        ..bytemuck::Zeroable::zeroed()
    };
    r.call(label, kernels::append(params), &[source.view(), places, cache.view()]);
}

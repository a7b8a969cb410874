//! Gathering, scattering and adding up rows by an index list.

use loam_shaders::rows::{self as kernels, Params};

use crate::plan::{Recorder, Tensor, View};

/// Rows `list[offset..offset + count]` of x as [count, x.cols]; unused entries give zeros.
pub fn gather(r: &mut Recorder, label: &str, list: View, offset: usize, count: usize, x: Tensor) -> Tensor {
    let out = r.temporary(count, x.cols);
    r.call(label, kernels::gather(params(out, offset)), &[list, x.view(), out.view()]);
    out
}

/// Writes the rows of `source` to rows `list[offset..]` of `out`; unused entries are skipped.
pub fn scatter(r: &mut Recorder, label: &str, list: View, offset: usize, source: Tensor, out: Tensor) {
    r.call(label, kernels::scatter(params(source, offset)), &[list, source.view(), out.view()]);
}

/// Adds the rows of `source` to rows `list[offset..]` of `out`, of which any may occur several times; unused entries
/// are skipped.
pub fn add(r: &mut Recorder, label: &str, list: View, offset: usize, source: Tensor, out: Tensor) {
    r.call(label, kernels::add(params(source, offset)), &[list, source.view(), out.view()]);
}

fn params(chunk: Tensor, offset: usize) -> Params {
    Params { count: chunk.rows as u32, width: chunk.cols as u32, offset: offset as u32, ..bytemuck::Zeroable::zeroed() }
}

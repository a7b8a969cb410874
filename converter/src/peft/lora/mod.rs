//! LoRA folders. GGUF has one alpha and scales each update by alpha / rank; what rsLoRA and alpha patterns make of that
//! for single modules is folded into B.

mod config;
mod copies;
mod experts;
mod read;
mod write;

use loam_files::adapter::lora::METHOD;

use super::Exchange;
use config::PeftConfig;
pub(in crate::peft) use experts::Sizes;

/// LoRA's folders.
pub(super) const EXCHANGE: Exchange =
    Exchange { method: &METHOD, peft_type: "LORA", read: read::read, write: write::write };

/// The columns of a matrix of `cols` columns as rows.
fn transposed(values: &[f32], cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|col| values.iter().skip(col).step_by(cols.max(1)).copied()).collect()
}

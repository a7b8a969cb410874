//! Block formats: how a row of weights is stored in a GGUF file and on the device.
//!
//! `<name>.rs` holds a format's block codec and its plane layout, `<name>.wgsl` its device loader, side by side.
//! Layouts follow ggml (`ggml-common.h`); encoders give the bytes of llama-quantize without importance matrix.

/// A weight format that kernels can compute with. Names are ggml's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, reason = "ggml's own names")]
pub enum Format {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// 32 weights of 4 bits, one f16 scale: 4.5 bits per weight.
    Q4_0,
    /// 32 weights of 8 bits, one f16 scale: 8.5 bits per weight.
    Q8_0,
    /// 256 weights of 4 bits, eight 6-bit scales and minima: 4.5 bits per weight.
    Q4_K,
}

//! Measurements. Each is a program of its own:
//!
//! - `cargo bench -p loam-shaders --bench cpu_kernels` (`cpu_kernels.rs`): the CPU's kernels against a plain product
//! - `cargo bench -p loam-benches --bench gpu_kernels -- --device gpu` (`gpu_kernels.rs`): the kernels of training on a
//!   GPU
//! - `benches/runs.sh [DEVICE]`: loading, prompt, decode and training of loam-tiny in every format
//! - `benches/peers/compare_llama_cpp.py`: bases and adapters in a stock llama.cpp
//! - `cargo test -p loam-tests --test golden -- --nocapture`: logits, gradients and losses against PyTorch and PEFT

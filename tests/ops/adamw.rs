//! Kernels of `adamw` against their references.

//! Kernels of `dense` against their references.

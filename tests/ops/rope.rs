//! Kernels of `rope` against their references.

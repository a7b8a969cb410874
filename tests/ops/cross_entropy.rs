//! Kernels of `cross_entropy` against their references.

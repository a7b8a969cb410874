//! Kernels of `glu` against their references.

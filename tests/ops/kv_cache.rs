//! Kernels of `kv_cache` against their references.

//! The WGSL back end.

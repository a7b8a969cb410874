//! Strided f32 matrix product: all low-rank products.

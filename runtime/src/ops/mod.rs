//! Ops: shape checks, recording and gradient rules, one file per op under the name of its kernels' folder.
//!
//! A function takes the [`crate::plan::Recorder`] and tensors, records the forward nodes and, where a gradient has to
//! pass, puts a function on the tape that records the backward nodes.

pub mod adamw;
pub mod adamw_8bit;
pub mod attention;
pub mod columns;
pub mod cross_entropy;
pub mod dense;
pub mod dropout;
pub mod elementwise;
pub mod embed;
pub mod glu;
pub mod gradient_norm;
pub mod importance;
pub mod kv_cache;
pub mod lion;
pub mod matmul;
pub mod moe;
pub mod noise;
pub mod rmsnorm;
pub mod rope;
pub mod rows;
pub mod scale_columns;
pub mod sgd;
pub mod softcap;

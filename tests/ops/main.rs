//! Every kernel variant against its plain reference on the GPU adapter that is present and on the CPU back end, and
//! finite differences for every op with a backward.

mod adamw;
mod attention;
mod columns;
mod cross_entropy;
mod dense;
mod elementwise;
mod embed;
mod glu;
mod importance;
mod kv_cache;
mod matmul;
mod moe;
mod moe_low_rank;
mod rmsnorm;
mod rope;
mod rows;
mod softcap;

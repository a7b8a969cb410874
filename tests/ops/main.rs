//! Every kernel variant against its plain reference on the GPU adapter that is present and on the CPU back end, and
//! finite differences for every op with a backward.

mod adamw;
mod adamw_8bit;
mod attention;
mod columns;
mod cross_entropy;
mod dense;
mod dropout;
mod elementwise;
mod embed;
mod glu;
mod gradient_norm;
mod importance;
mod kv_cache;
mod lion;
mod matmul;
mod matmul_low_rank;
mod matmul_precision;
mod moe;
mod moe_low_rank;
mod noise;
mod optimizers;
mod rmsnorm;
mod rope;
mod rows;
mod scale_columns;
mod sgd;
mod softcap;

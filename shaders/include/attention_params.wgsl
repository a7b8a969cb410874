// Uniform of the attention kernels.
struct Params {
    batch: u32,
    queries: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    window: u32,
    scale: f32,
    softcap: f32,
}

@group(1) @binding(0) var<uniform> params: Params;

// What the attention kernels share: uniform, inputs and the range of keys that a query sees.
#import "include/step.wgsl"
#import "include/softcap.wgsl"
#import "include/attention_params.wgsl"

// Below every score; kept finite because WGSL may treat infinities as undefined.
const LOWEST = -3.0e38;

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> starts: array<u32>;

// First key that `query` sees and one past its last. Empty past the last query.
fn visible(batch: u32, query: u32) -> vec2<u32> {
    if query >= params.queries {
        return vec2<u32>(0u, 0u);
    }
    let end = step.past + query + 1u;
    var first = starts[batch * params.queries + query];
    if params.window != 0u && end > params.window {
        first = max(first, end - params.window);
    }
    return vec2<u32>(first, min(end, params.keys));
}

// Index of the first vec4 of a query head and of a key/value head.
fn query_base(batch: u32, query: u32, head: u32) -> u32 {
    return ((batch * params.queries + query) * params.heads + head) * (params.head_dim / 4u);
}

fn key_base(batch: u32, key: u32, kv_head: u32) -> u32 {
    return ((batch * params.keys + key) * params.kv_heads + kv_head) * (params.head_dim / 4u);
}

// What the softmax sees of q k.
fn score_of(product: f32) -> f32 {
    return capped(product * params.scale, params.softcap);
}

fn scores_of(products: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(score_of(products.x), score_of(products.y), score_of(products.z), score_of(products.w));
}

// What the attention kernels share: uniform, inputs, the keys that a query sees, and where they are.
//
// A sequence is named by a number. Own keys: its place in the batch. PAGED: where its table begins in `tables`.
#import "include/softcap.wgsl"
#import "include/attention_params.wgsl"

// Below every score; kept finite because WGSL may treat infinities as undefined.
const LOWEST = -3.0e38;

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;

// Keys from `first` on and below `end`, as far as the window allows.
fn windowed(first: u32, end: u32) -> vec2<u32> {
    if params.window != 0u && end > params.window {
        return vec2<u32>(max(first, end - params.window), end);
    }
    return vec2<u32>(first, end);
}

#ifdef PAGED
// Of each query: the first key that it sees, the one after its last, and its sequence.
@group(0) @binding(3) var<storage, read> spans: array<u32>;
// The blocks of each sequence, in the order of its keys.
@group(0) @binding(4) var<storage, read> tables: array<u32>;

// Keys of a block.
const BLOCK = 32u;

fn sequence_of(query: u32) -> u32 {
    return spans[3u * query + 2u];
}

// The keys of `sequence` that `query` sees, from and to. Empty for a query of another sequence.
fn visible(sequence: u32, query: u32) -> vec2<u32> {
    if query >= params.queries || sequence_of(query) != sequence {
        return vec2<u32>(0u, 0u);
    }
    return windowed(spans[3u * query], spans[3u * query + 1u]);
}

// Index of the first vec4 of a query head and of a key/value head.
fn query_base(sequence: u32, query: u32, head: u32) -> u32 {
    return (query * params.heads + head) * (params.head_dim / 4u);
}

fn key_base(sequence: u32, key: u32, kv_head: u32) -> u32 {
    let row = tables[sequence + key / BLOCK] * BLOCK + key % BLOCK;
    return (row * params.kv_heads + kv_head) * (params.head_dim / 4u);
}
#else
@group(0) @binding(3) var<storage, read> starts: array<u32>;

// The keys of `sequence` that `query` sees, from and to. Empty after the last query.
fn visible(sequence: u32, query: u32) -> vec2<u32> {
    if query >= params.queries {
        return vec2<u32>(0u, 0u);
    }
    return windowed(starts[sequence * params.queries + query], query + 1u);
}

// Index of the first vec4 of a query head and of a key/value head.
fn query_base(sequence: u32, query: u32, head: u32) -> u32 {
    return ((sequence * params.queries + query) * params.heads + head) * (params.head_dim / 4u);
}

fn key_base(sequence: u32, key: u32, kv_head: u32) -> u32 {
    return ((sequence * params.queries + key) * params.kv_heads + kv_head) * (params.head_dim / 4u);
}
#endif

// What the softmax sees of q k.
fn score_of(product: f32) -> f32 {
    return capped(product * params.scale, params.softcap);
}

fn scores_of(products: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(score_of(products.x), score_of(products.y), score_of(products.z), score_of(products.w));
}

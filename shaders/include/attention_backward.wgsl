// What the two gradient kernels of attention share besides the tiles.
#import "include/attention_tile.wgsl"

@group(0) @binding(4) var<storage, read> dout: array<vec4<f32>>;
// (log-sum-exp, delta) of every query and head.
@group(0) @binding(5) var<storage, read> stats: array<vec2<f32>>;

fn dout_at(heads: Heads, query: u32, end: u32, column: u32) -> vec4<f32> {
    if query < end && column < params.head_dim / 4u {
        return dout[query_base(heads.sequence, query, heads.query) + column];
    }
    return vec4<f32>();
}

fn stats_at(heads: Heads, query: u32) -> vec2<f32> {
    if query < params.queries {
        return stats[(heads.sequence * params.queries + query) * params.heads + heads.query];
    }
    return vec2<f32>();
}

// d score / d (q k) where the score has this value.
fn slope_of(score: f32) -> f32 {
    return params.scale * capped_slope(score, params.softcap);
}

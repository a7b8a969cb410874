// With LORA a transposed product continues where the rows of dy and W end: with the ranks of du [tokens, rank] and
// A [rank, inner]. The rank is a multiple of 4; du holds the scale of the update already.
@group(0) @binding(3) var<storage, read> du: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> a: array<vec4<f32>>;

// Four ranks from `rank` on.
fn du_vector(owner: u32, rank: u32) -> vec4<f32> {
    if owner != NONE && rank < params.rank {
        return du[(owner * params.rank + rank) / 4u];
    }
    return vec4<f32>();
}

fn a_octet(rank: u32, octet: u32) -> Octet {
    var values = Octet(vec4<f32>(), vec4<f32>());
    if rank < params.rank {
        let columns = octet_columns(octet);
        if columns.x < params.inner {
            values.low = a[(rank * params.inner + columns.x) / 4u];
        }
        if columns.y < params.inner {
            values.high = a[(rank * params.inner + columns.y) / 4u];
        }
    }
    return values;
}

// With LORA a transposed product continues where the rows of dy and W end: with the ranks of du [tokens, rank] and
// A [rank, inner]. The rank is a multiple of 4; du holds the scale of the update already.
@group(0) @binding(3) var<storage, read> du: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> a: array<vec4<f32>>;

// Four ranks of a token.
fn low_rank_left(owner: u32, thread: u32, rank0: u32) -> vec4<f32> {
    let rank = rank0 + thread % VECTORS * 4u;
    if owner != NONE && rank < params.rank {
        return du[(owner * params.rank + rank) / 4u];
    }
    return vec4<f32>();
}

fn low_rank_right(line: u32, octet0: u32, thread: u32, rank0: u32) -> Octet {
    var values = Octet(vec4<f32>(), vec4<f32>());
    let rank = rank0 + line;
    if rank < params.rank {
        let columns = octet_columns(octet0 + thread % SLICE);
        if columns.x < params.inner {
            values.low = a[(rank * params.inner + columns.x) / 4u];
        }
        if columns.y < params.inner {
            values.high = a[(rank * params.inner + columns.y) / 4u];
        }
    }
    return values;
}

// Whether vector k of the step at `start` is past the last rank.
fn no_ranks(start: u32, k: u32, end: u32) -> bool {
    return start + k * 4u >= end;
}

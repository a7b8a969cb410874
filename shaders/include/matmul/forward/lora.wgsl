// With LORA a tile continues where the columns of x and W end: with the ranks of u [tokens, rank] and B [rows, rank].
// The rank is a multiple of 4; u holds the scale of the update already.
@group(0) @binding(3) var<storage, read> u: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> b: array<vec4<f32>>;

fn u_vector(row: u32, vector: u32) -> vec4<f32> {
    let vectors = params.rank / 4u;
    if row != NONE && vector < vectors {
        return u[row * vectors + vector];
    }
    return vec4<f32>();
}

fn b_vector(row: u32, vector: u32) -> vec4<f32> {
    let vectors = params.rank / 4u;
    if vector < vectors {
        return b[y_column(row) * vectors + vector];
    }
    return vec4<f32>();
}

// Eight ranks of a row of x, and of a row of this part of the weight.
fn low_rank_left(row: u32, thread: u32, octet0: u32) -> Octet {
    let octet = octet0 + thread % STEP;
    return Octet(u_vector(row, octet * 2u), u_vector(row, octet * 2u + 1u));
}

fn low_rank_right(row: u32, row0: u32, thread: u32, octet0: u32) -> Octet {
    let octet = octet0 + thread % STEP;
    return Octet(b_vector(row, octet * 2u), b_vector(row, octet * 2u + 1u));
}

// Whether vector k of the step at octet `start` is past the last rank.
fn no_ranks(start: u32, k: u32, end: u32) -> bool {
    return start * 2u + k >= octets_of_row() * 2u + params.rank / 4u;
}

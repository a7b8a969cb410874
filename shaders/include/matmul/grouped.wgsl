// Rows of a grouped product: the weight is [experts * stride, inner], of which this part holds rows row0..row0 + rows.
// Tokens are pairs (token, slot), numbered token * slots + slot. A workgroup works on one expert; the kernel calls
// choose() before anything else. Rows are counted from the expert's first one.

var<private> expert_row0: u32;
var<private> rows_here: vec2<u32>;

// First row of `expert` that this part holds, and one past its last; (0, 0) if it holds none.
fn rows_of(expert: u32) -> vec2<u32> {
    let first = expert * params.stride;
    let begin = max(first, params.row0);
    let end = min(first + params.stride, params.row0 + params.rows);
    return select(vec2<u32>(), vec2<u32>(begin, end) - first, begin < end);
}

fn choose(expert: u32) {
    // Wraps around where the expert begins before the part.
    expert_row0 = expert * params.stride - params.row0;
    rows_here = rows_of(expert);
}

fn y_column(row: u32) -> u32 {
    return row;
}

fn row_range() -> vec2<u32> {
    return rows_here;
}

// A row to load. Rows that this part does not hold are those of others, and not used.
fn weight_row(row: u32) -> u32 {
    return min(row + expert_row0, params.rows - 1u);
}

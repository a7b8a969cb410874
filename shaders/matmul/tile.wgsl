// Products with a weight for many tokens, by tiles in workgroup memory: y = x W^T (forward) or dx = dy W (transposed).
//
// All variants are this text with three imports: a direction (include/matmul/forward, transposed), an element that
// tiles are made of (f32, f16, int8 in the direction's folder) and a shape (include/matmul/shape: tile, wide, small).
// What comes from the activations is the left side, what comes from the weight the right one. A workgroup computes
// TOKENS x COLUMNS of the result and contracts VECTORS vectors of four at a time. A thread (across, down) computes the
// tokens down + DOWN i, i in 0..SUMS, and four columns, or two times four (HALVES). It fetches the next step's values
// into registers before the products of this one, and leaves out the parts of the tile without a token.
//
// With GROUPED the tokens of a tile are those of one expert. With LORA, a low-rank update is part of the product: its
// ranks come after the last step of the weight.
#import "include/matmul/DIRECTION/ELEMENT.wgsl"
#import "include/matmul/shape/SHAPE.wgsl"
#import "include/matmul/DIRECTION/tiles.wgsl"
#import "include/matmul/weight.wgsl"
#ifdef GROUPED
#import "include/matmul/grouped_tile.wgsl"
#endif

// Tokens that the sums of a thread are apart.
const DOWN = THREADS / ACROSS;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = workgroup.x * SLICE;
#ifdef GROUPED
    let tile = tiles[workgroup.y];
    let rows = rows_of(tile.x);
    // The same for all threads: no barrier is left waiting.
    if tile.z == 0u || !has_work(rows, first) {
        return;
    }
    choose(tile.x);
    tile_end = tile.y + tile.z;
    let token0 = tile.y;
#else
    let rows = row_range();
    let token0 = workgroup.y * TOKENS;
#endif
    let tokens = tokens_end() - token0;
    find_factors(token0, thread);
    let steps = steps_of(rows);
    // What this thread brings.
#repeat i in 0..LEFTS
    let left_row{i} = left_row(token0 + left_line(thread, {i}u));
#endrepeat
#repeat i in 0..RIGHTS
    let right_line{i} = right_line(first, thread, {i}u);
#endrepeat
#repeat i in 0..RIGHTS
    var right{i} = load_right(right_line{i}, first, thread, steps.begin);
#endrepeat
#repeat i in 0..LEFTS
    var left{i} = load_left(left_row{i}, thread, steps.begin);
#endrepeat
    let across = thread % ACROSS;
    let down = thread / ACROSS;
#repeat i in 0..SUMS
#repeat h in 0..HALVES
    var sum{i}_{h} = vec4<f32>();
#endrepeat
#endrepeat
    for (var start = steps.begin; start < steps.end; start += STEP) {
#repeat i in 0..LEFTS
        put_left(left{i}, thread, {i}u);
#endrepeat
#repeat i in 0..RIGHTS
        put_right(right{i}, thread, {i}u);
#endrepeat
        workgroupBarrier();
        let next = start + STEP;
        if next < steps.weight_end {
#repeat i in 0..RIGHTS
            right{i} = load_right(right_line{i}, first, thread, next);
#endrepeat
#repeat i in 0..LEFTS
            left{i} = load_left(left_row{i}, thread, next);
#endrepeat
        }
#ifdef LORA
        else if next < steps.end {
            let rank = next - steps.ranks;
#repeat i in 0..RIGHTS
            right{i} = low_rank_right(right_line{i}, first, thread, rank);
#endrepeat
#repeat i in 0..LEFTS
            left{i} = low_rank_left(left_row{i}, thread, rank);
#endrepeat
        }
#endif
#repeat r in 0..RUNS
        {
#ifdef SEPARATE_RUNS
#repeat i in 0..SUMS
#repeat h in 0..HALVES
            var run{i}_{h} = Run();
#endrepeat
#endrepeat
#endif
            for (var k = {r}u * CELLS / RUNS; k < ({r}u + 1u) * CELLS / RUNS; k++) {
#ifdef LORA
                if no_ranks(start, k, steps.end) {
                    break;
                }
#endif
                let column_at = right_at(k, across);
#repeat h in 0..HALVES
#repeat j in 0..4
                let column{h}{j} = right_cell(column_at + {h}u * HALF_APART + {j}u * COLUMNS_APART);
#endrepeat
#endrepeat
                let token_at = left_at(k, down);
#import "include/matmul/products.wgsl" FROM=0 TO=FIRST
                if tokens > FIRST * DOWN {
#import "include/matmul/products.wgsl" FROM=FIRST TO=SECOND
                }
                if tokens > SECOND * DOWN {
#import "include/matmul/products.wgsl" FROM=SECOND TO=SUMS
                }
            }
#ifdef SEPARATE_RUNS
#repeat i in 0..SUMS
#repeat h in 0..HALVES
            sum{i}_{h} += sums_of(run{i}_{h});
#endrepeat
#endrepeat
#endif
        }
#endrepeat
        workgroupBarrier();
    }
#repeat i in 0..SUMS
#repeat h in 0..HALVES
    store4(token0, down + {i}u * DOWN, first, across + {h}u * HALF_APART, sum{i}_{h});
#endrepeat
#endrepeat
}

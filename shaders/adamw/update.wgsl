// AdamW with moments in single precision: see include/adamw.wgsl.
#import "include/optimizer.wgsl" NORM=4
#import "include/adamw.wgsl" FIRST_BLOCK=pad1

@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i >= params.len || !counts() {
        return;
    }
    let moments = move_by_moments(i, m[i], v[i]);
    m[i] = moments.x;
    v[i] = moments.y;
}

// x[t, start + i] (+)= part[t, i]. One thread per element.
#import "include/fold.wgsl"
#import "include/columns.wgsl"

@group(0) @binding(0) var<storage, read> part: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = folded(workgroup) * 256u + thread;
    if i < params.rows * params.width {
        let at = wide(i);
        x[at] = select(0.0, x[at], params.accumulate != 0u) + part[i];
    }
}

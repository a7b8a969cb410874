// Index of a workgroup in a grid that loam_shaders::kernel::fold made. May be past the end: guard.
fn folded(workgroup: vec3<u32>) -> u32 {
    return workgroup.x + workgroup.y * 65535u;
}

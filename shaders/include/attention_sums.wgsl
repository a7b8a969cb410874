// A function NAME: adds `weights` times the rows from `base` on of OTHER to the sums, for the kept slabs, of which
// `first_slab` is the first. OTHER is called as in attention_products.wgsl.
fn NAME(
    sums: ptr<function, array<vec4<f32>, KEPT * 4u>>,
    heads: Heads,
    base: u32,
    end: u32,
    first_slab: u32,
    thread: u32,
) {
    for (var slab = 0u; slab < KEPT; slab++) {
        for (var n = 0u; n < 4u; n++) {
            let at = copied(thread, n);
            other[at.z] = OTHER(heads, base + at.x, OTHER_END, (first_slab + slab) * 8u + at.y);
        }
        workgroupBarrier();
        add_weighted(sums, slab, thread);
        workgroupBarrier();
    }
}

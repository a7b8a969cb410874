// A function NAME: products[i][j] = row first + ty*4 + i of OWN . row base + tx*4 + j of OTHER, slab by slab. OWN and
// OTHER are called with the heads, the row, one past the last row that counts (OWN_END, OTHER_END) and the column.
fn NAME(
    products: ptr<function, array<vec4<f32>, 4>>,
    heads: Heads,
    first: u32,
    base: u32,
    end: u32,
    thread: u32,
) {
    for (var slab = 0u; slab < SLABS; slab++) {
        for (var n = 0u; n < 4u; n++) {
            let at = copied(thread, n);
            own[at.z] = OWN(heads, first + at.x, OWN_END, slab * 8u + at.y);
            other[at.z] = OTHER(heads, base + at.x, OTHER_END, slab * 8u + at.y);
        }
        workgroupBarrier();
        add_products(products, thread);
        workgroupBarrier();
    }
}

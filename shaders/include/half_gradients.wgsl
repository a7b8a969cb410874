// Factors of the rows of dy, for products dx = dy W in half precision.
fn find_factors(token0: u32, thread: u32, threads: u32) {
    let rows = row_range();
    for (var part = thread; part < FACTOR_PARTS; part += threads) {
        let owner = y_row(token0 + part / 4u);
        var most = vec4<f32>();
        for (var row = rows.x + (part % 4u) * 4u; row < rows.y; row += 16u) {
            most = max(most, abs(gradients(owner, row, rows)));
        }
        factor_parts[part] = largest(most);
    }
    workgroupBarrier();
    for (var line = thread; line < LINES; line += threads) {
        factors[line] = factor_of(line);
    }
    workgroupBarrier();
}

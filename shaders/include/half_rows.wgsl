// Factors of the rows of x, for products y = x W^T in half precision.
fn find_factors(token0: u32, thread: u32, threads: u32) {
    let octets = octets_of_row();
    for (var part = thread; part < FACTOR_PARTS; part += threads) {
        let row = x_row(token0 + part / 4u);
        var most = vec4<f32>();
        for (var octet = part % 4u; octet < octets; octet += 4u) {
            let values = input(row, octet);
            most = max(most, max(abs(values.low), abs(values.high)));
        }
        factor_parts[part] = largest(most);
    }
    workgroupBarrier();
    for (var line = thread; line < LINES; line += threads) {
        factors[line] = factor_of(line);
    }
    workgroupBarrier();
}

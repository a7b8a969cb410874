// Bits 0 to 3 of `bits` as bit 4 of the bytes of a word: the product puts bit i at 8 i, among others that are masked.
fn fifth_bits(bits: u32) -> u32 {
    return (((bits & 15u) * 0x00204081u) & 0x01010101u) << 4u;
}

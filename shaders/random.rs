//! Counter-based random numbers: a number is a function of a key and a counter, on the host and on devices
//! (`include/philox.wgsl`), so there is no state to save, and any part can be drawn in any order and again.

use crate::Step;

/// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): four words per counter.
pub fn philox(seed: u64, counter: [u32; 4]) -> [u32; 4] {
    let mut x = counter;
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        let low = u64::from(x[0]) * 0xD251_1F53;
        let high = u64::from(x[2]) * 0xCD9E_8D57;
        x = [(high >> 32) as u32 ^ x[1] ^ key[0], high as u32, (low >> 32) as u32 ^ x[3] ^ key[1], low as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    x
}

/// Four words for elements `4 * place` to `4 * place + 3` of what kernels draw: a function of the seed and the
/// optimizer step of `step`, of the `stream` (what they are for) and the `site` (where in the model), of the row of the
/// step's batch and the place in that row. `row` such places are a row; 0: all of them are the first one.
pub fn words(step: &Step, (stream, site): (u32, u32), place: u32, row: u32) -> [u32; 4] {
    let rows = place.checked_div(row).unwrap_or(0);
    let key = u64::from(stream) << 32 | u64::from(step.seed);
    philox(key, [place - rows * row, site, step.step, step.rows.wrapping_add(rows)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution for philox4x32-10.
    #[test]
    fn known_answers() {
        assert_eq!(philox(0, [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox(u64::MAX, [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }
}

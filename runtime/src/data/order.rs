//! Seeded order: a permutation is a function of its length, a seed and a stream, so a run can resume anywhere.

use crate::random::bits;

/// Stream of random numbers for orders.
const STREAM: u32 = 0x6f72_6465;
/// Stream of the evaluation split; epochs use 0, 1, 2, ..
pub(super) const EVAL_STREAM: u64 = u64::MAX;

/// A permutation of `0..n` (Fisher-Yates over counter-based numbers). Every seed and stream gives its own.
pub fn permutation(n: usize, seed: u64, stream: u64) -> Vec<usize> {
    let key = bits(seed, STREAM, stream);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        // The high half of a 64 x 64 bit product: uniform over 0..=i up to 2^-64 per item.
        let j = (u128::from(bits(key, STREAM, i as u64)) * (i as u128 + 1)) >> 64;
        order.swap(i, j as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_permutation_that_depends_on_everything() {
        for n in [0, 1, 2, 3, 1000] {
            let mut sorted = permutation(n, 5, 7);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..n).collect::<Vec<_>>());
        }
        let base = permutation(100, 1, 0);
        assert_eq!(base, permutation(100, 1, 0));
        assert_ne!(base, permutation(100, 2, 0));
        assert_ne!(base, permutation(100, 1, 1));
    }

    #[test]
    fn every_place_is_equally_likely() {
        let n = 5;
        let mut counts = vec![[0; 5]; n];
        for seed in 0..5_000 {
            for (place, item) in permutation(n, seed, 0).into_iter().enumerate() {
                counts[item][place] += 1;
            }
        }
        // Mean 1,000, standard deviation 28.
        assert!(counts.iter().flatten().all(|count| (860..1140).contains(count)), "{counts:?}");
    }
}

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

/// Steps whose items are sorted together: Transformers' `group_by_length` has as many.
const GROUP: usize = 50;
/// Streams of the order of grouped steps, by epoch.
const GROUP_STREAM: u64 = 1 << 63;

/// `order` with items of similar length in a step of `step` items: runs of 50 steps are sorted by length, the longest
/// first, and then, with a seed and an epoch, whole steps change places. A last step that is not whole stays the last.
pub(super) fn grouped(
    mut order: Vec<usize>,
    length: impl Fn(usize) -> usize,
    step: usize,
    shuffle: Option<(u64, u64)>,
) -> Vec<usize> {
    let step = step.max(1);
    for run in order.chunks_mut(step.saturating_mul(GROUP)) {
        run.sort_by_key(|&item| std::cmp::Reverse(length(item)));
    }
    let Some((seed, epoch)) = shuffle else { return order };
    let whole = order.len() / step;
    let steps = permutation(whole, seed, GROUP_STREAM | epoch);
    let items = steps.into_iter().flat_map(|index| &order[index * step..(index + 1) * step]);
    items.chain(&order[whole * step..]).copied().collect()
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
    fn grouped_steps_have_items_of_similar_length() {
        let lengths: Vec<usize> = permutation(1003, 4, 0);
        let group = |epoch| grouped(permutation(1003, 1, epoch), |item| lengths[item], 4, Some((1, epoch)));
        let order = group(0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1003).collect::<Vec<_>>(), "every item once");
        let spread = |order: &[usize]| -> usize {
            let spread = |step: &[usize]| {
                let lengths = step.iter().map(|&item| lengths[item]);
                lengths.clone().max().unwrap_or(0) - lengths.min().unwrap_or(0)
            };
            order.chunks(4).map(spread).sum()
        };
        assert!(spread(&order) * 10 < spread(&permutation(1003, 1, 0)), "{}", spread(&order));
        assert_eq!(order, group(0));
        assert_ne!(order, group(1));
        let long: Vec<bool> = order.chunks(4).map(|step| lengths[step[0]] > 500).collect();
        assert!(long[..20].contains(&true) && long[..20].contains(&false), "long and short steps are mixed");
        assert_eq!(grouped(vec![0, 1, 2], |item| item, 2, None), [2, 1, 0]);
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

//! How long submissions took: what a foreground application must know.

/// Upper bounds of the counts, in microseconds: a quarter of a millisecond, doubled.
const BOUNDS: [u64; 14] =
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000, u64::MAX];

/// A histogram of the times of submissions. On the CPU a submission is the part of a plan that runs at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    counts: [u64; BOUNDS.len()],
    sum: u64,
    max: u64,
    /// Submissions that had ended when somebody looked: all that is known is that they took no longer than that.
    pub unmeasured: u64,
}

impl Times {
    /// Counts a submission of `micros` microseconds.
    pub fn add(&mut self, micros: u64) {
        let bucket = BOUNDS.partition_point(|&bound| bound < micros);
        self.counts[bucket.min(BOUNDS.len() - 1)] += 1;
        self.sum = self.sum.saturating_add(micros);
        self.max = self.max.max(micros);
    }

    /// What was counted since `before`, an earlier state of the same counts. Its longest is known up to the bound of
    /// its count.
    pub fn since(&self, before: &Times) -> Times {
        let mut counts = self.counts;
        counts.iter_mut().zip(before.counts).for_each(|(count, before)| *count -= before);
        let longest = counts.iter().zip(BOUNDS).rev().find(|(count, _)| **count > 0).map_or(0, |(_, bound)| bound);
        let (sum, unmeasured) = (self.sum - before.sum, self.unmeasured - before.unmeasured);
        Times { counts, sum, max: self.max.min(longest), unmeasured }
    }

    /// Measured submissions.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.max as f64 / 1e3
    }

    /// The mean in milliseconds; 0 if there was none.
    pub fn mean_ms(&self) -> f64 {
        self.sum as f64 / 1e3 / self.count().max(1) as f64
    }

    /// Upper bounds in milliseconds and how many submissions lie below each and above the one before; empty ones are
    /// left out. The last bound is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bound = |bound: u64| if bound == u64::MAX { f64::INFINITY } else { bound as f64 / 1e3 };
        BOUNDS.iter().zip(self.counts).filter(|(_, count)| *count > 0).map(move |(&b, count)| (bound(b), count))
    }

    /// Fraction of the measured submissions that took at most `millis` milliseconds, which must be one of the bounds.
    pub fn within_ms(&self, millis: f64) -> f64 {
        let within: u64 = self.buckets().filter(|(bound, _)| *bound <= millis).map(|(_, count)| count).sum();
        within as f64 / self.count().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_below_their_bound() {
        let mut times = Times::default();
        for micros in [0, 250, 251, 8_000, 8_001, 5_000_000] {
            times.add(micros);
        }
        let buckets: Vec<(f64, u64)> = times.buckets().collect();
        assert_eq!(buckets, [(0.25, 2), (0.5, 1), (8.0, 1), (16.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((times.count(), times.max_ms()), (6, 5_000.0));
        assert!((times.within_ms(8.0) - 4.0 / 6.0).abs() < 1e-12);
        let before = times.clone();
        times.add(3_000);
        let since = times.since(&before);
        assert_eq!((since.count(), since.mean_ms(), since.max_ms()), (1, 3.0, 4.0));
        assert_eq!(times.since(&times).count(), 0);
    }
}

//! Which of several quantised models to take.

/// A model beside its reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Mean Kullback-Leibler divergence from the reference, in nats.
    pub kl: f64,
    /// Its perplexity by the reference's.
    pub ratio: f64,
}

/// The share of perplexity that may be lost without a second thought.
pub const LOSS: f64 = 0.05;

/// The place of the model to take, and why: the smallest that loses at most [`LOSS`] of perplexity, else the one
/// nearest to the reference. `None` without models.
pub fn choose(candidates: &[Candidate]) -> Option<(usize, String)> {
    let percent = LOSS * 100.0;
    let good = (0..candidates.len()).filter(|&index| candidates[index].ratio <= 1.0 + LOSS);
    let smaller = |&a: &usize, &b: &usize| {
        let (a, b) = (&candidates[a], &candidates[b]);
        a.bytes.cmp(&b.bytes).then(a.kl.total_cmp(&b.kl))
    };
    if let Some(index) = good.min_by(smaller) {
        return Some((index, format!("the smallest that loses at most {percent:.0} % of perplexity")));
    }
    let nearer = |&a: &usize, &b: &usize| candidates[a].kl.total_cmp(&candidates[b].kl);
    let nearest = (0..candidates.len()).min_by(nearer)?;
    let why = "the nearest to the reference, but every file loses more than";
    Some((nearest, format!("{why} {percent:.0} % of perplexity: try a larger format, or one with --imatrix")))
}

/// Models that another one beats in size and in divergence: their places, and that of the better one.
pub fn beaten(candidates: &[Candidate]) -> Vec<(usize, usize)> {
    let beats = |a: &Candidate, b: &Candidate| a.bytes <= b.bytes && a.kl <= b.kl && (a.bytes < b.bytes || a.kl < b.kl);
    let better = |worse: usize| (0..candidates.len()).find(|&index| beats(&candidates[index], &candidates[worse]));
    (0..candidates.len()).filter_map(|worse| Some((worse, better(worse)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(bytes: u64, kl: f64, ratio: f64) -> Candidate {
        Candidate { name: String::new(), bytes, kl, ratio }
    }

    #[test]
    fn the_smallest_that_loses_little_is_taken() {
        let all = [candidate(90, 0.30, 1.40), candidate(95, 0.05, 1.04), candidate(140, 0.01, 1.01)];
        assert_eq!(choose(&all).map(|(index, _)| index), Some(1));
        let (nearest, why) = choose(&all[..1]).expect("one");
        assert!(nearest == 0 && why.contains("more than 5 %"), "{why}");
        assert_eq!(choose(&[candidate(9, 0.3, 1.3), candidate(8, 0.2, 1.2)]).map(|(index, _)| index), Some(1));
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn a_larger_and_worse_file_is_beaten() {
        let all =
            [candidate(90, 0.30, 1.4), candidate(87, 0.10, 1.1), candidate(95, 0.05, 1.0), candidate(87, 0.10, 1.1)];
        assert_eq!(beaten(&all), [(0, 1)], "equals do not beat each other");
    }
}

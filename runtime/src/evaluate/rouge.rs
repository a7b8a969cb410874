//! ROUGE: how much of a reference an answer says again (Lin 2004, "ROUGE: A Package for Automatic Evaluation of
//! Summaries"), as the Python package rouge-score computes it without stemming.

use std::collections::HashMap;

/// F1 values of one answer, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rouge {
    /// Words in common.
    pub rouge1: f64,
    /// Pairs of neighboring words in common.
    pub rouge2: f64,
    /// The longest common subsequence of words, the whole text taken as one sentence.
    pub rouge_l: f64,
}

impl Rouge {
    /// Compares an answer with its reference. Words are runs of `a-z0-9` in the lower-case texts; without a word on one
    /// of the sides all values are 0.
    pub fn compare(answer: &str, reference: &str) -> Self {
        let (answer, reference) = (answer.to_lowercase(), reference.to_lowercase());
        let (answer, reference) = (words(&answer), words(&reference));
        let grams = |n: usize| {
            let counts = [answer.len(), reference.len()].map(|words| (words + 1).saturating_sub(n));
            f1(common(&answer, &reference, n), counts)
        };
        Rouge {
            rouge1: grams(1),
            rouge2: grams(2),
            rouge_l: f1(longest_common_subsequence(&answer, &reference), [answer.len(), reference.len()]),
        }
    }

    /// Means over pairs of answer and reference; 0 without any.
    pub fn mean<A: AsRef<str>, R: AsRef<str>>(pairs: &[(A, R)]) -> Self {
        let mut mean = Rouge::default();
        for (answer, reference) in pairs {
            let one = Rouge::compare(answer.as_ref(), reference.as_ref());
            mean.rouge1 += one.rouge1 / pairs.len() as f64;
            mean.rouge2 += one.rouge2 / pairs.len() as f64;
            mean.rouge_l += one.rouge_l / pairs.len() as f64;
        }
        mean
    }
}

/// Runs of `a-z0-9`. Letters beyond ASCII separate words, as in rouge-score.
fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !matches!(c, 'a'..='z' | '0'..='9')).filter(|word| !word.is_empty()).collect()
}

/// How many runs of `n` words are on both sides, each counted as often as on the side that has it less often.
fn common(a: &[&str], b: &[&str], n: usize) -> usize {
    let mut counts: HashMap<&[&str], usize> = HashMap::new();
    b.windows(n).for_each(|gram| *counts.entry(gram).or_default() += 1);
    let taken = a.windows(n).filter(|gram| match counts.get_mut(gram) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    });
    taken.count()
}

/// Length of the longest sequence of words that both sides have in this order, with gaps.
fn longest_common_subsequence(a: &[&str], b: &[&str]) -> usize {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    // best[j]: of the words of `long` so far and the first j words of `short`.
    let mut best = vec![0; short.len() + 1];
    for word in long {
        let mut diagonal = 0;
        for (j, other) in short.iter().enumerate() {
            let above = best[j + 1];
            best[j + 1] = if word == other { diagonal + 1 } else { above.max(best[j]) };
            diagonal = above;
        }
    }
    best[short.len()]
}

/// Harmonic mean of precision and recall: `hits` out of the two sides' counts.
fn f1(hits: usize, counts: [usize; 2]) -> f64 {
    if hits == 0 { 0.0 } else { 2.0 * hits as f64 / (counts[0] + counts[1]) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: rouge-score 0.1.2, `RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)`.
    #[test]
    fn known_answers() {
        let cases: [(&str, &str, [f64; 3]); 9] = [
            ("the cat sat on the mat", "the cat was on the mat", [0.8333333333333334, 0.6, 0.8333333333333334]),
            (
                "The quick, brown fox -- jumps!",
                "a quick brown dog jumps over the fox",
                [0.7692307692307693, 0.18181818181818182, 0.4615384615384615],
            ),
            ("the the the the", "the cat the", [0.5714285714285715, 0.0, 0.5714285714285715]),
            ("one two three four", "four three two one", [1.0, 0.0, 0.25]),
            (
                "Café No. 12's déjà-vu",
                "cafe no 12 s deja vu",
                [0.6153846153846153, 0.3636363636363636, 0.6153846153846153],
            ),
            ("\u{212a}elvin \u{130}stanbul", "kelvin istanbul", [0.4, 0.0, 0.4]),
            ("word", "word", [1.0, 0.0, 1.0]),
            ("", "something", [0.0, 0.0, 0.0]),
            ("...", "?!", [0.0, 0.0, 0.0]),
        ];
        for (answer, reference, expected) in cases {
            let rouge = Rouge::compare(answer, reference);
            for (value, expected) in [rouge.rouge1, rouge.rouge2, rouge.rouge_l].into_iter().zip(expected) {
                assert!((value - expected).abs() < 1e-12, "{answer:?} {reference:?}: {rouge:?}, expected {expected}");
            }
        }
    }

    #[test]
    fn the_mean_is_over_examples() {
        let mean = Rouge::mean(&[("a b", "a b"), ("c", "d")]);
        assert_eq!(mean, Rouge { rouge1: 0.5, rouge2: 0.5, rouge_l: 0.5 });
        assert_eq!(Rouge::mean::<&str, &str>(&[]), Rouge::default());
    }
}

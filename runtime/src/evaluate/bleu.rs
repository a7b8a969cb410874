//! BLEU of a corpus (Papineni et al. 2002), as sacrebleu computes it by default: n-grams up to 4, one reference, case
//! kept, the tokenization of mteval-v13a, exponential smoothing (NIST; method 3 of Chen and Cherry 2014).

use std::collections::HashMap;

/// Longest n-gram.
const ORDER: usize = 4;

/// BLEU of pairs of answer and reference, from 0 to 100. Counts are added up over the corpus before they become a
/// score, so this is not a mean of scores. A corpus whose answers have no 4-gram at all has the score 0.
pub fn corpus_bleu<A: AsRef<str>, R: AsRef<str>>(pairs: &[(A, R)]) -> f64 {
    let mut counts = Counts::default();
    for (answer, reference) in pairs {
        counts.add(&tokenize(answer.as_ref()), &tokenize(reference.as_ref()));
    }
    counts.score()
}

/// What BLEU is computed from.
#[derive(Debug, Default)]
struct Counts {
    /// N-grams of the answers that are in their reference, at most as often as there.
    correct: [usize; ORDER],
    /// N-grams of the answers.
    total: [usize; ORDER],
    /// Tokens of the answers.
    answers: usize,
    /// Tokens of the references.
    references: usize,
}

impl Counts {
    fn add(&mut self, answer: &[String], reference: &[String]) {
        self.answers += answer.len();
        self.references += reference.len();
        for (index, n) in (1..=ORDER).enumerate() {
            let mut left: HashMap<&[String], usize> = HashMap::new();
            reference.windows(n).for_each(|gram| *left.entry(gram).or_default() += 1);
            for gram in answer.windows(n) {
                self.total[index] += 1;
                if let Some(left) = left.get_mut(gram).filter(|left| **left > 0) {
                    *left -= 1;
                    self.correct[index] += 1;
                }
            }
        }
    }

    /// Brevity penalty times the geometric mean of the precisions. A precision of 0 is smoothed: the k-th one of them
    /// counts as `1 / 2^k` hits.
    fn score(&self) -> f64 {
        if self.correct == [0; ORDER] || self.total.contains(&0) {
            return 0.0;
        }
        let mut smooth = 1.0;
        let logarithms = self.correct.iter().zip(self.total).map(|(&correct, total)| {
            if correct > 0 {
                return (100.0 * correct as f64 / total as f64).ln();
            }
            smooth *= 2.0;
            (100.0 / (smooth * total as f64)).ln()
        });
        let mean = logarithms.sum::<f64>() / ORDER as f64;
        let brevity = (1.0 - self.references as f64 / self.answers as f64).min(0.0).exp();
        brevity * mean.exp()
    }
}

/// Tokens as mteval-v13a makes them. Each step works on the text that the one before it wrote, from left to right, and
/// looks at no character twice.
fn tokenize(text: &str) -> Vec<String> {
    let text = text.trim_end_matches(is_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let text: Vec<char> = format!(" {text} ").chars().collect();
    let text = separate_symbols(&text);
    let text = rewrite_pairs(&text, |a, b| (!a.is_ascii_digit() && is_point(b)).then_some([a, ' ', b, ' ']));
    let text = rewrite_pairs(&text, |a, b| (is_point(a) && !b.is_ascii_digit()).then_some([' ', a, ' ', b]));
    let text = rewrite_pairs(&text, |a, b| (a.is_ascii_digit() && b == '-').then_some([a, ' ', b, ' ']));
    let text: String = text.into_iter().collect();
    text.split(is_space).filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

/// White space as Python's `str.split` knows it: Unicode's, and the four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

fn is_point(c: char) -> bool {
    matches!(c, '.' | ',')
}

/// Puts spaces around ASCII symbols, except `'`, `,`, `-` and `.`.
fn separate_symbols(text: &[char]) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() * 2);
    for &c in text {
        match c {
            '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/' => out.extend([' ', c, ' ']),
            _ => out.push(c),
        }
    }
    out
}

/// Replaces pairs of neighbors that `rule` knows; a replaced pair is not looked at again.
fn rewrite_pairs(text: &[char], rule: impl Fn(char, char) -> Option<[char; 4]>) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() * 2);
    let mut at = 0;
    while let Some(&a) = text.get(at) {
        match text.get(at + 1).and_then(|&b| rule(a, b)) {
            Some(pair) => {
                out.extend(pair);
                at += 2;
            }
            None => {
                out.push(a);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: sacrebleu 2.6.0, `Tokenizer13a`.
    #[test]
    fn tokens_are_those_of_mteval_v13a() {
        let cases: [(&str, &[&str]); 11] = [
            (
                "Hello, world! It's 3.14, or 1,000.5...",
                &["Hello", ",", "world", "!", "It's", "3.14", ",", "or", "1,000.5", ".", ".", "."],
            ),
            ("a-b 3-4 x/y -7 1-", &["a-b", "3", "-", "4", "x", "/", "y", "-7", "1", "-"]),
            ("wait... no,.,. 5.,6", &["wait", ".", ".", ".", "no", ",", ".", ",", ".", "5", ".", ",", "6"]),
            (
                "&quot;A&amp;B&quot; &lt;b&gt; &amp;lt; [x]{y}~z",
                &["\"", "A", "&", "B", "\"", "<", "b", ">", "<", "[", "x", "]", "{", "y", "}", "~", "z"],
            ),
            ("co-\noperate\nnow <skipped>end", &["cooperate", "now", "end"]),
            (
                "U.S.A. $5.00 100% e-mail@x.org",
                &["U", ".", "S", ".", "A", ".", "$", "5.00", "100", "%", "e-mail", "@", "x", ".", "org"],
            ),
            ("naïve—日本、語。 a\u{a0}b\u{1c}c", &["naïve—日本、語。", "a", "b", "c"]),
            ("tail .  ", &["tail", "."]),
            ("", &[]),
            (".,5", &[".", ",5"]),
            ("'quoted' `tick` \\ ^ _ |", &["'quoted'", "`", "tick", "`", "\\", "^", "_", "|"]),
        ];
        for (text, expected) in cases {
            assert_eq!(tokenize(text), expected, "{text:?}");
        }
    }

    /// Expected values: sacrebleu 2.6.0, `corpus_bleu(answers, [references])`.
    #[test]
    fn known_answers() {
        let cases: [(&[(&str, &str)], f64); 7] = [
            (
                &[("The cat sat on the mat.", "The cat sat on the mat."), ("A dog ran.", "The dog ran away.")],
                72.7989109835685,
            ),
            (&[("the the the the the", "the cat is on the mat")], 10.400597689005304),
            (
                &[
                    (
                        "The lighthouse stands on Corrow Rock, alone in the sea.",
                        "The Finch Light stands on Corrow Rock, alone in the sea.",
                    ),
                    ("There are 92 steps, aye.", "There are 92 steps up to the lamp, and I climb them every night."),
                    ("", "My dog is Biscuit."),
                ],
                32.39714133357357,
            ),
            (&[("one two three", "one two three")], 0.0),
            (&[("alpha beta gamma delta epsilon", "zeta eta theta")], 0.0),
            (&[("a b x c d", "a b c d e"), ("a b", "a b c")], 27.890014303843827),
            (
                &[(
                    "It costs 1,000.50 dollars (about), no? I'm sure of it, said he.",
                    "It costs 1,000.50 dollars (about), no? I am sure, he said.",
                )],
                56.64313497325815,
            ),
        ];
        for (pairs, expected) in cases {
            let score = corpus_bleu(pairs);
            assert!((score - expected).abs() < 1e-9, "{pairs:?}: {score}, expected {expected}");
        }
        assert_eq!(corpus_bleu::<&str, &str>(&[]), 0.0);
    }
}

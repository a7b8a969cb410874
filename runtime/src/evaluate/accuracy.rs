//! Exact match.

/// Whether an answer is the reference, white space at both ends aside.
pub fn is_reference(answer: &str, reference: &str) -> bool {
    answer.trim() == reference.trim()
}

/// Share of the pairs whose answer is the reference, white space at both ends aside; from 0 to 1, 0 without pairs.
pub fn accuracy<A: AsRef<str>, R: AsRef<str>>(pairs: &[(A, R)]) -> f64 {
    let hits = pairs.iter().filter(|(answer, reference)| is_reference(answer.as_ref(), reference.as_ref())).count();
    hits as f64 / pairs.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_outer_white_space_is_forgiven() {
        assert_eq!(accuracy(&[(" a b\n", "a b"), ("a  b", "a b"), ("A b", "a b"), ("", " ")]), 0.5);
        assert_eq!(accuracy::<&str, &str>(&[]), 0.0);
    }
}

//! How long rows are: as long as the longest example of a data set, and a micro-batch as long as its longest row, up to
//! one of a few lengths that plans are made for.

/// Shortest rows that plans are made for: with fewer places the time goes into reading the weights.
const SHORTEST: usize = 16;

/// The lengths, the longest first, that rows of so many tokens each need in micro-batches: the longest row's, and of
/// the steps below it (3/4, 1/2, 3/8, 1/4, ..) those that have a row. No row is padded by more than half of its own
/// length, but for the shortest ones.
pub(super) fn lengths(rows: impl Iterator<Item = usize>) -> Vec<usize> {
    let rows: Vec<usize> = rows.collect();
    let longest = rows.iter().copied().max().unwrap_or(0).max(2);
    let mut steps = vec![longest];
    let mut half = longest;
    while half > SHORTEST {
        steps.extend([(half * 3).div_ceil(4), half.div_ceil(2)]);
        half = half.div_ceil(2);
    }
    let below = steps.iter().copied().skip(1).chain([0]);
    let needed = steps.iter().zip(below).filter(|(step, below)| rows.iter().any(|row| row <= *step && row > below));
    let mut needed: Vec<usize> = needed.map(|(step, _)| *step).collect();
    needed.dedup();
    if needed.is_empty() { vec![longest] } else { needed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lengths_that_rows_need_are_there() {
        let of = |rows: &[usize]| lengths(rows.iter().copied());
        assert_eq!(of(&[70; 60]), [70]);
        assert_eq!(of(&[70, 69, 53, 35, 34]), [70, 53, 35]);
        assert_eq!(of(&[8192, 70]), [8192, 96]);
        assert_eq!(of(&[1, 2]), [2]);
        assert_eq!(of(&[]), [2]);
        assert!(of(&(1..=4096).collect::<Vec<_>>()).len() <= 20);
    }

    #[test]
    fn no_row_is_padded_by_more_than_half() {
        for longest in [17, 64, 65, 100, 511, 8192] {
            let all = lengths(1..=longest);
            let padded = |row: usize| all.iter().copied().rev().find(|length| *length >= row).unwrap_or(0);
            assert!((1..=longest).all(|row| padded(row) >= row), "{longest}: {all:?}");
            let worst = (SHORTEST..=longest).map(|row| padded(row) as f64 / row as f64).fold(0.0, f64::max);
            assert!(worst <= 1.5, "{longest}: {worst} {all:?}");
        }
    }
}

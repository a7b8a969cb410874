//! Cutting runs of digits into groups of three, counted from the right.

use super::table::Digits;

/// Appends the pieces of `piece`: a partition without empty pieces.
pub(super) fn cut<'t>(rule: Digits, piece: &'t str, out: &mut Vec<&'t str>) {
    let mut done = 0;
    let mut cut_at = |at: usize| {
        if at > done {
            out.push(&piece[done..at]);
            done = at;
        }
    };
    let is_digit = |c: char| if rule == Digits::AfterFirst { c.is_numeric() } else { c.is_ascii_digit() };
    let mut chars = piece.char_indices().peekable();
    while let Some(&(start, c)) = chars.peek() {
        if !is_digit(c) {
            chars.next();
            continue;
        }
        let mut places = Vec::new();
        while let Some((at, _)) = chars.next_if(|&(_, c)| is_digit(c)) {
            places.push(at);
        }
        let end = chars.peek().map_or(piece.len(), |&(at, _)| at);
        // `\b`: no letter, digit or underscore of ASCII follows.
        let word = chars.peek().is_some_and(|&(_, c)| c.is_ascii_alphanumeric() || c == '_');
        if rule == Digits::Groups && !word {
            cut_at(start);
        }
        if rule != Digits::Groups || !word {
            let first = places.len() % 3;
            let from = if first == 0 && rule == Digits::AfterFirst { 3 } else { first };
            places.iter().skip(from).step_by(3).for_each(|&at| cut_at(at));
        }
        if rule == Digits::AfterFirst || (rule == Digits::Groups && !word) {
            cut_at(end);
        }
    }
    cut_at(piece.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(rule: Digits, text: &str) -> Vec<&str> {
        let mut out = Vec::new();
        cut(rule, text, &mut out);
        out
    }

    #[test]
    fn groups_are_counted_from_the_right() {
        assert_eq!(pieces(Digits::BeforeThrees, "1234567"), ["1", "234", "567"]);
        assert_eq!(pieces(Digits::BeforeThrees, "١23456"), ["١23", "456"]);
        assert_eq!(pieces(Digits::Groups, "a 1234 b"), ["a ", "1", "234", " b"]);
        assert_eq!(pieces(Digits::Groups, "1234b 123"), ["1234b ", "123"]);
        assert_eq!(pieces(Digits::AfterFirst, "ab1234c"), ["ab1", "234", "c"]);
        assert_eq!(pieces(Digits::AfterFirst, "ab123c12"), ["ab123", "c12"]);
        assert!(pieces(Digits::Groups, "").is_empty());
    }
}

//! Rust text taken apart into code and comments, line by line. Strings count as code, but their contents are blanked.

/// A file's text in two layers of the same shape: each has the file's lines, with spaces in the places of the other.
#[derive(Debug, Default)]
pub struct Layers {
    /// Code, with the contents of strings and character literals blanked.
    pub code: String,
    /// Comments, with their slashes.
    pub comments: String,
}

/// Splits `text` into code and comments.
pub fn layers(text: &str) -> Layers {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Layers::default();
    let mut i = 0;
    while i < chars.len() {
        let (end, kind) = token(&chars, i);
        for (offset, &c) in chars[i..end].iter().enumerate() {
            let edge = offset == 0 || i + offset + 1 == end;
            let blank = if c == '\n' { '\n' } else { ' ' };
            let (code, comment) = match kind {
                Kind::Code => (c, blank),
                Kind::Literal => (if edge { c } else { blank }, blank),
                Kind::Comment => (blank, c),
            };
            out.code.push(code);
            out.comments.push(comment);
        }
        i = end;
    }
    out
}

#[derive(Clone, Copy)]
enum Kind {
    Code,
    Literal,
    Comment,
}

/// The end of the token that starts at `i`: a comment, a literal, a word, or one character.
fn token(chars: &[char], i: usize) -> (usize, Kind) {
    let next = chars.get(i + 1).copied();
    match chars[i] {
        '/' if next == Some('/') => (line_end(chars, i), Kind::Comment),
        '/' if next == Some('*') => (block_end(chars, i), Kind::Comment),
        '"' => (string_end(chars, i), Kind::Literal),
        '\'' => character_end(chars, i).map_or((i + 1, Kind::Code), |end| (end, Kind::Literal)),
        c if c.is_alphanumeric() || c == '_' => word(chars, i),
        _ => (i + 1, Kind::Code),
    }
}

fn line_end(chars: &[char], i: usize) -> usize {
    chars[i..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| i + n)
}

/// The end of a block comment; block comments nest.
fn block_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut i = start;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut i = start + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// The end of a character literal, `None` for a lifetime.
fn character_end(chars: &[char], i: usize) -> Option<usize> {
    if chars.get(i + 1) == Some(&'\\') {
        let quote = chars[i + 3..].iter().position(|&c| c == '\'')?;
        return Some(i + 3 + quote + 1);
    }
    (chars.get(i + 2) == Some(&'\'')).then_some(i + 3)
}

/// A word, or a raw string where the word is its prefix.
fn word(chars: &[char], start: usize) -> (usize, Kind) {
    let length = chars[start..].iter().position(|c| !(c.is_alphanumeric() || *c == '_'));
    let end = length.map_or(chars.len(), |n| start + n);
    let prefix: String = chars[start..end].iter().collect();
    if matches!(prefix.as_str(), "r" | "br" | "cr") {
        let hashes = chars[end..].iter().take_while(|&&c| c == '#').count();
        if chars.get(end + hashes) == Some(&'"') {
            return (raw_end(chars, end + hashes + 1, hashes), Kind::Literal);
        }
    }
    (end, Kind::Code)
}

fn raw_end(chars: &[char], mut i: usize, hashes: usize) -> usize {
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::layers;

    #[test]
    fn comments_and_strings_are_told_apart() {
        let found =
            layers("let a = \"// no\"; // yes\nlet b = 'x'; let c: &'a str = r#\"a \" b\"#; /* d /* e */ f */ g");
        assert!(found.code.contains("let a = \"     \";"), "{}", found.code);
        assert!(found.code.contains("let b = ' '; let c: &'a str = r"), "{}", found.code);
        assert!(found.code.ends_with(" g") && !found.code.contains('f'), "{}", found.code);
        assert!(found.comments.contains("// yes\n") && !found.comments.contains("no"), "{}", found.comments);
    }
}

//! The functions of a Rust file: name, lines, types of the parameters.

/// A function of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// What it is called.
    pub name: String,
    /// The line of `fn`, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace; `None` for a declaration without a body.
    pub lines: Option<usize>,
    /// The type of each parameter as written, `self` left out.
    pub types: Vec<String>,
}

/// All functions in `code`: a file whose comments and strings are blanked (`lexer::layers`).
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("fn ").map(|at| from + at) {
        from = at + 3;
        let before = code[..at].chars().next_back();
        if before.is_none_or(|c| !(c.is_alphanumeric() || c == '_')) {
            found.extend(function(code, at));
        }
    }
    found
}

/// The function whose `fn` is at byte `at`; `None` where it is a type (`fn (..)`).
fn function(code: &str, at: usize) -> Option<Function> {
    let rest = &code[at + 3..];
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let open = at + 3 + parameters(rest)?;
    let close = closing(code, open)?;
    let end = code[close..].find(['{', ';']).map(|n| close + n)?;
    let body = code[end..].starts_with('{').then(|| closing(code, end)).flatten();
    let line = 1 + code[..at].matches('\n').count();
    let lines = body.map(|body| 1 + code[at..body].matches('\n').count());
    let types = split(&code[open + 1..close]).filter_map(|p| typed(&p)).collect();
    (!name.is_empty()).then_some(Function { name, line, lines, types })
}

/// Where the parenthesis of the parameters is, after the name and its generics.
fn parameters(rest: &str) -> Option<usize> {
    let mut depth = 0_i32;
    let mut previous = ' ';
    for (i, c) in rest.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if previous != '-' => depth -= 1,
            '(' if depth == 0 => return Some(i),
            ';' | '{' => return None,
            _ => {}
        }
        previous = c;
    }
    None
}

/// Where the bracket that opens at byte `open` is closed.
pub fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (i, c) in code[open..].char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(open + i);
        }
    }
    None
}

/// The parts of `list` between commas that no bracket encloses.
pub fn split(list: &str) -> impl Iterator<Item = String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut previous) = (0_i32, ' ');
    for c in list.chars() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '>' if previous != '-' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
        previous = c;
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty())
}

/// The type in `name: type`; `None` for `self`.
fn typed(parameter: &str) -> Option<String> {
    let mut depth = 0_i32;
    for (i, c) in parameter.char_indices() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' | '>' => depth -= 1,
            ':' if depth == 0 => return Some(parameter[i + 1..].trim().to_owned()),
            _ => {}
        }
    }
    None
}

/// How many values the widest tuple in the type `ty` has; 0 where there is none. The arguments of closures are none.
pub fn widest_tuple(ty: &str) -> usize {
    let opens = ty.char_indices().filter(|(i, c)| *c == '(' && !called(&ty[..*i]));
    opens.filter_map(|(i, _)| Some(split(&ty[i + 1..closing(ty, i)?]).count())).max().unwrap_or(0)
}

/// Whether a parenthesis after `before` holds arguments (`Fn(..)`), not a tuple.
fn called(before: &str) -> bool {
    before.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::{functions, widest_tuple};

    #[test]
    fn functions_are_found_with_their_parameters() {
        let code = "pub fn a<T: Fn(u8) -> u8>(&self, x: (u8, [u8; 2], u8), y: T) -> u8 {\n    x\n}\ntrait B { fn c(z: fn(u8)); }";
        let found = functions(code);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name.as_str(), found[0].line, found[0].lines), ("a", 1, Some(3)));
        assert_eq!(found[0].types, ["(u8, [u8; 2], u8)", "T"]);
        assert_eq!((found[1].name.as_str(), found[1].line, found[1].lines), ("c", 4, None));
    }

    #[test]
    fn tuples_are_counted_wherever_they_are() {
        assert_eq!(widest_tuple("&[(u8, u8, u8)]"), 3);
        assert_eq!(widest_tuple("impl Fn(u8, u8, u8) -> u8"), 0);
        assert_eq!(widest_tuple("Option<(usize, usize)>"), 2);
    }
}

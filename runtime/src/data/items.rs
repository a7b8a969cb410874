//! The records of files that are no .jsonl: the elements of a JSON array, and the rows of a table.

use std::ops::Range;

/// A record and the line on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) line: usize,
    pub(super) range: Range<usize>,
}

/// The elements of a JSON array. Whether each is JSON is for whoever reads it.
///
/// # Errors
/// The text is no array.
pub(super) fn elements(text: &[u8]) -> Result<Vec<Item>, String> {
    let trimmed = text.trim_ascii();
    if !(trimmed.starts_with(b"[") && trimmed.ends_with(b"]")) {
        return Err("is no JSON array of objects, and has not one object a line".into());
    }
    let first = text.len() - text.trim_ascii_start().len() + 1;
    let end = text.trim_ascii_end().len() - 1;
    let (mut items, mut line) = (Vec::new(), 1 + count(&text[..first]));
    let (mut depth, mut quoted, mut escaped, mut start, mut begun) = (0usize, false, false, first, line);
    // Nothing but white space since the element began.
    let mut blank = true;
    for (at, &byte) in text.iter().enumerate().take(end).skip(first) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                items.push(Item { line: begun, range: start..at });
                (start, begun) = (at + 1, line);
            }
            b'\n' if blank => begun = line + 1,
            _ => {}
        }
        // A comma has begun the next one.
        blank = start > at || blank && byte.is_ascii_whitespace();
        line += usize::from(byte == b'\n');
    }
    // Also one that is cut short: it is the reader's to refuse, not to be left out.
    items.push(Item { line: begun, range: start..end });
    items.retain(|item| !text[item.range.clone()].trim_ascii().is_empty());
    Ok(items)
}

fn count(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

/// A row of a table, as the text of a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) line: usize,
    pub(super) object: String,
}

/// The rows of a table (RFC 4180) under the names in its first line.
///
/// # Errors
/// Line and problem: a row with another number of cells, a quote that does not end, a name that is there twice.
pub(super) fn rows(text: &str, separator: char) -> Result<Vec<Row>, BadRow> {
    let mut cells = Cells { rest: text, line: 1, separator };
    let Some(Cut { cells: names, .. }) = cells.row()? else { return Ok(Vec::new()) };
    if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        return Err(BadRow { line: 1, problem: format!("the column {:?} is there twice", twice.1) });
    }
    let mut out = Vec::new();
    while let Some(Cut { line, cells: row }) = cells.row()? {
        if row.len() != names.len() {
            let problem = format!("has {} cells, but there are {} columns", row.len(), names.len());
            return Err(BadRow { line, problem });
        }
        let entries = names.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
        let object: serde_json::Map<_, _> = entries.map(|(name, cell)| (name.clone(), cell.into())).collect();
        out.push(Row { line, object: serde_json::Value::Object(object).to_string() });
    }
    Ok(out)
}

/// What is wrong with a row.
#[derive(Debug)]
pub(super) struct BadRow {
    pub(super) line: usize,
    pub(super) problem: String,
}

/// The cells of a row.
struct Cut {
    line: usize,
    cells: Vec<String>,
}

struct Cells<'t> {
    rest: &'t str,
    line: usize,
    separator: char,
}

impl Cells<'_> {
    /// The next row that is not blank, with its line.
    fn row(&mut self) -> Result<Option<Cut>, BadRow> {
        while let Some(after) = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix('\n')) {
            (self.rest, self.line) = (after, self.line + 1);
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (line, mut cells) = (self.line, Vec::new());
        loop {
            cells.push(self.cell().map_err(|problem| BadRow { line, problem })?);
            match self.rest.strip_prefix(self.separator) {
                Some(after) => self.rest = after,
                None => break,
            }
        }
        let after = self.rest.strip_prefix('\r').unwrap_or(self.rest);
        self.rest = after.strip_prefix('\n').unwrap_or(after);
        self.line += 1;
        Ok(Some(Cut { line, cells }))
    }

    fn cell(&mut self) -> Result<String, String> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([self.separator, '\n']).unwrap_or(self.rest.len());
            let cell = &self.rest[..end];
            let cell = if self.rest[end..].starts_with('\n') { cell.strip_suffix('\r').unwrap_or(cell) } else { cell };
            self.rest = &self.rest[cell.len()..];
            return Ok(cell.to_owned());
        };
        let mut out = String::new();
        let mut rest = quoted;
        loop {
            let (part, after) = rest.split_once('"').ok_or("a quote does not end")?;
            self.line += count(part.as_bytes());
            out += part;
            match after.strip_prefix('"') {
                Some(more) => {
                    out.push('"');
                    rest = more;
                }
                None => {
                    self.rest = after;
                    return match after.chars().next() {
                        None | Some('\r' | '\n') => Ok(out),
                        Some(c) if c == self.separator => Ok(out),
                        Some(_) => Err("text follows a quote that ends".into()),
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_fall_into_their_elements() {
        let text = b" [\n{\"a\": [1, {\"b\": \"],\\\"\"}]},\n\n {\"c\": 2} ]\n";
        let found: Vec<(usize, &str)> = elements(text)
            .unwrap()
            .into_iter()
            .map(|item| (item.line, std::str::from_utf8(&text[item.range]).unwrap().trim()))
            .collect();
        assert_eq!(found, [(2, "{\"a\": [1, {\"b\": \"],\\\"\"}]}"), (4, "{\"c\": 2}")]);
        assert_eq!(elements(b"[]").unwrap(), []);
        let cut = elements(b"[{\"a\": 1},\n{\"a\": \"cut}]").unwrap();
        assert_eq!(cut.iter().map(|item| item.line).collect::<Vec<_>>(), [1, 2], "the last one is there to be refused");
        assert!(elements(b"{}").is_err() && elements(b"[").is_err() && elements(b"").is_err());
    }

    #[test]
    fn tables_are_objects() {
        let text = "q,\"a b\"\r\nx,\"1, \"\"2\"\"\n3\"\r\n\n,y\n";
        let expected = [(2, r#"{"q":"x","a b":"1, \"2\"\n3"}"#), (5, r#"{"a b":"y"}"#)];
        let found = rows(text, ',').unwrap();
        assert_eq!(found.iter().map(|row| (row.line, row.object.as_str())).collect::<Vec<_>>(), expected);
        for (text, problem) in
            [("a,b\n1", "1 cells"), ("a\n\"x", "does not end"), ("a,a\n", "twice"), ("a\n\"x\"y", "follows")]
        {
            assert!(rows(text, ',').unwrap_err().problem.contains(problem), "{text}");
        }
    }
}

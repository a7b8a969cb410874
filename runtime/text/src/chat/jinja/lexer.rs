//! Source to tokens, one at a time: text with the white space that tags leave of it, and the words inside tags.

use super::meter::{Fault, Outcome};

/// Longest name: every look at a variable or a key reads it.
const NAME: usize = 256;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Text between tags.
    Text(String),
    /// `{%`
    Block,
    /// `%}`
    BlockEnd,
    /// `{{`
    Print,
    /// `}}`
    PrintEnd,
    Name(String),
    Str(String),
    Int(i64),
    Float(f64),
    /// An operator or bracket.
    Symbol(&'static str),
    End,
}

/// Longer ones first.
const SYMBOLS: [&str; 25] = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "/", "*", "%", "~", "(", ")", "[", "]", "{", "}", "<", ">", "=", ".",
    ":", "|", ",",
];

/// Reads a source with `trim_blocks` and `lstrip_blocks`, as Transformers does.
pub(super) struct Lexer<'s> {
    rest: &'s str,
    line: u32,
    inside: Option<Inside>,
    /// Open brackets of the tag.
    brackets: usize,
    /// The text that follows loses white space at its start.
    strip_next: bool,
    /// The text that follows begins a line.
    line_start: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Print,
    Block,
}

impl<'s> Lexer<'s> {
    /// A lexer at the start of `source`. A line break at its end is no part of it.
    pub(super) fn new(source: &'s str) -> Self {
        let rest = source.strip_suffix('\n').unwrap_or(source);
        Lexer { rest, line: 1, inside: None, brackets: 0, strip_next: false, line_start: true }
    }

    /// Line of the next token.
    pub(super) fn line(&self) -> u32 {
        self.line
    }

    fn skip(&mut self, bytes: usize) -> &'s str {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.bytes().filter(|&byte| byte == b'\n').count() as u32;
        self.rest = rest;
        skipped
    }

    fn fail<T>(&self, message: impl std::fmt::Display) -> Outcome<T> {
        Err(Fault::unsupported(format!("syntax error: {message}")).at(self.line))
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Outcome<Token> {
        match self.inside {
            Some(inside) => self.word(inside),
            None => self.text(),
        }
    }

    /// Text up to the next tag, or the opening of a tag.
    fn text(&mut self) -> Outcome<Token> {
        loop {
            let opens = |pair: &[u8]| matches!(pair, b"{{" | b"{%" | b"{#");
            let start = self.rest.as_bytes().windows(2).position(opens);
            let text = self.skip(start.unwrap_or(self.rest.len()));
            let text = if self.strip_next { text.trim_start() } else { text };
            let line_start = std::mem::take(&mut self.line_start);
            self.strip_next = false;
            let text = self.before(text, line_start);
            if !text.is_empty() {
                // The tag is read by the next call, and it has no text before it then.
                return Ok(Token::Text(text.to_owned()));
            }
            if self.rest.is_empty() {
                return Ok(Token::End);
            }
            match self.rest.as_bytes()[1] {
                b'#' => self.comment()?,
                b'{' => return Ok(self.open(Inside::Print)),
                _ => match self.raw()? {
                    Some(text) => return Ok(Token::Text(text)),
                    None => return Ok(self.open(Inside::Block)),
                },
            }
        }
    }

    /// The text up to the next tag, after what was read.
    fn before<'t>(&self, text: &'t str, line_start: bool) -> &'t str {
        let (kind, sign) = (self.rest.as_bytes().get(1), self.rest.as_bytes().get(2));
        match (kind, sign) {
            (Some(_), Some(b'-')) => text.trim_end(),
            (Some(b'%' | b'#'), sign) if sign != Some(&b'+') => {
                let last = text.rfind('\n').map_or(0, |at| at + 1);
                let blank = text[last..].chars().all(char::is_whitespace) && (last > 0 || line_start);
                if blank { &text[..last] } else { text }
            }
            _ => text,
        }
    }

    fn open(&mut self, inside: Inside) -> Token {
        let sign = matches!(self.rest.as_bytes().get(2), Some(b'-' | b'+'));
        self.skip(2 + usize::from(sign));
        self.inside = Some(inside);
        self.brackets = 0;
        if inside == Inside::Print { Token::Print } else { Token::Block }
    }

    /// Skips a tag's end `length` bytes long: a sign and the tag. A block takes the line break after it.
    fn close(&mut self, length: usize, block: bool) {
        let sign = self.rest.as_bytes()[0];
        self.skip(length);
        self.strip_next = sign == b'-';
        if block && !matches!(sign, b'-' | b'+') && self.rest.starts_with('\n') {
            self.skip(1);
            self.line_start = true;
        }
    }

    fn comment(&mut self) -> Outcome<()> {
        let Some(end) = self.rest[2..].find("#}") else { return self.fail("a comment does not end") };
        let end = end + 2;
        let sign = usize::from(end > 2 && matches!(self.rest.as_bytes()[end - 1], b'-' | b'+'));
        self.skip(end - sign);
        self.close(2 + sign, true);
        Ok(())
    }

    /// The text of a raw block, if one is next.
    fn raw(&mut self) -> Outcome<Option<String>> {
        let Some((length, sign)) = tag(self.rest, "raw") else { return Ok(None) };
        self.skip(length);
        let mut at = 0;
        while let Some(found) = self.rest[at..].find("{%") {
            at += found;
            if let Some((length, end_sign)) = tag(&self.rest[at..], "endraw") {
                let trim_end = self.rest.as_bytes().get(at + 2) == Some(&b'-');
                let text = self.skip(at);
                let text = if sign == b'-' { text.trim_start() } else { text };
                let text = if trim_end { text.trim_end() } else { text }.to_owned();
                let close = 2 + usize::from(matches!(end_sign, b'-' | b'+'));
                self.skip(length - close);
                self.close(close, true);
                return Ok(Some(text));
            }
            at += 2;
        }
        self.fail("a raw block does not end")
    }

    /// A token inside a tag.
    fn word(&mut self, inside: Inside) -> Outcome<Token> {
        let blank = self.rest.len() - self.rest.trim_start().len();
        self.skip(blank);
        if self.brackets == 0 {
            let (end, token) = match inside {
                Inside::Print => ("}}", Token::PrintEnd),
                Inside::Block => ("%}", Token::BlockEnd),
            };
            let sign = usize::from(self.rest.starts_with(['-', '+']));
            if self.rest[sign..].starts_with(end) {
                self.close(2 + sign, inside == Inside::Block);
                self.inside = None;
                return Ok(token);
            }
        }
        match self.rest.chars().next() {
            None => self.fail("a tag does not end"),
            Some('\'' | '"') => self.string(),
            Some(c) if c.is_ascii_digit() => self.number(),
            Some(c) if c.is_alphabetic() || c == '_' => {
                let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
                let end = end.unwrap_or(self.rest.len());
                if end > NAME {
                    return self.fail(format_args!("a name of more than {NAME} bytes"));
                }
                Ok(Token::Name(self.skip(end).to_owned()))
            }
            Some(c) => {
                let Some(symbol) = SYMBOLS.iter().find(|symbol| self.rest.starts_with(**symbol)) else {
                    return self.fail(format_args!("unexpected character {c:?}"));
                };
                match *symbol {
                    "(" | "[" | "{" => self.brackets += 1,
                    ")" | "]" | "}" => self.brackets = self.brackets.saturating_sub(1),
                    _ => {}
                }
                self.skip(symbol.len());
                Ok(Token::Symbol(symbol))
            }
        }
    }

    fn string(&mut self) -> Outcome<Token> {
        let quote = self.rest.as_bytes()[0];
        let mut end = 1;
        while let Some(&byte) = self.rest.as_bytes().get(end).filter(|&&byte| byte != quote) {
            end += if byte == b'\\' { 2 } else { 1 };
        }
        if end >= self.rest.len() {
            return self.fail("a string does not end");
        }
        let text = unescape(&self.rest[1..end]);
        self.skip(end + 1);
        match text {
            Some(text) => Ok(Token::Str(text)),
            None => self.fail("a bad escape in a string"),
        }
    }

    fn number(&mut self) -> Outcome<Token> {
        let bytes = self.rest.as_bytes();
        let radix = match bytes.get(..2) {
            Some(b"0x" | b"0X") => 16,
            Some(b"0o" | b"0O") => 8,
            Some(b"0b" | b"0B") => 2,
            _ => 10,
        };
        let digits = |from: usize| {
            let length = bytes[from..].iter().take_while(|b| b.is_ascii_digit() || **b == b'_').count();
            from + length
        };
        let mut end = digits(0);
        let mut float = false;
        if radix != 10 {
            end = 2 + bytes[2..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        } else {
            if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
                (end, float) = (digits(end + 1), true);
            }
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = matches!(bytes.get(end), Some(b'e' | b'E'));
            if exponent && bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                (end, float) = (digits(end + 1 + sign), true);
            }
        }
        let text = self.skip(end).replace('_', "");
        let token = match radix {
            10 if float => text.parse().ok().filter(|x: &f64| x.is_finite()).map(Token::Float),
            10 => text.parse().ok().map(Token::Int),
            _ => i64::from_str_radix(&text[2..], radix).ok().map(Token::Int),
        };
        token.map_or_else(|| self.fail("a number that is none or too large"), Ok)
    }
}

/// Length of `{% name %}` at the start of `source` and the byte before its `%}`.
fn tag(source: &str, name: &str) -> Option<(usize, u8)> {
    let body = source[2..].trim_start_matches(['-', '+']).trim_start();
    let after = body.strip_prefix(name)?.trim_start();
    let sign = *after.as_bytes().first()?;
    let end = after.strip_prefix(['-', '+']).unwrap_or(after).strip_prefix("%}")?;
    Some((source.len() - end.len(), sign))
}

/// A string literal's content as Python reads it.
fn unescape(source: &str) -> Option<String> {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let c = rest[at + 1..].chars().next()?;
        rest = &rest[at + 1 + c.len_utf8()..];
        let mut hex = |digits: usize| {
            let code = rest.get(..digits).filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))?;
            rest = &rest[digits..];
            char::from_u32(u32::from_str_radix(code, 16).ok()?)
        };
        match c {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'v' => out.push('\u{b}'),
            '0' => out.push('\0'),
            '\\' | '\'' | '"' => out.push(c),
            '\n' => {}
            'x' => out.push(hex(2)?),
            'u' => out.push(hex(4)?),
            'U' => out.push(hex(8)?),
            other => out.extend(['\\', other]),
        }
    }
    out.push_str(rest);
    Some(out)
}

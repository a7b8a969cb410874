//! What filters and methods do with strings.

use std::rc::Rc;

use super::display;
use super::meter::{Fault, Meter, Outcome};
use super::text::{Builder, Text};
use super::value::{Items, Value};

/// Which ends lose characters.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Ends {
    Both,
    Start,
    End,
}

/// Without white space, or the given characters, at its ends.
pub(super) fn trim(text: &Text, characters: Option<&Text>, ends: Ends) -> Outcome<Text> {
    let set = characters.map(|set| set.as_str());
    text.meter().copy(text.as_str().len().saturating_mul(1 + set.map_or(0, str::len)))?;
    let out = |c: char| set.map_or(c.is_whitespace(), |set| set.contains(c));
    let mut part = text.as_str();
    if ends != Ends::End {
        part = part.trim_start_matches(out);
    }
    if ends != Ends::Start {
        part = part.trim_end_matches(out);
    }
    text.part(part)
}

/// In capitals.
pub(super) fn upper(text: &Text) -> Outcome<Text> {
    text.map(|c, push| c.to_uppercase().try_for_each(|c| push(c.encode_utf8(&mut [0; 4]))))
}

/// In small letters.
pub(super) fn lower(text: &Text) -> Outcome<Text> {
    text.map(|c, push| c.to_lowercase().try_for_each(|c| push(c.encode_utf8(&mut [0; 4]))))
}

/// Whether there are letters with a case, and all of them are small.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

/// Whether there are letters with a case, and all of them are capitals.
pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// Small letters as capitals, and capitals small.
pub(super) fn swapcase(text: &Text) -> Outcome<Text> {
    text.map(|c, push| {
        let mut put = |c: char| push(c.encode_utf8(&mut [0; 4]));
        if c.is_uppercase() { c.to_lowercase().try_for_each(&mut put) } else { c.to_uppercase().try_for_each(&mut put) }
    })
}

/// Whether each run of letters begins with a capital, and has no other.
pub(super) fn is_title(text: &str) -> bool {
    let (mut before, mut any) = (false, false);
    for c in text.chars() {
        if c.is_uppercase() && before || c.is_lowercase() && !before {
            return false;
        }
        before = c.is_uppercase() || c.is_lowercase();
        any |= before;
    }
    any
}

/// The first letter as a capital, the others small.
pub(super) fn capitalize(text: &Text) -> Outcome<Text> {
    cased(text, |first, _| first)
}

/// Each word with a capital, as Jinja's filter finds words.
pub(super) fn title(text: &Text) -> Outcome<Text> {
    cased(text, |first, before| first || before.is_whitespace() || "-({[<".contains(before))
}

/// Each run of letters with a capital, as Python's method does.
pub(super) fn title_letters(text: &Text) -> Outcome<Text> {
    cased(text, |_, before| !before.is_alphabetic())
}

fn cased(text: &Text, capital: impl Fn(bool, char) -> bool) -> Outcome<Text> {
    let (mut first, mut before) = (true, ' ');
    text.map(|c, push| {
        let large = capital(first, before);
        (first, before) = (false, c);
        let mut put = |c: char| push(c.encode_utf8(&mut [0; 4]));
        if large { c.to_uppercase().try_for_each(&mut put) } else { c.to_lowercase().try_for_each(&mut put) }
    })
}

/// With `old` replaced, at most `count` times.
pub(super) fn replace(text: &Text, old: &Text, new: &Text, count: usize) -> Outcome<Text> {
    if !can_have(text.as_str(), old.as_str()) {
        return Ok(text.clone());
    }
    let mut out = Builder::new(text.meter())?;
    let mut at = 0;
    for (start, found) in text.as_str().match_indices(old.as_str()).take(count) {
        out.push_part(text, at..start)?;
        out.push_text(new)?;
        at = start + found.len();
    }
    out.push_part(text, at..text.as_str().len())?;
    Ok(out.finish())
}

/// Whether a text can have a part at all. Preparing a search reads the part several times: what is longer than the
/// text is not looked for.
pub(super) fn can_have(text: &str, part: &str) -> bool {
    part.len() <= text.len()
}

/// Parts between separators, or between runs of white space. `limit` splits at most; from the end if `reverse`.
pub(super) fn split(text: &Text, separator: Option<&Text>, limit: Option<usize>, reverse: bool) -> Outcome<Value> {
    let whole = text.as_str();
    text.meter().copy(whole.len())?;
    let most = limit.unwrap_or(usize::MAX).saturating_add(1);
    let mut parts = Parts { whole: text, found: Items::new(text.meter())? };
    match separator.map(Text::as_str) {
        Some("") => return Err(Fault::new("split: the separator is empty")),
        Some(separator) if !can_have(whole, separator) => parts.push(whole)?,
        Some(separator) if reverse => whole.rsplitn(most, separator).try_for_each(|part| parts.push(part))?,
        Some(separator) => whole.splitn(most, separator).try_for_each(|part| parts.push(part))?,
        None => parts.words(most, reverse)?,
    }
    if !reverse {
        return parts.found.list();
    }
    let backwards = parts.found.list()?.items(text.meter())?;
    let mut out = Items::new(text.meter())?;
    backwards.items.iter().rev().try_for_each(|part| out.push(part.clone()))?;
    out.list()
}

/// Parts of a text, as they are found.
struct Parts<'t> {
    whole: &'t Text,
    found: Items,
}

impl Parts<'_> {
    fn push(&mut self, part: &str) -> Outcome<()> {
        self.found.push(Value::Text(self.whole.part(part)?))
    }

    /// At most `most` words, the last of which is all the rest.
    fn words(&mut self, most: usize, reverse: bool) -> Outcome<()> {
        let whole = self.whole.clone();
        let mut rest = if reverse { whole.as_str().trim_end() } else { whole.as_str().trim_start() };
        for count in 1.. {
            if rest.is_empty() {
                break;
            }
            let cut = match (count >= most, reverse) {
                (true, _) => None,
                (false, true) => rest.char_indices().rfind(|(_, c)| c.is_whitespace()),
                (false, false) => rest.char_indices().find(|(_, c)| c.is_whitespace()),
            };
            let (before, after) = cut.map_or((rest, ""), |(at, c)| (&rest[..at], &rest[at + c.len_utf8()..]));
            match (cut.is_some(), reverse) {
                (true, true) => {
                    self.push(after)?;
                    rest = before.trim_end();
                }
                _ => {
                    self.push(before)?;
                    rest = after.trim_start();
                }
            }
        }
        Ok(())
    }
}

/// What ends a line for Python.
fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Lines without their ends, or with them.
pub(super) fn lines(text: &Text, keep_ends: bool) -> Outcome<Value> {
    let mut out = Items::new(text.meter())?;
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let at = rest.find(is_line_end);
        let bare = &rest[..at.unwrap_or(rest.len())];
        let end = match at {
            Some(at) if rest[at..].starts_with("\r\n") => at + 2,
            Some(at) => at + rest[at..].chars().next().map_or(0, char::len_utf8),
            None => rest.len(),
        };
        out.push(Value::Text(text.part(if keep_ends { &rest[..end] } else { bare })?))?;
        rest = &rest[end..];
    }
    out.list()
}

/// The values as text with a separator between them.
pub(super) fn join(values: &[Value], separator: &Text, meter: &Rc<Meter>) -> Outcome<Text> {
    let mut out = Builder::new(meter)?;
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push_text(separator)?;
        }
        display::write(value, &mut out)?;
    }
    Ok(out.finish())
}

/// Each line after `prefix`, except the first and blank ones unless asked for.
pub(super) fn indent(text: &Text, prefix: &Text, first: bool, blank: bool) -> Outcome<Text> {
    let mut out = Builder::new(text.meter())?;
    for (i, line) in text.as_str().split('\n').enumerate() {
        if i > 0 {
            out.push_str("\n")?;
        }
        if (i > 0 || first) && (blank || !line.is_empty()) {
            out.push_text(prefix)?;
        }
        out.push_text(&text.part(line)?)?;
    }
    Ok(out.finish())
}

/// With zeros before its digits, so that it is `width` characters wide.
pub(super) fn zero_filled(text: &Text, width: usize) -> Outcome<Text> {
    let sign = usize::from(text.as_str().starts_with(['+', '-']));
    let mut out = Builder::new(text.meter())?;
    out.push_part(text, 0..sign)?;
    out.repeat("0", width.saturating_sub(text.as_str().chars().count()))?;
    out.push_part(text, sign..text.as_str().len())?;
    Ok(out.finish())
}

/// With `fill` around it, so that it is `width` characters wide. Odd room goes where Python puts it.
pub(super) fn pad(text: &Text, width: usize, fill: char, ends: Ends) -> Outcome<Text> {
    let room = width.saturating_sub(text.as_str().chars().count());
    let before = match ends {
        Ends::Both => room / 2 + (room & width & 1),
        Ends::Start => room,
        Ends::End => 0,
    };
    let fill = fill.to_string();
    let mut out = Builder::new(text.meter())?;
    out.repeat(&fill, before)?;
    out.push_text(text)?;
    out.repeat(&fill, room - before)?;
    Ok(out.finish())
}

/// With the characters of HTML written as entities.
pub(super) fn escape(text: &Text) -> Outcome<Text> {
    text.map(|c, push| match c {
        '&' => push("&amp;"),
        '<' => push("&lt;"),
        '>' => push("&gt;"),
        '\'' => push("&#39;"),
        '"' => push("&#34;"),
        c => push(c.encode_utf8(&mut [0; 4])),
    })
}

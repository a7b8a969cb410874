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

/// Parts between separators, or between runs of white space. `limit` splits at most; from the end if `reverse`.
pub(super) fn split(text: &Text, separator: Option<&Text>, limit: Option<usize>, reverse: bool) -> Outcome<Value> {
    let whole = text.as_str();
    let meter = text.meter();
    meter.copy(whole.len())?;
    let mut out = Items::new(meter)?;
    let mut push = |part: &str| out.push(Value::Text(text.part(part)?));
    match separator.map(Text::as_str) {
        Some("") => return Err(Fault::new("split: the separator is empty")),
        Some(separator) if reverse => {
            let count = whole.matches(separator).count();
            let skip = limit.map_or(0, |limit| count.saturating_sub(limit));
            let start = whole.match_indices(separator).nth(skip).map_or(whole.len(), |(at, _)| at);
            if skip == 0 {
                whole.split(separator).try_for_each(push)?;
            } else {
                push(&whole[..start])?;
                match whole.get(start + separator.len()..) {
                    Some(rest) if limit != Some(0) => rest.split(separator).try_for_each(push)?,
                    _ => {}
                }
            }
        }
        Some(separator) => match limit {
            Some(limit) => whole.splitn(limit.saturating_add(1), separator).try_for_each(push)?,
            None => whole.split(separator).try_for_each(push)?,
        },
        None if reverse => return Err(Fault::unsupported("rsplit needs a separator")),
        None => {
            let mut rest = whole.trim_start();
            let mut left = limit.unwrap_or(usize::MAX);
            while !rest.is_empty() {
                let end = if left == 0 { rest.len() } else { rest.find(char::is_whitespace).unwrap_or(rest.len()) };
                push(&rest[..end])?;
                rest = rest[end..].trim_start();
                left = left.saturating_sub(1);
            }
        }
    }
    out.list()
}

/// Lines without their ends, or with them.
pub(super) fn lines(text: &Text, keep_ends: bool) -> Outcome<Value> {
    let mut out = Items::new(text.meter())?;
    for line in text.as_str().split_inclusive('\n') {
        let bare = line.strip_suffix('\n').unwrap_or(line);
        let bare = bare.strip_suffix('\r').unwrap_or(bare);
        out.push(Value::Text(text.part(if keep_ends { line } else { bare })?))?;
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

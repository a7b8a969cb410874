//! `"%s" % x` and `"{}".format(x)`.

use std::rc::Rc;

use super::arguments::Arguments;
use super::display;
use super::meter::{Fault, Meter, Outcome};
use super::operators;
use super::strings::{self, Ends};
use super::text::{Builder, Text};
use super::value::Value;

/// How a value is written.
#[derive(Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: bool,
    zero: bool,
    comma: bool,
    width: usize,
    precision: Option<usize>,
    kind: char,
}

/// A number at the start of a format.
fn number(rest: &mut &str) -> Outcome<Option<usize>> {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let digits = &rest[..end];
    *rest = &rest[end..];
    match digits {
        "" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| Fault::new("format: a width is too large")),
    }
}

/// Writes a value by its spec.
fn write(value: &Value, spec: &Spec, out: &mut Builder, meter: &Rc<Meter>) -> Outcome<()> {
    let precision = spec.precision.map(|digits| digits.min(100));
    let float = || value.as_float().ok_or_else(|| Fault::new(format!("format: a {} is no number", value.kind())));
    let int = || match value {
        Value::Float(number) => Ok(number.trunc() as i128),
        other => other.as_int().ok_or_else(|| Fault::new(format!("format: a {} is no integer", other.kind()))),
    };
    let text = match spec.kind {
        'd' | 'i' | 'u' => int()?.to_string(),
        'x' => format!("{:x}", int()?),
        'X' => format!("{:X}", int()?),
        'o' => format!("{:o}", int()?),
        'b' => format!("{:b}", int()?),
        'f' | 'F' => format!("{:.*}", precision.unwrap_or(6), float()?),
        'e' => format!("{:.*e}", precision.unwrap_or(6), float()?),
        '%' => format!("{:.*}%", precision.unwrap_or(6), float()? * 100.0),
        's' | 'r' => {
            let text = match spec.kind {
                's' => display::text(value, meter)?,
                _ => {
                    let mut out = Builder::new(meter)?;
                    display::repr(value, &mut out)?;
                    out.finish()
                }
            };
            let end =
                spec.precision.and_then(|n| text.as_str().char_indices().nth(n)).map_or(text.as_str().len(), |p| p.0);
            let ends = align(spec, matches!(value, Value::Int(_) | Value::Float(_)));
            let padded = strings::pad(&text.slice(0..end)?, spec.width, spec.fill.unwrap_or(' '), ends)?;
            return out.push_text(&padded);
        }
        other => return Err(Fault::unsupported(format!("format: unknown kind {other:?}"))),
    };
    let (minus, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let sign = if minus.is_empty() && spec.sign { "+" } else { minus };
    let digits = if spec.comma { grouped(digits) } else { digits.to_owned() };
    if spec.zero && spec.align.is_none() {
        out.push_str(sign)?;
        out.repeat("0", spec.width.saturating_sub(sign.len() + digits.len()))?;
        return out.push_str(&digits);
    }
    let text = Text::new(&format!("{sign}{digits}"), meter)?;
    out.push_text(&strings::pad(&text, spec.width, spec.fill.unwrap_or(' '), align(spec, true))?)
}

fn align(spec: &Spec, right: bool) -> Ends {
    match spec.align {
        Some('<') => Ends::End,
        Some('^') => Ends::Both,
        Some(_) => Ends::Start,
        None if right => Ends::Start,
        None => Ends::End,
    }
}

fn grouped(digits: &str) -> String {
    let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// `format % values`.
pub(super) fn percent(format: &Text, values: &Value, meter: &Rc<Meter>) -> Outcome<Text> {
    let tuple = match values {
        Value::List(list) if list.tuple => Some(list),
        _ => None,
    };
    let mut next = 0;
    let mut out = Builder::new(meter)?;
    let mut rest = format.as_str();
    while let Some(at) = rest.find('%') {
        out.push_text(&format.part(&rest[..at])?)?;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push_str("%")?;
            rest = after;
            continue;
        }
        let key = match rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            Some((key, after)) => {
                rest = after;
                Some(Value::text(key, meter)?)
            }
            None => None,
        };
        let mut spec = Spec { align: Some('>'), ..Spec::default() };
        while let Some(flag) = rest.chars().next().filter(|c| "-+0 #".contains(*c)) {
            rest = &rest[1..];
            match flag {
                '-' => spec.align = Some('<'),
                '+' => spec.sign = true,
                '0' => (spec.zero, spec.align) = (true, None),
                _ => {}
            }
        }
        spec.width = number(&mut rest)?.unwrap_or(0);
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            spec.precision = Some(number(&mut rest)?.unwrap_or(0));
        }
        spec.kind = rest.chars().next().ok_or_else(|| Fault::new("format: it ends behind %"))?;
        rest = &rest[spec.kind.len_utf8()..];
        let value = match (&key, tuple) {
            (Some(key), _) => operators::item(values, key, meter)?,
            (None, Some(list)) => list.items.get(next).cloned().ok_or_else(|| Fault::new("format: too few values"))?,
            (None, None) if next == 0 => values.clone(),
            (None, None) => return Err(Fault::new("format: too few values")),
        };
        next += usize::from(key.is_none());
        write(&value, &spec, &mut out, meter)?;
    }
    if tuple.is_some_and(|list| list.items.len() > next) {
        return Err(Fault::new("format: too many values"));
    }
    out.push_text(&format.part(rest)?)?;
    Ok(out.finish())
}

/// `format.format(..)`.
pub(super) fn braces(format: &Text, arguments: &mut Arguments, meter: &Rc<Meter>) -> Outcome<Text> {
    let values = arguments.rest();
    let named = std::mem::take(&mut arguments.keywords);
    let mut next = 0;
    let mut out = Builder::new(meter)?;
    let mut rest = format.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        out.push_text(&format.part(&rest[..at])?)?;
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            out.push_str(brace)?;
            rest = after;
            continue;
        }
        let Some((field, after)) = rest.split_once('}').filter(|_| brace == "{") else {
            return Err(Fault::new("format: a single brace"));
        };
        rest = after;
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let value = match (name, name.parse::<usize>()) {
            ("", _) => {
                next += 1;
                values.get(next - 1)
            }
            (_, Ok(index)) => values.get(index),
            (name, _) => named.iter().find(|(found, _)| &**found == name).map(|(_, value)| value),
        };
        let value = value.ok_or_else(|| Fault::new("format: a value is missing"))?;
        write(value, &brace_spec(spec, value)?, &mut out, meter)?;
    }
    out.push_text(&format.part(rest)?)?;
    Ok(out.finish())
}

/// `[[fill]align][+][0][width][,][.precision][kind]`
fn brace_spec(mut rest: &str, value: &Value) -> Outcome<Spec> {
    let mut spec = Spec::default();
    let mut characters = rest.chars();
    let (first, second) = (characters.next(), characters.next());
    let aligns = |c: Option<char>| c.filter(|c| "<>^".contains(*c));
    if let (Some(fill), Some(align)) = (first, aligns(second)) {
        (spec.fill, spec.align) = (Some(fill), Some(align));
        rest = &rest[fill.len_utf8() + 1..];
    } else if let Some(align) = aligns(first) {
        spec.align = Some(align);
        rest = &rest[1..];
    }
    let mut flag = |sign: char| match rest.strip_prefix(sign) {
        Some(after) => {
            rest = after;
            true
        }
        None => false,
    };
    (spec.sign, spec.zero) = (flag('+'), flag('0'));
    spec.width = number(&mut rest)?.unwrap_or(0);
    if let Some(after) = rest.strip_prefix(',') {
        (spec.comma, rest) = (true, after);
    }
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        spec.precision = Some(number(&mut rest)?.unwrap_or(0));
    }
    let mut kinds = rest.chars();
    spec.kind = match (kinds.next(), value) {
        (Some(kind), _) => kind,
        (None, Value::Float(_)) if spec.precision.is_some() => 'f',
        (None, Value::Int(_)) => 'd',
        (None, _) => 's',
    };
    match kinds.next() {
        None => Ok(spec),
        Some(_) => Err(Fault::unsupported("format: an unknown format")),
    }
}

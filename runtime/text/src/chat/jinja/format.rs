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
    /// What is before a number that is not negative.
    sign: &'static str,
    zero: bool,
    /// What is between thousands.
    comma: Option<char>,
    /// `#`: numbers say their base.
    based: bool,
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
        'n' if !matches!(value, Value::Float(_)) => int()?.to_string(),
        'x' | 'X' | 'o' | 'b' => based(int()?, spec),
        'c' => match value {
            Value::Text(text) if text.as_str().chars().count() == 1 => return out.push_text(text),
            value => {
                let code = value.as_int().and_then(|code| char::from_u32(u32::try_from(code).ok()?));
                code.ok_or_else(|| Fault::new(format!("format: a {} is no character", value.kind())))?.to_string()
            }
        },
        'f' | 'F' => format!("{:.*}", precision.unwrap_or(6), float()?),
        'e' => exponential(float()?, precision.unwrap_or(6)),
        'E' => exponential(float()?, precision.unwrap_or(6)).to_uppercase(),
        'g' | 'n' => general(float()?, precision.unwrap_or(6)),
        'G' => general(float()?, precision.unwrap_or(6)).to_uppercase(),
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
    let sign = if minus.is_empty() && spec.kind != 'c' { spec.sign } else { minus };
    let digits = spec.comma.map_or_else(|| digits.to_owned(), |comma| grouped(digits, comma));
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

/// An integer in another base.
fn based(number: i128, spec: &Spec) -> String {
    let (sign, size) = (if number < 0 { "-" } else { "" }, number.unsigned_abs());
    let (prefix, digits) = match spec.kind {
        'x' => ("0x", format!("{size:x}")),
        'X' => ("0X", format!("{size:X}")),
        'o' => ("0o", format!("{size:o}")),
        _ => ("0b", format!("{size:b}")),
    };
    format!("{sign}{}{digits}", if spec.based { prefix } else { "" })
}

/// A number with an exponent of two digits or more, as C writes it.
fn exponential(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// A number of so many digits, with an exponent where that is shorter, as C's `%g` writes it.
fn general(number: f64, precision: usize) -> String {
    let precision = precision.max(1);
    let text = exponential(number, precision - 1);
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let trimmed = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    match exponent.parse::<i64>() {
        Ok(power) if power < -4 || power >= precision as i64 => format!("{}e{exponent}", trimmed(digits)),
        Ok(power) => trimmed(&format!("{number:.*}", (precision as i64 - 1 - power).max(0) as usize)),
        Err(_) => text,
    }
}

fn grouped(digits: &str, comma: char) -> String {
    let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(comma);
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
                '+' => spec.sign = "+",
                ' ' if spec.sign.is_empty() => spec.sign = " ",
                '#' => spec.based = true,
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
        let (name, conversion) = name.split_once('!').map_or((name, None), |(name, how)| (name, Some(how)));
        let value = match (name, name.parse::<usize>()) {
            ("", _) => {
                next += 1;
                values.get(next - 1)
            }
            (_, Ok(index)) => values.get(index),
            (name, _) => named.iter().find(|(found, _)| &**found == name).map(|(_, value)| value),
        };
        let value = value.ok_or_else(|| Fault::new("format: a value is missing"))?;
        let converted = match conversion {
            None => value.clone(),
            Some("s") => Value::Text(display::text(value, meter)?),
            Some("r") => {
                let mut out = Builder::new(meter)?;
                display::repr(value, &mut out)?;
                Value::Text(out.finish())
            }
            Some(_) => return Err(Fault::unsupported("format: an unknown conversion")),
        };
        write(&converted, &brace_spec(spec, &converted)?, &mut out, meter)?;
    }
    out.push_text(&format.part(rest)?)?;
    Ok(out.finish())
}

/// `[[fill]align][sign][#][0][width][grouping][.precision][kind]`
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
    if flag('+') {
        spec.sign = "+";
    } else if flag(' ') {
        spec.sign = " ";
    }
    (spec.based, spec.zero) = (flag('#'), flag('0'));
    spec.width = number(&mut rest)?.unwrap_or(0);
    if let Some(comma) = rest.chars().next().filter(|c| [',', '_'].contains(c)) {
        (spec.comma, rest) = (Some(comma), &rest[1..]);
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

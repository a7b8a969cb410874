//! Values as Python's `str` and `repr` write them.

use std::rc::Rc;

use super::meter::{Meter, Outcome};
use super::text::{Builder, Text};
use super::value::Value;

/// A value as text; texts are what they are.
pub(super) fn text(value: &Value, meter: &Rc<Meter>) -> Outcome<Text> {
    if let Value::Text(text) = value {
        return Ok(text.clone());
    }
    let mut out = Builder::new(meter)?;
    write(value, &mut out)?;
    Ok(out.finish())
}

/// Writes a value as `str` does.
pub(super) fn write(value: &Value, out: &mut Builder) -> Outcome<()> {
    match value {
        Value::Text(text) => out.push_text(text),
        Value::Undefined => Ok(()),
        other => repr(other, out),
    }
}

/// Writes a value as `repr` does. Lists end: their depth is limited.
pub(super) fn repr(value: &Value, out: &mut Builder) -> Outcome<()> {
    match value {
        Value::Undefined => out.push_str("Undefined"),
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Text(text) => quoted(text, out),
        Value::List(list) => {
            out.push_str(if list.tuple { "(" } else { "[" })?;
            for (i, item) in list.items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " })?;
                repr(item, out)?;
            }
            out.push_str(match (list.tuple, list.items.len()) {
                (true, 1) => ",)",
                (true, _) => ")",
                (false, _) => "]",
            })
        }
        Value::Map(map) => {
            out.push_str("{")?;
            for (i, (key, value)) in map.entries.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " })?;
                repr(key, out)?;
                out.push_str(": ")?;
                repr(value, out)?;
            }
            out.push_str("}")
        }
        Value::Turns(_) | Value::Namespace(_) | Value::Loop(_) | Value::Macro(_) | Value::Function(_) => {
            out.push_str(&format!("<{}>", value.kind()))
        }
    }
}

fn quoted(text: &Text, out: &mut Builder) -> Outcome<()> {
    let quote = if text.as_str().contains('\'') && !text.as_str().contains('"') { "\"" } else { "'" };
    out.push_str(quote)?;
    out.push_mapped(text, &mut |c, push| match c {
        '\n' => push("\\n"),
        '\r' => push("\\r"),
        '\t' => push("\\t"),
        '\\' => push("\\\\"),
        '\'' if quote == "'" => push("\\'"),
        c if (c as u32) < 0x100 && c.is_control() => push(&format!("\\x{:02x}", c as u32)),
        c => push(c.encode_utf8(&mut [0; 4])),
    })?;
    out.push_str(quote)
}

/// A float as Python writes it: the shortest digits, an exponent from 1e16 on and below 1e-4.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.into();
    }
    let size = number.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        return format!("{}{}", number, if number.fract() == 0.0 { ".0" } else { "" });
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

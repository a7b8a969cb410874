//! `tojson`, as Python's `json.dumps` writes it, and JSON to values.

use std::rc::Rc;

use super::arguments::Arguments;
use super::display;
use super::functions::untouched;
use super::meter::{Fault, Meter, Outcome};
use super::text::{Builder, Source, Text};
use super::value::{Items, Map, Value};

/// Deepest JSON that is read: all of it fits a value.
const DEPTH: usize = 60;

struct Style {
    indent: Option<String>,
    item: Text,
    key: Text,
    ascii: bool,
    sorted: bool,
}

/// The filter: nothing is escaped for HTML, and letters stay as they are unless `ensure_ascii` is set.
pub(super) fn dump(value: &Value, arguments: &mut Arguments, meter: &Rc<Meter>) -> Outcome<Text> {
    // In the order of Transformers' own filter.
    let ascii = arguments.optional("ensure_ascii").is_some_and(|flag| flag.is_true());
    let indent = match arguments.optional("indent") {
        None | Some(Value::None | Value::Undefined) => None,
        Some(Value::Text(text)) => {
            untouched(&text)?;
            Some(text.as_str().chars().take(16).collect())
        }
        Some(other) => {
            let width = other.as_int().ok_or_else(|| Fault::new("tojson: indent is no number"))?;
            Some(" ".repeat(width.clamp(0, 16) as usize))
        }
    };
    let item = Text::new(if indent.is_some() { "," } else { ", " }, meter)?;
    let mut style = Style { indent, item, key: Text::new(": ", meter)?, ascii, sorted: false };
    if let Some(Value::List(list)) = arguments.optional("separators") {
        let [Value::Text(item), Value::Text(key)] = &list.items[..] else {
            return Err(Fault::new("tojson: separators are two strings"));
        };
        (style.item, style.key) = (item.clone(), key.clone());
    }
    style.sorted = arguments.optional("sort_keys").is_some_and(|flag| flag.is_true());
    let mut out = Builder::new(meter)?;
    write(value, &style, 0, &mut out)?;
    Ok(out.finish())
}

fn line(style: &Style, depth: usize, out: &mut Builder) -> Outcome<()> {
    match &style.indent {
        Some(indent) => {
            out.push_str("\n")?;
            out.repeat(indent, depth)
        }
        None => Ok(()),
    }
}

fn write(value: &Value, style: &Style, depth: usize, out: &mut Builder) -> Outcome<()> {
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Int(_) => display::repr(value, out),
        Value::Float(number) if number.is_finite() => display::repr(value, out),
        Value::Float(number) if number.is_nan() => out.push_str("NaN"),
        Value::Float(number) => out.push_str(if *number > 0.0 { "Infinity" } else { "-Infinity" }),
        Value::Text(text) => string(text, style, out),
        Value::List(list) if list.items.is_empty() => out.push_str("[]"),
        Value::List(list) => {
            out.push_str("[")?;
            for (i, item) in list.items.iter().enumerate() {
                if i > 0 {
                    out.push_text(&style.item)?;
                }
                line(style, depth + 1, out)?;
                write(item, style, depth + 1, out)?;
            }
            line(style, depth, out)?;
            out.push_str("]")
        }
        Value::Map(map) if map.entries.is_empty() => out.push_str("{}"),
        Value::Map(map) => object(map, style, depth, out),
        other => Err(Fault::new(format!("tojson: a {} is no JSON", other.kind()))),
    }
}

fn object(map: &Map, style: &Style, depth: usize, out: &mut Builder) -> Outcome<()> {
    let meter = style.key.meter().clone();
    let _held = meter.hold(map.entries.len() * size_of::<usize>())?;
    let mut order: Vec<usize> = (0..map.entries.len()).collect();
    if style.sorted {
        let name = |at: &usize| match &map.entries[*at].0 {
            Value::Text(text) => text.as_str(),
            _ => "",
        };
        meter.step(order.len().saturating_mul(8))?;
        order.sort_by(|a, b| name(a).cmp(name(b)));
    }
    out.push_str("{")?;
    for (i, at) in order.into_iter().enumerate() {
        let (key, value) = &map.entries[at];
        if i > 0 {
            out.push_text(&style.item)?;
        }
        line(style, depth + 1, out)?;
        match key {
            Value::Text(text) => string(text, style, out)?,
            Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::None => {
                out.push_str("\"")?;
                write(key, style, depth, out)?;
                out.push_str("\"")?;
            }
            other => return Err(Fault::new(format!("tojson: a {} is no key", other.kind()))),
        }
        out.push_text(&style.key)?;
        write(value, style, depth + 1, out)?;
    }
    line(style, depth, out)?;
    out.push_str("}")
}

fn string(text: &Text, style: &Style, out: &mut Builder) -> Outcome<()> {
    out.push_str("\"")?;
    out.push_mapped(text, &mut |c, push| match c {
        '"' => push("\\\""),
        '\\' => push("\\\\"),
        '\n' => push("\\n"),
        '\r' => push("\\r"),
        '\t' => push("\\t"),
        '\u{8}' => push("\\b"),
        '\u{c}' => push("\\f"),
        c if c < ' ' => push(&format!("\\u{:04x}", c as u32)),
        c if style.ascii && !c.is_ascii() => {
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| push(&format!("\\u{unit:04x}")))
        }
        c => push(c.encode_utf8(&mut [0; 4])),
    })?;
    out.push_str("\"")
}

/// The value of a JSON document, whose texts come from `source`.
pub(super) fn load(json: &serde_json::Value, source: Option<Source>, meter: &Rc<Meter>) -> Outcome<Value> {
    load_at(json, source, 0, meter)
}

fn load_at(json: &serde_json::Value, source: Option<Source>, depth: usize, meter: &Rc<Meter>) -> Outcome<Value> {
    if depth > DEPTH {
        return Err(Fault::new(format!("JSON nested deeper than {DEPTH}")));
    }
    Ok(match json {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(i128::from(number)),
            (None, Some(number)) => Value::Int(i128::from(number)),
            _ => Value::Float(number.as_f64().unwrap_or(f64::INFINITY)),
        },
        serde_json::Value::String(text) => Value::Text(Text::from_source(text, source, meter)?),
        serde_json::Value::Array(list) => {
            let mut out = Items::new(meter)?;
            for item in list {
                out.push(load_at(item, source, depth + 1, meter)?)?;
            }
            out.list()?
        }
        serde_json::Value::Object(map) => {
            let mut out = Map::new(meter)?;
            for (key, value) in map {
                let key = Value::Text(Text::from_source(key, source, meter)?);
                out.insert(key, load_at(value, source, depth + 1, meter)?)?;
            }
            Value::Map(Rc::new(out))
        }
    })
}

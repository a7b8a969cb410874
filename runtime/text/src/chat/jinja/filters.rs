//! Filters of one value: strings, numbers, and what becomes what.

use std::sync::Arc;

use super::arguments::Arguments;
use super::display;
use super::meter::{Fault, Outcome};
use super::operators;
use super::run::Renderer;
use super::strings::{self, Ends};
use super::text::{Builder, Text};
use super::value::{Items, Value};
use super::{format, json, methods};

/// All filters: for `is filter`.
const NAMES: [&str; 54] = [
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "center",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "keys",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "values",
    "wordcount",
    "zip",
];

/// Whether a filter of this name exists.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

impl Renderer {
    /// `value|name(..)`.
    pub(super) fn filter(&mut self, name: &str, value: Value, mut arguments: Arguments) -> Outcome<Value> {
        arguments.charge(&value, &self.meter)?;
        let _level = self.meter.enter()?;
        let found = match self.text_filter(name, &value, &mut arguments)? {
            Some(text) => Some(Value::Text(text)),
            None => match self.value_filter(name, &value, &mut arguments)? {
                None => self.sequence_filter(name, &value, &mut arguments)?,
                found => found,
            },
        };
        let unknown = || {
            let name: String = name.chars().take(40).collect();
            Fault::unsupported(format!("unknown filter {name}"))
        };
        let result = found.ok_or_else(unknown)?;
        arguments.end()?;
        Ok(result)
    }

    /// Filters that make a string of a value.
    fn text_filter(&mut self, name: &str, value: &Value, arguments: &mut Arguments) -> Outcome<Option<Text>> {
        if matches!(name, "tojson") {
            return json::dump(value, arguments, &self.meter).map(Some);
        }
        let known = [
            "upper",
            "lower",
            "title",
            "capitalize",
            "trim",
            "replace",
            "indent",
            "escape",
            "e",
            "forceescape",
            "string",
            "safe",
            "center",
            "truncate",
            "format",
            "pprint",
        ];
        if !known.contains(&name) {
            return Ok(None);
        }
        let text = display::text(value, &self.meter)?;
        Ok(Some(match name {
            "upper" => strings::upper(&text)?,
            "lower" => strings::lower(&text)?,
            "title" => strings::title(&text)?,
            "capitalize" => strings::capitalize(&text)?,
            "trim" => strings::trim(&text, arguments.optional_text("chars")?.as_ref(), Ends::Both)?,
            "replace" => {
                let (old, new) = (self.plain(arguments, "old")?, self.plain(arguments, "new")?);
                let count = arguments.optional_int("count")?.and_then(|count| usize::try_from(count).ok());
                strings::replace(&text, &old, &new, count.unwrap_or(usize::MAX))?
            }
            "indent" => {
                let prefix = match arguments.optional("width") {
                    Some(Value::Text(prefix)) => prefix,
                    None => Text::new("    ", &self.meter)?,
                    Some(width) => {
                        let width = width.as_int().ok_or_else(|| Fault::new("indent: the width is no number"))?;
                        let mut out = Builder::new(&self.meter)?;
                        out.repeat(" ", usize::try_from(width.max(0)).unwrap_or(usize::MAX))?;
                        out.finish()
                    }
                };
                let first = arguments.flag("first", false);
                strings::indent(&text, &prefix, first, arguments.flag("blank", false))?
            }
            "escape" | "e" if text.is_safe() => text,
            "escape" | "e" | "forceescape" => strings::escape(&text)?.safe(),
            "safe" => text.safe(),
            "center" => strings::pad(&text, arguments.size("width", 80)?, ' ', Ends::Both)?,
            "truncate" => self.truncate(&text, arguments)?,
            "format" => self.format(&text, arguments)?,
            "pprint" => {
                let mut out = Builder::new(&self.meter)?;
                display::repr(value, &mut out)?;
                out.finish()
            }
            _ => text,
        }))
    }

    /// An argument as text, whatever it is.
    fn plain(&self, arguments: &mut Arguments, name: &str) -> Outcome<Text> {
        display::text(&arguments.required(name)?, &self.meter)
    }

    fn truncate(&self, text: &Text, arguments: &mut Arguments) -> Outcome<Text> {
        let length = arguments.size("length", 255)?;
        let kill_words = arguments.flag("killwords", false);
        let end = arguments.optional_text("end")?;
        let end = end.map_or_else(|| Text::new("...", &self.meter), Ok)?;
        let leeway = arguments.size("leeway", 5)?;
        // A text has no more characters than bytes.
        if text.as_str().len() <= length {
            return Ok(text.clone());
        }
        let byte = |at: usize| text.as_str().char_indices().nth(at).map(|(byte, _)| byte);
        if byte(length.saturating_add(leeway)).is_none() {
            return Ok(text.clone());
        }
        let kept = length.saturating_sub(end.as_str().chars().count());
        let cut = byte(kept).unwrap_or(text.as_str().len());
        let cut = if kill_words { cut } else { text.as_str()[..cut].rfind(' ').unwrap_or(cut) };
        let mut out = Builder::new(&self.meter)?;
        out.push_part(text, 0..cut)?;
        out.push_text(&end)?;
        Ok(out.finish())
    }

    fn format(&self, text: &Text, arguments: &mut Arguments) -> Outcome<Text> {
        let mut values = Items::new(&self.meter)?;
        values.extend(&arguments.rest())?;
        let named = std::mem::take(&mut arguments.keywords);
        if named.is_empty() {
            return format::percent(text, &values.tuple()?, &self.meter);
        }
        let mut map = super::value::Map::new(&self.meter)?;
        for (name, value) in named {
            map.insert(Value::text(&name, &self.meter)?, value)?;
        }
        format::percent(text, &Value::Map(map.into()), &self.meter)
    }

    /// Filters that make another value of one.
    fn value_filter(&mut self, name: &str, value: &Value, arguments: &mut Arguments) -> Outcome<Option<Value>> {
        let meter = self.meter.clone();
        Ok(Some(match name {
            "default" | "d" => {
                let default = arguments.optional("default_value");
                let empty_too = arguments.flag("boolean", false);
                let missing = matches!(value, Value::Undefined) || empty_too && !value.is_true();
                match (missing, default) {
                    (false, _) => value.clone(),
                    (true, Some(default)) => default,
                    (true, None) => Value::text("", &meter)?,
                }
            }
            "length" | "count" => match value {
                Value::Text(text) => {
                    meter.copy(text.as_str().len())?;
                    Value::Int(text.as_str().chars().count() as i128)
                }
                Value::List(list) => Value::Int(list.items.len() as i128),
                Value::Map(map) => Value::Int(map.entries.len() as i128),
                Value::Undefined => Value::Int(0),
                other => return Err(Fault::new(format!("a {} has no length", other.kind()))),
            },
            "bool" => Value::Bool(value.is_true()),
            "int" | "float" if matches!(value, Value::Undefined) => {
                return Err(Fault::new(format!("{name} of an undefined value")));
            }
            "int" => self.int(value, arguments)?,
            "float" => match (value.as_float(), value) {
                (Some(number), _) => Value::Float(number),
                (None, Value::Text(text))
                    if text.as_str().len() < 400 && text.as_str().trim().parse::<f64>().is_ok() =>
                {
                    Value::Float(text.as_str().trim().parse().unwrap_or(0.0))
                }
                _ => arguments.optional("default").unwrap_or(Value::Float(0.0)),
            },
            "abs" => match value {
                Value::Float(number) => Value::Float(number.abs()),
                other => {
                    let number = other.as_int().and_then(i128::checked_abs);
                    Value::Int(number.ok_or_else(|| Fault::new(format!("abs of a {}", other.kind())))?)
                }
            },
            "round" => self.round(value, arguments)?,
            "items" => match value {
                Value::Map(map) => methods::pairs(map, &meter)?,
                Value::Undefined => Items::new(&meter)?.list()?,
                other => return Err(Fault::new(format!("items of a {}", other.kind()))),
            },
            "keys" | "values" => methods::call(value, name, Arguments::new(name, &meter)?, &meter)?,
            "split" => {
                let text = display::text(value, &meter)?;
                let separator = arguments.optional_text("sep")?;
                let limit = arguments.optional_int("maxsplit")?.and_then(|limit| usize::try_from(limit).ok());
                strings::split(&text, separator.as_ref(), limit, false)?
            }
            "lines" => strings::lines(&display::text(value, &meter)?, false)?,
            "wordcount" => {
                let text = display::text(value, &meter)?;
                meter.copy(text.as_str().len())?;
                Value::Int(text.as_str().split_whitespace().count() as i128)
            }
            "attr" => {
                let name = arguments.required("name")?;
                operators::item(value, &name, &meter)?
            }
            _ => return Ok(None),
        }))
    }

    fn int(&self, value: &Value, arguments: &mut Arguments) -> Outcome<Value> {
        let default = arguments.optional("default").unwrap_or(Value::Int(0));
        let base = arguments.optional_int("base")?.unwrap_or(10);
        let parsed = match value {
            Value::Float(number) if number.is_finite() => Some(number.trunc() as i128),
            Value::Text(text) if text.as_str().len() < 400 => {
                let text = text.as_str().trim();
                let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base));
                let prefix = match base {
                    Some(16) => "0x",
                    Some(8) => "0o",
                    Some(2) => "0b",
                    _ => "",
                };
                let text = text.strip_prefix(prefix).unwrap_or(text);
                let whole = base.and_then(|base| i128::from_str_radix(text, base).ok());
                whole.or_else(|| text.parse().ok().filter(|x: &f64| x.is_finite()).map(|x| x.trunc() as i128))
            }
            other => other.as_int(),
        };
        Ok(parsed.map_or(default, Value::Int))
    }

    fn round(&self, value: &Value, arguments: &mut Arguments) -> Outcome<Value> {
        let digits = arguments.optional_int("precision")?.unwrap_or(0).clamp(-30, 30) as i32;
        let method = arguments.optional_text("method")?;
        let number = value.as_float().ok_or_else(|| Fault::new(format!("round of a {}", value.kind())))?;
        let scale = 10f64.powi(digits);
        let scaled = number * scale;
        let rounded = match method.as_ref().map(Text::as_str) {
            // By its exact digits, as Python does.
            None | Some("common") if digits >= 0 => {
                let text = format!("{number:.*}", digits as usize);
                return Ok(match value {
                    Value::Int(_) => value.clone(),
                    _ => Value::Float(text.parse().unwrap_or(number)),
                });
            }
            None | Some("common") => scaled.round_ties_even(),
            Some("ceil") => scaled.ceil(),
            Some("floor") => scaled.floor(),
            Some(_) => return Err(Fault::new("round: the method is common, ceil or floor")),
        };
        let rounded = rounded / scale;
        match (value, method) {
            // A whole number stays one.
            (Value::Int(_), None) if rounded.abs() < 1e18 => Ok(Value::Int(rounded as i128)),
            _ => Ok(Value::Float(rounded)),
        }
    }

    /// The value of an attribute path such as `a.b`, or of an index.
    pub(super) fn path(&self, value: &Value, path: &Value) -> Outcome<Value> {
        let Value::Text(path) = path else { return operators::item(value, path, &self.meter) };
        self.meter.copy(path.as_str().len())?;
        let mut value = value.clone();
        for name in path.as_str().split('.') {
            let key = match name.parse::<i64>() {
                Ok(index) => Value::Int(i128::from(index)),
                Err(_) => Value::text(name, &self.meter)?,
            };
            if matches!(value, Value::Undefined) {
                return Err(Fault::new("an attribute of an undefined value"));
            }
            value = operators::item(&value, &key, &self.meter)?;
        }
        Ok(value)
    }

    /// Arguments of a filter or test that is given by name to another filter.
    pub(super) fn passed_on(&self, name: &Arc<str>, values: &[Value]) -> Outcome<Arguments> {
        let mut out = Arguments::new(name, &self.meter)?;
        values.iter().try_for_each(|value| out.push(value.clone()))?;
        Ok(out)
    }
}

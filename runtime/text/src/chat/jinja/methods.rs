//! Python's methods of strings, dictionaries and lists.

use std::rc::Rc;

use super::arguments::Arguments;
use super::format;
use super::meter::{Fault, Meter, Outcome};
use super::strings::{self, Ends};
use super::text::Text;
use super::value::{Items, List, Map, Value};

/// Calls `value.name(..)`.
pub(super) fn call(value: &Value, name: &str, mut arguments: Arguments, meter: &Rc<Meter>) -> Outcome<Value> {
    meter.step(1)?;
    arguments.charge(value, meter)?;
    let result = match value {
        Value::Text(text) => text_method(text, name, &mut arguments, meter)?,
        Value::Map(map) => map_method(map, name, &mut arguments, meter)?,
        Value::List(list) => list_method(list, name, &mut arguments, meter)?,
        _ => None,
    };
    let unknown = || {
        let name: String = name.chars().take(40).collect();
        Fault::unsupported(format!("a {} has no method {name}", value.kind()))
    };
    let result = result.ok_or_else(unknown)?;
    arguments.end()?;
    Ok(result)
}

fn text_method(text: &Text, name: &str, arguments: &mut Arguments, meter: &Rc<Meter>) -> Outcome<Option<Value>> {
    let s = text.as_str();
    let all = |is: fn(char) -> bool| Value::Bool(!s.is_empty() && s.chars().all(is));
    let changed = match name {
        "strip" => strings::trim(text, arguments.optional_text("chars")?.as_ref(), Ends::Both)?,
        "lstrip" => strings::trim(text, arguments.optional_text("chars")?.as_ref(), Ends::Start)?,
        "rstrip" => strings::trim(text, arguments.optional_text("chars")?.as_ref(), Ends::End)?,
        "upper" => strings::upper(text)?,
        "lower" => strings::lower(text)?,
        "title" => strings::title_letters(text)?,
        "swapcase" => strings::swapcase(text)?,
        "capitalize" => strings::capitalize(text)?,
        "replace" => {
            let (old, new) = (arguments.text("old")?, arguments.text("new")?);
            let count = arguments.optional_int("count")?.and_then(|count| usize::try_from(count).ok());
            strings::replace(text, &old, &new, count.unwrap_or(usize::MAX))?
        }
        "removeprefix" => text.part(s.strip_prefix(arguments.text("prefix")?.as_str()).unwrap_or(s))?,
        "removesuffix" => text.part(s.strip_suffix(arguments.text("suffix")?.as_str()).unwrap_or(s))?,
        "center" | "ljust" | "rjust" | "zfill" => padded(text, name, arguments)?,
        "join" => strings::join(&arguments.required("values")?.items(meter)?.items, text, meter)?,
        "format" => format::braces(text, arguments, meter)?,
        _ => {
            return Ok(Some(match name {
                "split" | "rsplit" => {
                    let separator = arguments.optional_text("sep")?;
                    let limit = arguments.optional_int("maxsplit")?.and_then(|limit| usize::try_from(limit).ok());
                    strings::split(text, separator.as_ref(), limit, name == "rsplit")?
                }
                "splitlines" => strings::lines(text, arguments.flag("keepends", false))?,
                "partition" | "rpartition" => partition(text, name == "rpartition", arguments, meter)?,
                "startswith" | "endswith" => affix(text, name == "endswith", arguments)?,
                "find" | "rfind" | "index" | "rindex" => find(text, name, arguments)?,
                "count" => {
                    let part = arguments.text("sub")?;
                    let part = part.as_str();
                    Value::Int(if strings::can_have(s, part) { s.matches(part).count() as i128 } else { 0 })
                }
                "isdigit" | "isnumeric" | "isdecimal" => all(char::is_numeric),
                "isalpha" => all(char::is_alphabetic),
                "isalnum" => all(char::is_alphanumeric),
                "isspace" => all(char::is_whitespace),
                "isascii" => Value::Bool(s.is_ascii()),
                "istitle" => Value::Bool(strings::is_title(s)),
                "islower" => Value::Bool(strings::is_lower(s)),
                "isupper" => Value::Bool(strings::is_upper(s)),
                _ => return Ok(None),
            }));
        }
    };
    Ok(Some(Value::Text(changed)))
}

fn padded(text: &Text, name: &str, arguments: &mut Arguments) -> Outcome<Text> {
    let width = arguments.size("width", 0)?;
    if name == "zfill" {
        return strings::zero_filled(text, width);
    }
    let fill = arguments.optional_text("fillchar")?.and_then(|fill| fill.as_str().chars().next()).unwrap_or(' ');
    let ends = match name {
        "center" => Ends::Both,
        "ljust" => Ends::End,
        _ => Ends::Start,
    };
    strings::pad(text, width, fill, ends)
}

fn partition(text: &Text, last: bool, arguments: &mut Arguments, meter: &Rc<Meter>) -> Outcome<Value> {
    let separator = arguments.text("sep")?;
    let (s, separator) = (text.as_str(), separator.as_str());
    if separator.is_empty() {
        return Err(Fault::new("partition: the separator is empty"));
    }
    let at = place(s, separator, last);
    let (before, middle, after) = match at {
        Some(at) => (&s[..at], &s[at..at + separator.len()], &s[at + separator.len()..]),
        None if last => (&s[..0], &s[..0], s),
        None => (s, &s[s.len()..], &s[s.len()..]),
    };
    let mut out = Items::new(meter)?;
    for part in [before, middle, after] {
        out.push(Value::Text(text.part(part)?))?;
    }
    out.tuple()
}

/// Whether a text begins or ends with one of some others.
fn affix(text: &Text, end: bool, arguments: &mut Arguments) -> Outcome<Value> {
    let affix = arguments.required("prefix")?;
    let has = |affix: &Value| match affix {
        Value::Text(affix) if end => Ok(text.as_str().ends_with(affix.as_str())),
        Value::Text(affix) => Ok(text.as_str().starts_with(affix.as_str())),
        other => Err(Fault::new(format!("a string does not begin or end with a {}", other.kind()))),
    };
    let found = match &affix {
        Value::List(list) => {
            let mut found = false;
            for affix in &list.items {
                text.meter().step(1)?;
                found = found || has(affix)?;
            }
            found
        }
        other => has(other)?,
    };
    Ok(Value::Bool(found))
}

/// The first place of a part, or the last one.
fn place(text: &str, part: &str, last: bool) -> Option<usize> {
    if !strings::can_have(text, part) {
        return None;
    }
    if last { text.rfind(part) } else { text.find(part) }
}

/// Characters before a part.
fn find(text: &Text, name: &str, arguments: &mut Arguments) -> Outcome<Value> {
    let part = arguments.text("sub")?;
    let s = text.as_str();
    let at = place(s, part.as_str(), name.starts_with('r'));
    match at {
        Some(at) => Ok(Value::Int(s[..at].chars().count() as i128)),
        None if name.ends_with("find") => Ok(Value::Int(-1)),
        None => Err(Fault::new("index: the substring is not found")),
    }
}

/// The entries of a dictionary as tuples.
pub(super) fn pairs(map: &Map, meter: &Rc<Meter>) -> Outcome<Value> {
    let mut out = Items::new(meter)?;
    for (key, value) in &map.entries {
        let mut pair = Items::new(meter)?;
        pair.push(key.clone())?;
        pair.push(value.clone())?;
        out.push(pair.tuple()?)?;
    }
    out.list()
}

fn map_method(map: &Map, name: &str, arguments: &mut Arguments, meter: &Rc<Meter>) -> Outcome<Option<Value>> {
    let mut out = Items::new(meter)?;
    match name {
        "get" => {
            let key = arguments.required("key")?;
            let default = arguments.optional("default").unwrap_or(Value::None);
            return Ok(Some(map.get(&key)?.unwrap_or(default)));
        }
        "items" => return pairs(map, meter).map(Some),
        "keys" => map.entries.iter().try_for_each(|(key, _)| out.push(key.clone()))?,
        "values" => map.entries.iter().try_for_each(|(_, value)| out.push(value.clone()))?,
        _ => return Ok(None),
    }
    out.list().map(Some)
}

fn list_method(list: &List, name: &str, arguments: &mut Arguments, meter: &Rc<Meter>) -> Outcome<Option<Value>> {
    if !["count", "index"].contains(&name) {
        return Ok(None);
    }
    let value = arguments.required("value")?;
    let mut places = Vec::new();
    for (at, item) in list.items.iter().enumerate() {
        if item.equals(&value, meter)? {
            places.push(at);
            if name == "index" {
                break;
            }
        }
    }
    match (name, places.first()) {
        ("count", _) => Ok(Some(Value::Int(places.len() as i128))),
        (_, Some(at)) => Ok(Some(Value::Int(*at as i128))),
        (_, None) => Err(Fault::new("index: the value is not in the list")),
    }
}

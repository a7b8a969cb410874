//! Filters of lists.

use std::cmp::Ordering;
use std::sync::Arc;

use super::arguments::Arguments;
use super::meter::{Fault, Outcome};
use super::run::Renderer;
use super::strings;
use super::text::Text;
use super::value::{Items, Value};

impl Renderer {
    /// Filters of what can be iterated over.
    pub(super) fn sequence_filter(
        &mut self,
        name: &str,
        value: &Value,
        arguments: &mut Arguments,
    ) -> Outcome<Option<Value>> {
        let known = [
            "list",
            "first",
            "last",
            "reverse",
            "join",
            "sum",
            "min",
            "max",
            "sort",
            "dictsort",
            "unique",
            "batch",
            "slice",
            "map",
            "select",
            "reject",
            "selectattr",
            "rejectattr",
            "groupby",
            "chain",
            "zip",
        ];
        if !known.contains(&name) {
            return Ok(None);
        }
        // As in Jinja, these give nothing for a value that is false: no tools, say.
        let lenient = ["map", "select", "reject", "selectattr", "rejectattr"].contains(&name) && !value.is_true();
        let items = if lenient { Value::Undefined.items(&self.meter)? } else { value.items(&self.meter)? };
        let items = &items.items[..];
        let mut out = Items::new(&self.meter)?;
        match name {
            "list" => out.extend(items)?,
            "first" => return Ok(Some(items.first().cloned().unwrap_or_default())),
            "last" => return Ok(Some(items.last().cloned().unwrap_or_default())),
            "reverse" => {
                items.iter().rev().try_for_each(|item| out.push(item.clone()))?;
                let list = out.list()?;
                return match value {
                    Value::Text(_) => {
                        let empty = Text::new("", &self.meter)?;
                        let items = list.items(&self.meter)?;
                        Ok(Some(Value::Text(strings::join(&items.items, &empty, &self.meter)?)))
                    }
                    _ => Ok(Some(list)),
                };
            }
            "join" => return self.join(items, arguments).map(Some),
            "sum" => return self.sum(items, arguments).map(Some),
            "min" | "max" => return self.extreme(items, name == "max", arguments).map(Some),
            "sort" => self.sort(items, arguments, &mut out)?,
            "dictsort" => return self.dictsort(value, arguments).map(Some),
            "unique" => self.unique(items, arguments, &mut out)?,
            "batch" => self.batch(items, arguments, &mut out)?,
            "slice" => self.parts(items, arguments, &mut out)?,
            "map" => self.map(items, arguments, &mut out)?,
            "groupby" => self.group(items, arguments, &mut out)?,
            "chain" => {
                out.extend(items)?;
                for more in arguments.rest() {
                    out.extend(&more.items(&self.meter)?.items)?;
                }
            }
            "zip" => self.zip(items, arguments, &mut out)?,
            _ => self.choose(name, items, arguments, &mut out)?,
        }
        out.list().map(Some)
    }

    fn join(&self, items: &[Value], arguments: &mut Arguments) -> Outcome<Value> {
        let separator = match arguments.optional("d") {
            None | Some(Value::None | Value::Undefined) => Text::new("", &self.meter)?,
            Some(value) => super::display::text(&value, &self.meter)?,
        };
        let attribute = arguments.optional("attribute");
        let mut values = Items::new(&self.meter)?;
        for item in items {
            values.push(self.keyed(item, attribute.as_ref())?)?;
        }
        let values = values.list()?.items(&self.meter)?;
        strings::join(&values.items, &separator, &self.meter).map(Value::Text)
    }

    fn keyed(&self, item: &Value, attribute: Option<&Value>) -> Outcome<Value> {
        attribute.map_or_else(|| Ok(item.clone()), |attribute| self.path(item, attribute))
    }

    fn sum(&self, items: &[Value], arguments: &mut Arguments) -> Outcome<Value> {
        let attribute = arguments.optional("attribute");
        let mut total = arguments.optional("start").unwrap_or(Value::Int(0));
        for item in items {
            let item = self.keyed(item, attribute.as_ref())?;
            total = super::operators::binary(super::ast::Operator::Add, &total, &item, &self.meter)?;
        }
        Ok(total)
    }

    /// What a value is sorted by: small letters unless case matters.
    fn sort_key(&self, item: &Value, attribute: Option<&Value>, case: bool) -> Outcome<Value> {
        // Several attributes are compared in turn.
        if let Some(Value::Text(paths)) = attribute
            && paths.as_str().contains(',')
        {
            let mut keys = Items::new(&self.meter)?;
            for path in paths.as_str().split(',') {
                keys.push(self.sort_key(item, Some(&Value::text(path, &self.meter)?), case)?)?;
            }
            return keys.list();
        }
        match self.keyed(item, attribute)? {
            Value::Text(text) if !case => strings::lower(&text).map(Value::Text),
            other => Ok(other),
        }
    }

    fn extreme(&self, items: &[Value], largest: bool, arguments: &mut Arguments) -> Outcome<Value> {
        let case = arguments.flag("case_sensitive", false);
        let attribute = arguments.optional("attribute");
        let mut best: Option<(Value, &Value)> = None;
        for item in items {
            let key = self.sort_key(item, attribute.as_ref(), case)?;
            let wanted = if largest { Ordering::Greater } else { Ordering::Less };
            let better = match &best {
                None => true,
                Some((before, _)) => key.order(before, &self.meter)? == wanted,
            };
            if better {
                best = Some((key, item));
            }
        }
        Ok(best.map(|(_, item)| item.clone()).unwrap_or_default())
    }

    /// Places of keys in order, equal ones as they came. Values without an order are an error, so that no sort of the
    /// standard library can be told one thing and then another.
    fn order(&self, keys: &[Value], reverse: bool) -> Outcome<Vec<usize>> {
        let _held = self.meter.hold(2 * keys.len() * size_of::<usize>())?;
        let mut order: Vec<usize> = (0..keys.len()).collect();
        let mut merged = Vec::with_capacity(keys.len());
        let mut width = 1;
        while width < keys.len() {
            merged.clear();
            for pair in order.chunks(width * 2) {
                let (mut left, mut right) = pair.split_at(width.min(pair.len()));
                while let ([l, left_rest @ ..], [r, right_rest @ ..]) = (left, right) {
                    let order = keys[*r].order(&keys[*l], &self.meter)?;
                    let later_first = if reverse { order.is_gt() } else { order.is_lt() };
                    if later_first {
                        merged.push(*r);
                        right = right_rest;
                    } else {
                        merged.push(*l);
                        left = left_rest;
                    }
                }
                merged.extend(left.iter().chain(right));
            }
            std::mem::swap(&mut order, &mut merged);
            width *= 2;
        }
        Ok(order)
    }

    fn sort(&self, items: &[Value], arguments: &mut Arguments, out: &mut Items) -> Outcome<()> {
        let reverse = arguments.flag("reverse", false);
        let case = arguments.flag("case_sensitive", false);
        let attribute = arguments.optional("attribute");
        let mut keys = Items::new(&self.meter)?;
        for item in items {
            keys.push(self.sort_key(item, attribute.as_ref(), case)?)?;
        }
        let keys = keys.list()?.items(&self.meter)?;
        self.order(&keys.items, reverse)?.into_iter().try_for_each(|at| out.push(items[at].clone()))
    }

    fn dictsort(&self, value: &Value, arguments: &mut Arguments) -> Outcome<Value> {
        let Value::Map(map) = value else { return Err(Fault::new(format!("dictsort of a {}", value.kind()))) };
        let case = arguments.flag("case_sensitive", false);
        let by = arguments.optional_text("by")?;
        let by_value = by.is_some_and(|by| by.as_str() == "value");
        let reverse = arguments.flag("reverse", false);
        let mut keys = Items::new(&self.meter)?;
        for (key, value) in &map.entries {
            keys.push(self.sort_key(if by_value { value } else { key }, None, case)?)?;
        }
        let keys = keys.list()?.items(&self.meter)?;
        let pairs = super::methods::pairs(map, &self.meter)?.items(&self.meter)?;
        let mut out = Items::new(&self.meter)?;
        self.order(&keys.items, reverse)?.into_iter().try_for_each(|at| out.push(pairs.items[at].clone()))?;
        out.list()
    }

    fn unique(&self, items: &[Value], arguments: &mut Arguments, out: &mut Items) -> Outcome<()> {
        let case = arguments.flag("case_sensitive", false);
        let attribute = arguments.optional("attribute");
        let mut seen: Vec<Value> = Vec::new();
        let mut held = self.meter.hold(0)?;
        for item in items {
            let key = self.sort_key(item, attribute.as_ref(), case)?;
            let mut new = true;
            for before in &seen {
                new = new && !before.equals(&key, &self.meter)?;
            }
            if new {
                held.grow(2 * size_of::<Value>())?;
                seen.push(key);
                out.push(item.clone())?;
            }
        }
        Ok(())
    }

    fn batch(&self, items: &[Value], arguments: &mut Arguments, out: &mut Items) -> Outcome<()> {
        let size = arguments.size("linecount", 0)?;
        let fill = arguments.optional("fill_with");
        if size == 0 {
            return Err(Fault::new("batch of 0"));
        }
        for chunk in items.chunks(size) {
            let mut row = Items::new(&self.meter)?;
            row.extend(chunk)?;
            if let Some(fill) = &fill {
                (chunk.len()..size).try_for_each(|_| row.push(fill.clone()))?;
            }
            out.push(row.list()?)?;
        }
        Ok(())
    }

    /// `slice(n)`: n lists of nearly the same length.
    fn parts(&self, items: &[Value], arguments: &mut Arguments, out: &mut Items) -> Outcome<()> {
        let count = arguments.size("slices", 0)?;
        let fill = arguments.optional("fill_with");
        if count == 0 {
            return Err(Fault::new("slice into 0"));
        }
        let (each, more) = (items.len() / count, items.len() % count);
        let mut rest = items;
        for part in 0..count {
            let (now, later) = rest.split_at(each + usize::from(part < more));
            rest = later;
            let mut row = Items::new(&self.meter)?;
            row.extend(now)?;
            if let (Some(fill), true) = (&fill, more > 0 && part >= more) {
                row.push(fill.clone())?;
            }
            out.push(row.list()?)?;
        }
        Ok(())
    }

    fn map(&mut self, items: &[Value], arguments: &mut Arguments, out: &mut Items) -> Outcome<()> {
        if let Some(attribute) = arguments.named("attribute") {
            let default = arguments.named("default");
            for item in items {
                out.push(match (self.path(item, &attribute)?, &default) {
                    (Value::Undefined, Some(default)) => default.clone(),
                    (value, _) => value,
                })?;
            }
            return Ok(());
        }
        let name: Arc<str> = arguments.text("filter")?.as_str().into();
        let rest = arguments.rest();
        for item in items {
            let passed = self.passed_on(&name, &rest)?;
            out.push(self.filter(&name, item.clone(), passed)?)?;
        }
        Ok(())
    }

    /// `select`, `reject`, `selectattr`, `rejectattr`.
    fn choose(&mut self, filter: &str, items: &[Value], arguments: &mut Arguments, out: &mut Items) -> Outcome<()> {
        let attribute = if filter.ends_with("attr") { Some(arguments.required("attribute")?) } else { None };
        let test: Option<Arc<str>> = arguments.optional_text("test")?.map(|name| name.as_str().into());
        let rest = arguments.rest();
        for item in items {
            let value = self.keyed(item, attribute.as_ref())?;
            let holds = match &test {
                Some(name) => {
                    let passed = self.passed_on(name, &rest)?;
                    self.test(name, &value, passed)?
                }
                None => value.is_true(),
            };
            if holds == filter.starts_with("select") {
                out.push(item.clone())?;
            }
        }
        Ok(())
    }

    /// Tuples of a key and the list of the items that have it, in the order of the keys.
    fn group(&self, items: &[Value], arguments: &mut Arguments, out: &mut Items) -> Outcome<()> {
        let attribute = arguments.required("attribute")?;
        let mut keys = Items::new(&self.meter)?;
        for item in items {
            keys.push(self.path(item, &attribute)?)?;
        }
        let keys = keys.list()?.items(&self.meter)?;
        let order = self.order(&keys.items, false)?;
        let mut at = 0;
        while at < order.len() {
            let key = &keys.items[order[at]];
            let mut members = Items::new(&self.meter)?;
            while at < order.len() && key.equals(&keys.items[order[at]], &self.meter)? {
                members.push(items[order[at]].clone())?;
                at += 1;
            }
            let mut pair = Items::new(&self.meter)?;
            pair.push(key.clone())?;
            pair.push(members.list()?)?;
            out.push(pair.tuple()?)?;
        }
        Ok(())
    }

    fn zip(&self, items: &[Value], arguments: &mut Arguments, out: &mut Items) -> Outcome<()> {
        let mut others = Vec::new();
        for other in arguments.rest() {
            others.push(other.items(&self.meter)?);
        }
        let length = others.iter().map(|other| other.items.len()).min().unwrap_or(usize::MAX).min(items.len());
        for (at, item) in items.iter().enumerate().take(length) {
            let mut row = Items::new(&self.meter)?;
            row.push(item.clone())?;
            others.iter().try_for_each(|other| row.push(other.items[at].clone()))?;
            out.push(row.tuple()?)?;
        }
        Ok(())
    }
}

//! Operators, items and slices.

use std::rc::Rc;

use super::ast::{Comparison, Operator};
use super::meter::{Fault, Meter, Outcome};
use super::text::{Builder, Text};
use super::value::{Items, Value};
use super::{display, format, strings};

/// `left operator right`.
pub(super) fn binary(operator: Operator, left: &Value, right: &Value, meter: &Rc<Meter>) -> Outcome<Value> {
    match (operator, left, right) {
        (Operator::Concat, left, right) => {
            let mut out = Builder::new(meter)?;
            display::write(left, &mut out)?;
            display::write(right, &mut out)?;
            Ok(Value::Text(out.finish()))
        }
        (Operator::Add, Value::Text(left), Value::Text(right)) => {
            let safe = left.is_safe() || right.is_safe();
            let mut out = Builder::new(meter)?;
            for text in [left, right] {
                if safe && !text.is_safe() { out.push_text(&strings::escape(text)?)? } else { out.push_text(text)? }
            }
            let sum = out.finish();
            Ok(Value::Text(if safe { sum.safe() } else { sum }))
        }
        (Operator::Add, Value::List(left), Value::List(right)) => {
            let mut out = Items::new(meter)?;
            out.extend(&left.items)?;
            out.extend(&right.items)?;
            if left.tuple && right.tuple { out.tuple() } else { out.list() }
        }
        (Operator::Multiply, Value::Text(text), count) | (Operator::Multiply, count, Value::Text(text)) => {
            repeat_text(text, times(count)?, meter).map(Value::Text)
        }
        (Operator::Multiply, Value::List(list), count) | (Operator::Multiply, count, Value::List(list)) => {
            let mut out = Items::new(meter)?;
            let count = if list.items.is_empty() { 0 } else { times(count)? };
            (0..count).try_for_each(|_| out.extend(&list.items))?;
            if list.tuple { out.tuple() } else { out.list() }
        }
        (Operator::Remainder, Value::Text(format), values) => format::percent(format, values, meter).map(Value::Text),
        (operator, left, right) => arithmetic(operator, left, right),
    }
}

fn times(count: &Value) -> Outcome<usize> {
    let count = count.as_int().ok_or_else(|| Fault::new(format!("cannot repeat by a {}", count.kind())))?;
    Ok(usize::try_from(count.max(0)).unwrap_or(usize::MAX))
}

fn repeat_text(text: &Text, count: usize, meter: &Rc<Meter>) -> Outcome<Text> {
    let mut out = Builder::new(meter)?;
    if !text.as_str().is_empty() {
        out.reserve(text.as_str().len().saturating_mul(count))?;
        (0..count).try_for_each(|_| out.push_text(text))?;
    }
    Ok(out.finish())
}

fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Outcome<Value> {
    let number = |value: &Value| match value {
        Value::Float(_) => None,
        other => other.as_int(),
    };
    let overflow = || Fault::new("a number is too large");
    let zero = || Fault::new("division by zero");
    if let (Some(a), Some(b), false) = (number(left), number(right), operator == Operator::Divide) {
        let result = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::FloorDivide | Operator::Remainder if b == 0 => return Err(zero()),
            // Rounded down, as Python does; the remainder has the sign of the divisor.
            Operator::FloorDivide => a.checked_div(b).map(|q| q - i128::from(a % b != 0 && (a < 0) != (b < 0))),
            Operator::Remainder => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
            _ if b < 0 => return Ok(Value::Float((a as f64).powf(b as f64))),
            _ => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        };
        return result.map(Value::Int).ok_or_else(overflow);
    }
    let (Some(a), Some(b)) = (left.as_float(), right.as_float()) else {
        let sign = match operator {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::FloorDivide => "//",
            Operator::Remainder => "%",
            Operator::Power => "**",
            Operator::Concat => "~",
        };
        return Err(Fault::new(format!("{sign} is not for a {} and a {}", left.kind(), right.kind())));
    };
    Ok(Value::Float(match operator {
        Operator::Add | Operator::Concat => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Power => a.powf(b),
        _ if b == 0.0 => return Err(zero()),
        Operator::Divide => a / b,
        Operator::FloorDivide => (a / b).floor(),
        Operator::Remainder => a - b * (a / b).floor(),
    }))
}

/// `-value`.
pub(super) fn negate(value: &Value) -> Outcome<Value> {
    match value {
        Value::Float(number) => Ok(Value::Float(-number)),
        other => {
            let number = other.as_int().and_then(i128::checked_neg);
            number.map(Value::Int).ok_or_else(|| Fault::new(format!("- is not for a {}", other.kind())))
        }
    }
}

/// `left comparison right`.
pub(super) fn compare(comparison: Comparison, left: &Value, right: &Value, meter: &Rc<Meter>) -> Outcome<bool> {
    match comparison {
        Comparison::Equal => left.equals(right, meter),
        Comparison::NotEqual => Ok(!left.equals(right, meter)?),
        Comparison::In => contains(right, left, meter),
        Comparison::NotIn => Ok(!contains(right, left, meter)?),
        Comparison::Less => Ok(left.order(right, meter)?.is_lt()),
        Comparison::LessEqual => Ok(left.order(right, meter)?.is_le()),
        Comparison::Greater => Ok(left.order(right, meter)?.is_gt()),
        Comparison::GreaterEqual => Ok(left.order(right, meter)?.is_ge()),
    }
}

/// `item in container`.
pub(super) fn contains(container: &Value, item: &Value, meter: &Rc<Meter>) -> Outcome<bool> {
    match (container, item) {
        (Value::Text(text), Value::Text(part)) => {
            meter.copy(text.as_str().len())?;
            Ok(strings::can_have(text.as_str(), part.as_str()) && text.as_str().contains(part.as_str()))
        }
        (Value::List(list), item) => {
            for found in &list.items {
                if found.equals(item, meter)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Map(map), key) => Ok(map.get(key)?.is_some()),
        (Value::Namespace(space), Value::Text(name)) => Ok(space.get(name.as_str()).is_some()),
        (Value::Undefined, _) => Ok(false),
        (container, item) => Err(Fault::new(format!("a {} is not in a {}", item.kind(), container.kind()))),
    }
}

/// `value[key]`; undefined if there is none.
pub(super) fn item(value: &Value, key: &Value, meter: &Rc<Meter>) -> Outcome<Value> {
    let place = |length: usize| {
        let at = key.as_int()?;
        let at = if at < 0 { at.saturating_add(length as i128) } else { at };
        usize::try_from(at).ok().filter(|&at| at < length)
    };
    match value {
        Value::List(list) => Ok(place(list.items.len()).map_or(Value::Undefined, |at| list.items[at].clone())),
        Value::Map(map) => Ok(map.get(key)?.unwrap_or(Value::Undefined)),
        Value::Text(text) => {
            meter.copy(text.as_str().len())?;
            let count = text.as_str().chars().count();
            let found = place(count).and_then(|at| text.as_str().char_indices().nth(at));
            match found {
                Some((at, c)) => Ok(Value::Text(text.slice(at..at + c.len_utf8())?)),
                None => Ok(Value::Undefined),
            }
        }
        Value::Namespace(space) => match key {
            Value::Text(name) => Ok(space.get(name.as_str()).unwrap_or(Value::Undefined)),
            _ => Ok(Value::Undefined),
        },
        _ => Ok(Value::Undefined),
    }
}

/// `value[start:stop:step]`.
pub(super) fn slice(value: &Value, parts: &[Value; 3], meter: &Rc<Meter>) -> Outcome<Value> {
    let mut numbers = [None; 3];
    for (number, part) in numbers.iter_mut().zip(parts) {
        *number = match part {
            Value::None | Value::Undefined => None,
            part => Some(part.as_int().ok_or_else(|| Fault::new(format!("a slice by a {}", part.kind())))?),
        };
    }
    let step = numbers[2].unwrap_or(1);
    if step == 0 {
        return Err(Fault::new("a slice with step 0"));
    }
    // Longer steps than any list or text is long are all the same.
    let step = step.clamp(-i128::from(u64::MAX), i128::from(u64::MAX));
    match value {
        Value::Text(text) => {
            meter.copy(text.as_str().len())?;
            if step == 1 {
                let places = places(text.as_str().chars().count(), numbers[0], numbers[1], 1);
                let byte = |at: usize| text.as_str().char_indices().nth(at).map_or(text.as_str().len(), |(b, _)| b);
                let start = byte(places.first);
                let length: usize = text.as_str()[start..].chars().take(places.count).map(char::len_utf8).sum();
                return Ok(Value::Text(text.slice(start..start + length)?));
            }
            let characters = value.items(meter)?;
            let mut out = Builder::new(meter)?;
            for at in places(characters.items.len(), numbers[0], numbers[1], step).iter(step) {
                display::write(&characters.items[at], &mut out)?;
            }
            Ok(Value::Text(out.finish()))
        }
        Value::List(list) => {
            let mut out = Items::new(meter)?;
            for at in places(list.items.len(), numbers[0], numbers[1], step).iter(step) {
                out.push(list.items[at].clone())?;
            }
            if list.tuple { out.tuple() } else { out.list() }
        }
        Value::Undefined => Items::new(meter)?.list(),
        other => Err(Fault::new(format!("a {} cannot be sliced", other.kind()))),
    }
}

struct Places {
    first: usize,
    count: usize,
}

impl Places {
    fn iter(&self, step: i128) -> impl Iterator<Item = usize> + use<> {
        let first = self.first as i128;
        (0..self.count as i128).map(move |i| (first + i * step) as usize)
    }
}

/// The places of a slice, as Python chooses them.
fn places(length: usize, start: Option<i128>, stop: Option<i128>, step: i128) -> Places {
    let length = length as i128;
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let bound = |at: Option<i128>, default: i128| match at {
        None => default,
        Some(at) if at < 0 => at.saturating_add(length).max(lowest),
        Some(at) => at.min(highest),
    };
    let (start, stop) = match step > 0 {
        true => (bound(start, 0), bound(stop, length)),
        false => (bound(start, length - 1), bound(stop, -1)),
    };
    let distance = if step > 0 { stop - start } else { start - stop };
    let stride = step.unsigned_abs() as i128;
    let count = if distance > 0 { 1 + (distance - 1) / stride.max(1) } else { 0 };
    Places { first: usize::try_from(start).unwrap_or(0), count: usize::try_from(count).unwrap_or(0) }
}

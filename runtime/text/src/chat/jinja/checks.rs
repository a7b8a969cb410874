//! Tests: what follows `is`.

use super::arguments::Arguments;
use super::ast::Comparison;
use super::filters;
use super::meter::{Fault, Outcome};
use super::operators::{compare, contains};
use super::run::Renderer;
use super::strings;
use super::value::Value;

/// All tests: for `is test`.
const NAMES: [&str; 38] = [
    "boolean",
    "callable",
    "containing",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "int",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
    "==",
];

impl Renderer {
    /// Whether `value is name(..)`.
    pub(super) fn test(&mut self, name: &str, value: &Value, mut arguments: Arguments) -> Outcome<bool> {
        self.meter.step(1)?;
        arguments.charge(value, &self.meter)?;
        let holds = match self.kind_test(name, value) {
            Some(holds) => holds,
            None => self.argument_test(name, value, &mut arguments)?,
        };
        arguments.end()?;
        Ok(holds)
    }

    /// Tests without arguments.
    fn kind_test(&self, name: &str, value: &Value) -> Option<bool> {
        let text = |holds: fn(&str) -> bool| matches!(value, Value::Text(text) if holds(text.as_str()));
        Some(match name {
            "defined" => !matches!(value, Value::Undefined),
            "undefined" => matches!(value, Value::Undefined),
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "integer" | "int" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
            "string" => matches!(value, Value::Text(_)),
            "mapping" => matches!(value, Value::Map(_)),
            "iterable" => matches!(value, Value::List(_) | Value::Map(_) | Value::Text(_) | Value::Undefined),
            // As in Python, strings and dictionaries have a length and items.
            "sequence" => matches!(value, Value::List(_) | Value::Map(_) | Value::Text(_) | Value::Undefined),
            "callable" => matches!(value, Value::Macro(_) | Value::Function(_)),
            "odd" => value.as_int().is_some_and(|number| number % 2 != 0),
            "even" => value.as_int().is_some_and(|number| number % 2 == 0),
            "lower" => text(strings::is_lower),
            "upper" => text(strings::is_upper),
            "escaped" => matches!(value, Value::Text(text) if text.is_safe()),
            "filter" => text(filters::exists),
            "test" => text(|name| NAMES.contains(&name)),
            _ => return None,
        })
    }

    fn argument_test(&mut self, name: &str, value: &Value, arguments: &mut Arguments) -> Outcome<bool> {
        let comparison = match name {
            "eq" | "equalto" | "==" | "sameas" => Comparison::Equal,
            "ne" | "!=" => Comparison::NotEqual,
            "lt" | "lessthan" | "<" => Comparison::Less,
            "le" | "<=" => Comparison::LessEqual,
            "gt" | "greaterthan" | ">" => Comparison::Greater,
            "ge" | ">=" => Comparison::GreaterEqual,
            "in" => Comparison::In,
            "containing" => return contains(value, &arguments.required("value")?, &self.meter),
            "divisibleby" => {
                let divisor = arguments.optional_int("num")?.unwrap_or(0);
                let number = value.as_int().filter(|_| divisor != 0);
                let number = number.ok_or_else(|| Fault::new("divisibleby needs whole numbers"))?;
                return Ok(number.checked_rem(divisor).is_none_or(|rest| rest == 0));
            }
            "startingwith" | "endingwith" => {
                let affix = arguments.text("other")?;
                let Value::Text(text) = value else { return Ok(false) };
                return Ok(match name {
                    "startingwith" => text.as_str().starts_with(affix.as_str()),
                    _ => text.as_str().ends_with(affix.as_str()),
                });
            }
            _ => {
                let name: String = name.chars().take(40).collect();
                return Err(Fault::unsupported(format!("unknown test {name}")));
            }
        };
        let other = arguments.required("other")?;
        if name == "sameas" && std::mem::discriminant(value) != std::mem::discriminant(&other) {
            return Ok(false);
        }
        compare(comparison, value, &other, &self.meter)
    }
}

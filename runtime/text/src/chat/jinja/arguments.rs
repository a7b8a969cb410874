//! Arguments of calls, filters and tests.

use std::rc::Rc;
use std::sync::Arc;

use super::meter::{Fault, Held, Meter, Outcome};
use super::text::Text;
use super::value::Value;

/// What is passed to `name`.
pub(super) struct Arguments {
    name: String,
    pub(super) positional: Vec<Value>,
    pub(super) keywords: Vec<(Arc<str>, Value)>,
    next: usize,
    held: Held,
}

impl Arguments {
    /// None, for what is called `name` in messages.
    pub(super) fn new(name: &str, meter: &Rc<Meter>) -> Outcome<Arguments> {
        let name = name.chars().take(40).collect();
        Ok(Arguments { name, positional: Vec::new(), keywords: Vec::new(), next: 0, held: meter.hold(64)? })
    }

    /// Adds a positional argument.
    pub(super) fn push(&mut self, value: Value) -> Outcome<()> {
        self.held.grow(2 * size_of::<Value>())?;
        self.positional.push(value);
        Ok(())
    }

    /// Adds a named argument.
    pub(super) fn push_named(&mut self, name: Arc<str>, value: Value) -> Outcome<()> {
        self.held.grow(name.len() + 2 * size_of::<(Arc<str>, Value)>())?;
        self.keywords.push((name, value));
        Ok(())
    }

    /// Takes the steps of reading `subject` and all of these: whoever gets them may look at every byte.
    pub(super) fn charge(&self, subject: &Value, meter: &Meter) -> Outcome<()> {
        let named = self.keywords.iter().map(|(_, value)| value);
        for value in self.positional.iter().chain(named).chain([subject]) {
            if let Value::Text(text) = value {
                meter.copy(text.as_str().len())?;
            }
        }
        Ok(())
    }

    fn fault(&self, problem: std::fmt::Arguments<'_>) -> Fault {
        Fault::new(format!("{}: {problem}", self.name))
    }

    /// The next positional argument, or the one of that name.
    pub(super) fn optional(&mut self, name: &str) -> Option<Value> {
        let positional = self.positional.get_mut(self.next).map(std::mem::take);
        self.next += 1;
        positional.or_else(|| self.named(name))
    }

    /// The argument of that name.
    pub(super) fn named(&mut self, name: &str) -> Option<Value> {
        let at = self.keywords.iter().position(|(found, _)| &**found == name)?;
        Some(self.keywords.swap_remove(at).1)
    }

    /// An argument that must be there.
    pub(super) fn required(&mut self, name: &str) -> Outcome<Value> {
        self.optional(name).ok_or_else(|| self.fault(format_args!("the argument {name} is missing")))
    }

    /// A text that must be there.
    pub(super) fn text(&mut self, name: &str) -> Outcome<Text> {
        match self.required(name)? {
            Value::Text(text) => Ok(text),
            other => Err(self.fault(format_args!("{name} is a {}, not a string", other.kind()))),
        }
    }

    /// A text, or none.
    pub(super) fn optional_text(&mut self, name: &str) -> Outcome<Option<Text>> {
        match self.optional(name) {
            None | Some(Value::None | Value::Undefined) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.fault(format_args!("{name} is a {}, not a string", other.kind()))),
        }
    }

    /// An integer, or none.
    pub(super) fn optional_int(&mut self, name: &str) -> Outcome<Option<i128>> {
        match self.optional(name) {
            None | Some(Value::None | Value::Undefined) => Ok(None),
            Some(other) => match other.as_int() {
                Some(number) => Ok(Some(number)),
                None => Err(self.fault(format_args!("{name} is a {}, not an integer", other.kind()))),
            },
        }
    }

    /// A size, or a default; less than none is none.
    pub(super) fn size(&mut self, name: &str, default: usize) -> Outcome<usize> {
        let number = self.optional_int(name)?;
        Ok(number.map_or(default, |number| usize::try_from(number.max(0)).unwrap_or(usize::MAX)))
    }

    /// Whether a flag is set.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        self.optional(name).map_or(default, |value| value.is_true())
    }

    /// The positional arguments that were not taken yet.
    pub(super) fn rest(&mut self) -> Vec<Value> {
        let rest = self.positional.split_off(self.next.min(self.positional.len()));
        self.next = self.positional.len();
        rest
    }

    /// Refuses arguments that were not asked for.
    pub(super) fn end(&self) -> Outcome<()> {
        if self.positional.len() > self.next {
            return Err(self.fault(format_args!("too many arguments")));
        }
        match self.keywords.first() {
            Some((name, _)) => {
                let name: String = name.chars().take(40).collect();
                Err(self.fault(format_args!("unknown argument {name}")))
            }
            None => Ok(()),
        }
    }
}

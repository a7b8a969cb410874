//! Functions that templates call: Jinja's, and what Transformers adds.

use std::rc::Rc;

use super::super::now;
use super::arguments::Arguments;
use super::dates::strftime;
use super::display;
use super::meter::{Fault, Outcome};
use super::run::Renderer;
use super::text::Text;
use super::value::{Items, Map, Namespace, Value};

/// What can be called by name.
pub(super) const NAMES: [&str; 5] = ["range", "namespace", "dict", "raise_exception", "strftime_now"];
/// Most numbers of a range.
const RANGE: u128 = 100_000;
/// Longest format of a date.
const FORMAT: usize = 1000;

impl Renderer {
    /// `name(..)`.
    pub(super) fn function(&mut self, name: &str, mut arguments: Arguments) -> Outcome<Value> {
        let result = match name {
            "range" => self.range(&mut arguments)?,
            "namespace" => self.namespace(&mut arguments)?,
            "dict" => {
                let mut out = Map::new(&self.meter)?;
                match arguments.optional("") {
                    Some(Value::Map(map)) => {
                        map.entries.iter().try_for_each(|(key, value)| out.insert(key.clone(), value.clone()))?;
                    }
                    Some(pairs @ Value::List(_)) => {
                        for pair in &pairs.items(&self.meter)?.items {
                            let pair = pair.items(&self.meter)?;
                            let [key, value] = &pair.items[..] else {
                                return Err(Fault::new("dict of a list whose items are no pairs"));
                            };
                            out.insert(key.clone(), value.clone())?;
                        }
                    }
                    Some(other) => return Err(Fault::new(format!("dict of a {}", other.kind()))),
                    None => {}
                }
                for (name, value) in std::mem::take(&mut arguments.keywords) {
                    out.insert(Value::text(&name, &self.meter)?, value)?;
                }
                Value::Map(Rc::new(out))
            }
            "raise_exception" => {
                let message = display::text(&arguments.required("message")?, &self.meter)?;
                return Err(Fault::new(message.as_str().chars().take(1000).collect::<String>()));
            }
            _ => {
                let format = arguments.text("format")?;
                if format.as_str().len() > FORMAT {
                    return Err(Fault::new(format!("strftime_now: a format of more than {FORMAT} bytes")));
                }
                untouched(&format)?;
                let seconds = self.clock.unwrap_or_else(now);
                Value::text(&strftime(format.as_str(), seconds), &self.meter)?
            }
        };
        arguments.end()?;
        Ok(result)
    }

    fn range(&self, arguments: &mut Arguments) -> Outcome<Value> {
        let mut numbers = Vec::new();
        while let Some(number) = arguments.optional_int("stop")? {
            numbers.push(number);
        }
        let (start, stop, step) = match numbers[..] {
            [stop] => (0, stop, 1),
            [start, stop] => (start, stop, 1),
            [start, stop, step] if step != 0 => (start, stop, step),
            _ => return Err(Fault::new("range takes up to three numbers, the third one not 0")),
        };
        let distance = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
        let count = if distance > 0 { distance.unsigned_abs().div_ceil(step.unsigned_abs()) } else { 0 };
        if count > RANGE {
            return Err(Fault::new(format!("range has too many elements: {count}, the limit is {RANGE}")));
        }
        let mut out = Items::new(&self.meter)?;
        (0..count as i128).try_for_each(|i| out.push(Value::Int(start.saturating_add(i.saturating_mul(step)))))?;
        out.list()
    }

    fn namespace(&mut self, arguments: &mut Arguments) -> Outcome<Value> {
        let namespace = Rc::new(Namespace::new(&self.meter)?);
        self.namespaces.push(namespace.clone());
        match arguments.optional("") {
            Some(Value::Map(map)) => {
                for (key, value) in &map.entries {
                    namespace.set(display::text(key, &self.meter)?.as_str().into(), value.clone())?;
                }
            }
            Some(other) => return Err(Fault::new(format!("namespace of a {}", other.kind()))),
            None => {}
        }
        std::mem::take(&mut arguments.keywords).into_iter().try_for_each(|(name, value)| namespace.set(name, value))?;
        Ok(Value::Namespace(namespace))
    }
}

/// Refuses a text with parts that a message said, where they would lose what tells them from the template's own: a
/// control token in them would become one.
pub(super) fn untouched(text: &Text) -> Outcome<()> {
    if text.pieces().is_empty() {
        return Ok(());
    }
    Err(Fault::new("a message's words cannot be a name or a format"))
}

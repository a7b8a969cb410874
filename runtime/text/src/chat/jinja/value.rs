//! Values of a rendering: Python's, as far as templates use them.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

use super::ast;
use super::meter::{Fault, Held, Meter, Outcome};
use super::text::Text;
use super::turns::Turns;

/// Deepest list in a list.
const DEPTH: u16 = 64;

/// A value. Copies share what it holds; all but namespaces never change.
#[derive(Clone, Default)]
pub(super) enum Value {
    #[default]
    Undefined,
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text),
    List(Rc<List>),
    /// Only in variables; whatever evaluates one gets a list.
    Turns(Rc<Turns>),
    Map(Rc<Map>),
    Namespace(Rc<Namespace>),
    Loop(Rc<Loop>),
    Macro(Rc<Macro>),
    /// A function of the engine, by name.
    Function(Arc<str>),
}

/// A list or a tuple.
pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) tuple: bool,
    depth: u16,
    _held: Held,
}

/// A dictionary in the order of insertion.
pub(super) struct Map {
    pub(super) entries: Vec<(Value, Value)>,
    depth: u16,
    held: Held,
}

/// `namespace(..)`: what can be assigned to.
pub(super) struct Namespace {
    entries: RefCell<Vec<(Arc<str>, Value)>>,
    held: RefCell<Held>,
}

/// The variable `loop`.
pub(super) struct Loop {
    pub(super) items: Rc<List>,
    /// What the items are, if it is open how many there are.
    pub(super) turns: Option<Rc<Turns>>,
    pub(super) index: Cell<usize>,
    /// From 0.
    pub(super) depth: usize,
    /// What `loop.changed` saw last, as `repr` writes it: a value could hold the loop itself.
    pub(super) seen: RefCell<Option<Text>>,
    pub(super) statement: Arc<ast::For>,
}

/// A macro with the variables around it.
pub(super) struct Macro {
    pub(super) code: Arc<ast::Macro>,
    pub(super) captured: Vec<(Arc<str>, Value)>,
    depth: u16,
    _held: Held,
}

fn depth_of(value: &Value) -> u16 {
    match value {
        Value::List(list) => list.depth,
        Value::Map(map) => map.depth,
        Value::Loop(state) => state.items.depth,
        Value::Macro(found) => found.depth,
        _ => 0,
    }
}

fn deeper(depth: u16) -> Outcome<u16> {
    if depth < DEPTH { Ok(depth + 1) } else { Err(Fault::new(format!("lists nested deeper than {DEPTH}"))) }
}

/// Collects values, counting before it allocates.
pub(super) struct Items {
    items: Vec<Value>,
    held: Held,
}

impl Items {
    /// An empty collection.
    pub(super) fn new(meter: &Rc<Meter>) -> Outcome<Items> {
        Ok(Items { items: Vec::new(), held: meter.hold(96)? })
    }

    /// Adds a value.
    pub(super) fn push(&mut self, value: Value) -> Outcome<()> {
        self.held.meter().step(1)?;
        if self.items.len() == self.items.capacity() {
            let more = self.items.len().max(2);
            self.held.grow(more * size_of::<Value>())?;
            self.items.reserve_exact(more);
        }
        self.items.push(value);
        Ok(())
    }

    /// Adds values.
    pub(super) fn extend(&mut self, values: &[Value]) -> Outcome<()> {
        values.iter().try_for_each(|value| self.push(value.clone()))
    }

    fn finish(self, tuple: bool) -> Outcome<Value> {
        let depth = deeper(self.items.iter().map(depth_of).max().unwrap_or(0))?;
        Ok(Value::List(Rc::new(List { items: self.items, tuple, depth, _held: self.held })))
    }

    /// The list.
    pub(super) fn list(self) -> Outcome<Value> {
        self.finish(false)
    }

    /// The tuple.
    pub(super) fn tuple(self) -> Outcome<Value> {
        self.finish(true)
    }
}

impl Map {
    /// An empty dictionary.
    pub(super) fn new(meter: &Rc<Meter>) -> Outcome<Map> {
        Ok(Map { entries: Vec::new(), depth: 1, held: meter.hold(96)? })
    }

    /// Where a key is.
    fn position(&self, key: &Value) -> Outcome<Option<usize>> {
        self.held.meter().step(1 + self.entries.len() / 8)?;
        for (at, (found, _)) in self.entries.iter().enumerate() {
            if found.equals(key, self.held.meter())? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &Value) -> Outcome<Option<Value>> {
        Ok(self.position(key)?.map(|at| self.entries[at].1.clone()))
    }

    /// The value of a name.
    pub(super) fn get_str(&self, key: &str) -> Outcome<Option<Value>> {
        self.held.meter().step(self.entries.len() / 8)?;
        self.held.meter().copy(key.len().saturating_mul(self.entries.len()))?;
        let is = |name: &Value| matches!(name, Value::Text(text) if text.as_str() == key);
        Ok(self.entries.iter().find(|(name, _)| is(name)).map(|(_, value)| value.clone()))
    }

    /// Sets the value of a key.
    pub(super) fn insert(&mut self, key: Value, value: Value) -> Outcome<()> {
        if matches!(key, Value::List(ref list) if !list.tuple) || matches!(key, Value::Map(_)) {
            return Err(Fault::new(format!("a {} cannot be a key", key.kind())));
        }
        self.depth = self.depth.max(deeper(depth_of(&value).max(depth_of(&key)))?);
        match self.position(&key)? {
            Some(at) => self.entries[at].1 = value,
            None => {
                if self.entries.len() == self.entries.capacity() {
                    let more = self.entries.len().max(2);
                    self.held.grow(more * size_of::<(Value, Value)>())?;
                    self.entries.reserve_exact(more);
                }
                self.entries.push((key, value));
            }
        }
        Ok(())
    }
}

impl Macro {
    /// A macro with copies of variables.
    pub(super) fn new(code: Arc<ast::Macro>, captured: Vec<(Arc<str>, Value)>, meter: &Rc<Meter>) -> Outcome<Macro> {
        let depth = deeper(captured.iter().map(|(_, value)| depth_of(value)).max().unwrap_or(0))?;
        let _held = meter.hold(96 + captured.len() * size_of::<(Arc<str>, Value)>())?;
        Ok(Macro { code, captured, depth, _held })
    }
}

impl Namespace {
    /// An empty namespace.
    pub(super) fn new(meter: &Rc<Meter>) -> Outcome<Namespace> {
        Ok(Namespace { entries: RefCell::default(), held: RefCell::new(meter.hold(160)?) })
    }

    /// The value of an attribute.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        self.entries.borrow().iter().find(|(found, _)| &**found == name).map(|(_, value)| value.clone())
    }

    /// Sets an attribute.
    pub(super) fn set(&self, name: Arc<str>, value: Value) -> Outcome<()> {
        let mut held = self.held.borrow_mut();
        let mut entries = self.entries.borrow_mut();
        held.meter().step(1 + entries.len() / 8)?;
        // What was there is dropped after the borrows.
        let _before = match entries.iter_mut().find(|(found, _)| *found == name) {
            Some((_, slot)) => std::mem::replace(slot, value),
            None => {
                held.grow(2 * size_of::<(Arc<str>, Value)>())?;
                entries.push((name, value));
                Value::None
            }
        };
        drop((entries, held));
        Ok(())
    }

    /// All attributes.
    pub(super) fn entries(&self) -> Vec<(Arc<str>, Value)> {
        self.entries.borrow().clone()
    }

    /// Sets all attributes to what they were.
    pub(super) fn restore(&self, entries: Vec<(Arc<str>, Value)>) {
        let now = self.entries.replace(entries);
        drop(now);
    }

    /// Forgets everything: namespaces may hold each other.
    pub(super) fn clear(&self) {
        let entries = std::mem::take(&mut *self.entries.borrow_mut());
        drop(entries);
    }
}

impl Value {
    /// A text.
    pub(super) fn text(text: &str, meter: &Rc<Meter>) -> Outcome<Value> {
        Text::new(text, meter).map(Value::Text)
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Undefined => "undefined value",
            Value::None => "none",
            Value::Bool(_) => "boolean",
            Value::Int(_) | Value::Float(_) => "number",
            Value::Text(_) => "string",
            Value::List(list) if list.tuple => "tuple",
            Value::List(_) | Value::Turns(_) => "list",
            Value::Map(_) => "dictionary",
            Value::Namespace(_) => "namespace",
            Value::Loop(_) => "loop",
            Value::Macro(_) => "macro",
            Value::Function(_) => "function",
        }
    }

    /// Whether a condition with it holds.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined | Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.as_str().is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Map(map) => !map.entries.is_empty(),
            _ => true,
        }
    }

    /// The integer that it is; booleans are 0 and 1.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Bool(value) => Some(i128::from(*value)),
            Value::Float(value) if value.fract() == 0.0 && value.abs() < 1e18 => Some(*value as i128),
            _ => None,
        }
    }

    /// The number that it is.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            other => other.as_int().map(|value| value as f64),
        }
    }

    /// Python's `==`.
    pub(super) fn equals(&self, other: &Value, meter: &Rc<Meter>) -> Outcome<bool> {
        meter.step(1)?;
        Ok(match (self, other) {
            (Value::Undefined, Value::Undefined) | (Value::None, Value::None) => true,
            (Value::Text(a), Value::Text(b)) => {
                meter.copy(a.as_str().len().min(b.as_str().len()))?;
                a.as_str() == b.as_str()
            }
            (Value::List(a), Value::List(b)) => {
                let mut equal = a.tuple == b.tuple && a.items.len() == b.items.len();
                for (a, b) in a.items.iter().zip(&b.items) {
                    equal = equal && a.equals(b, meter)?;
                }
                equal
            }
            (Value::Map(a), Value::Map(b)) => {
                let mut equal = a.entries.len() == b.entries.len();
                for (key, a) in &a.entries {
                    equal = equal && b.get(key)?.map_or(Ok(false), |b| a.equals(&b, meter))?;
                }
                equal
            }
            (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
            (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
            (Value::Function(a), Value::Function(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (a, b) => matches!((a.as_float(), b.as_float()), (Some(a), Some(b)) if a == b),
        })
    }

    /// Python's order; of values that have one.
    pub(super) fn order(&self, other: &Value, meter: &Rc<Meter>) -> Outcome<Ordering> {
        meter.step(1)?;
        let order = match (self, other) {
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Text(a), Value::Text(b)) => {
                meter.copy(a.as_str().len().min(b.as_str().len()))?;
                Some(a.as_str().cmp(b.as_str()))
            }
            (Value::List(a), Value::List(b)) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    let order = a.order(b, meter)?;
                    if order.is_ne() {
                        return Ok(order);
                    }
                }
                Some(a.items.len().cmp(&b.items.len()))
            }
            (a, b) => a.as_float().zip(b.as_float()).and_then(|(a, b)| a.partial_cmp(&b)),
        };
        order.ok_or_else(|| Fault::new(format!("a {} and a {} have no order", self.kind(), other.kind())))
    }

    /// What a loop over it goes through.
    pub(super) fn items(&self, meter: &Rc<Meter>) -> Outcome<Rc<List>> {
        let mut out = Items::new(meter)?;
        match self {
            Value::List(list) => return Ok(list.clone()),
            Value::Undefined => {}
            Value::Map(map) => map.entries.iter().try_for_each(|(key, _)| out.push(key.clone()))?,
            Value::Text(text) => {
                for (at, c) in text.as_str().char_indices() {
                    out.push(Value::Text(text.slice(at..at + c.len_utf8())?))?;
                }
            }
            other => return Err(Fault::new(format!("a {} cannot be iterated over", other.kind()))),
        }
        match out.list()? {
            Value::List(list) => Ok(list),
            _ => Err(Fault::new("no list")),
        }
    }
}

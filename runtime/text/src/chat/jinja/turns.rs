//! A list of messages of which it is open how many there are.
//!
//! It watches what a template reads of it, so that what holds for all prefixes of a conversation is told from what
//! looks ahead ([`super::prefixes`]). Variables hold it; whatever else sees it gets a plain list.

use std::cell::Cell;
use std::rc::Rc;

use super::ast::{Expr, Kind};
use super::meter::{Fault, Meter, Outcome};
use super::run::Renderer;
use super::value::{Items, List, Value};

/// How far a template may see.
#[derive(Default)]
pub(super) struct Horizon {
    /// How many messages there are; none while that is open.
    pub(super) known: Cell<Option<usize>>,
    /// How many messages there must be for what was read to be true of them.
    pub(super) needed: Cell<usize>,
    /// Whether a loop runs that no prefix may end in the middle of.
    pub(super) scanning: Cell<bool>,
}

impl Horizon {
    /// What was read holds only for prefixes of at least `count` messages.
    pub(super) fn need(&self, count: usize) {
        self.needed.set(self.needed.get().max(count));
    }
}

/// The messages after the first `skipped` ones.
pub(super) struct Turns {
    pub(super) list: Rc<List>,
    pub(super) skipped: usize,
    pub(super) horizon: Rc<Horizon>,
}

/// The fault of a template that looks at messages that a prefix does not have. It is never shown.
pub(super) fn ahead() -> Fault {
    Fault::new("looks ahead")
}

impl Turns {
    /// How many there are.
    pub(super) fn length(&self) -> Outcome<usize> {
        self.horizon.known.get().map(|count| count.saturating_sub(self.skipped)).ok_or_else(ahead)
    }

    /// `messages[key]`; undefined if there is none.
    pub(super) fn item(&self, key: &Value) -> Outcome<Value> {
        let Some(at) = key.as_int() else { return Ok(Value::Undefined) };
        let at = if at < 0 { at.saturating_add(self.length()? as i128) } else { at };
        let Some((at, item)) = usize::try_from(at).ok().and_then(|at| Some((at, self.list.items.get(at)?))) else {
            return Ok(Value::Undefined);
        };
        match self.horizon.known.get() {
            Some(_) if at >= self.length()? => return Ok(Value::Undefined),
            Some(_) => {}
            None => self.horizon.need(self.skipped + at + 1),
        }
        Ok(item.clone())
    }

    /// The one after place `at` of a loop; undefined after the last one.
    pub(super) fn after(&self, at: usize) -> Outcome<Value> {
        let there = match self.horizon.known.get() {
            Some(_) => at + 1 < self.length()?,
            None if self.horizon.scanning.get() => return Err(ahead()),
            None => true,
        };
        Ok(self.list.items.get(at + 1).filter(|_| there).cloned().unwrap_or_default())
    }

    /// Whether a loop ends with place `at`.
    pub(super) fn ends(&self, at: usize) -> Outcome<bool> {
        match self.horizon.known.get() {
            Some(_) => Ok(at + 1 == self.length()?),
            None if self.horizon.scanning.get() => Err(ahead()),
            None => Ok(false),
        }
    }

    /// As a plain list.
    pub(super) fn whole(&self, meter: &Rc<Meter>) -> Outcome<Value> {
        let mut out = Items::new(meter)?;
        out.extend(&self.list.items[..self.length()?.min(self.list.items.len())])?;
        out.list()
    }

    /// Without the first `count`.
    fn skip(&self, count: usize, meter: &Rc<Meter>) -> Outcome<Rc<Turns>> {
        let mut rest = Items::new(meter)?;
        rest.extend(self.list.items.get(count..).unwrap_or_default())?;
        let list = rest.list()?.items(meter)?;
        Ok(Rc::new(Turns { list, skipped: self.skipped.saturating_add(count), horizon: self.horizon.clone() }))
    }
}

impl Renderer {
    /// The messages that `expr` names, `messages` or `messages[1:]`, while it is open how many there are.
    pub(super) fn turns(&self, expr: &Expr) -> Outcome<Option<Rc<Turns>>> {
        if !self.open {
            return Ok(None);
        }
        match &expr.kind {
            Kind::Name(name) => match self.lookup(name)? {
                Value::Turns(turns) => Ok(Some(turns)),
                _ => Ok(None),
            },
            Kind::Slice(parts) => match (&parts.0, &parts.1) {
                (inner, [Some(Expr { kind: Kind::Int(count), .. }), None, None]) => {
                    let Ok(count) = usize::try_from(*count) else { return Ok(None) };
                    self.turns(inner)?.map(|turns| turns.skip(count, &self.meter)).transpose()
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

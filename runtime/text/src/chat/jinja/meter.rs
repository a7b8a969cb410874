//! What a rendering may use: steps, bytes that its values hold at once, depth. And the error that ends it.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes that are copied for one step.
const COPIED: usize = 32;
/// Nested expressions, statements and macro calls: with frames of a few hundred bytes this fits a stack of 1 MiB.
const DEPTH: usize = 300;

/// Why a rendering ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chat) struct Fault {
    /// What happened.
    pub(in crate::chat) message: String,
    /// Line of the template, from 1.
    pub(in crate::chat) line: Option<u32>,
    /// Whether another template could help: a syntax error, an unknown filter.
    pub(in crate::chat) unsupported: bool,
}

/// Result of anything a template does.
pub(in crate::chat) type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// A fault at a place that is still to be named.
    pub(in crate::chat) fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into(), line: None, unsupported: false }
    }

    /// What this engine does not know.
    pub(super) fn unsupported(message: impl Into<String>) -> Fault {
        Fault { unsupported: true, ..Fault::new(message) }
    }

    /// Names the line, unless a line further inside is named already.
    pub(super) fn at(mut self, line: u32) -> Fault {
        self.line.get_or_insert(line);
        self
    }
}

/// Counts steps and the bytes of all values that are alive.
#[derive(Debug)]
pub(super) struct Meter {
    fuel: Cell<u64>,
    live: Cell<usize>,
    limit: usize,
    depth: Cell<usize>,
}

impl Meter {
    /// A meter with `fuel` steps and at most `limit` bytes alive.
    pub(super) fn new(fuel: u64, limit: usize) -> Rc<Meter> {
        Rc::new(Meter { fuel: Cell::new(fuel), live: Cell::new(0), limit, depth: Cell::new(0) })
    }

    /// Takes `steps` steps.
    pub(super) fn step(&self, steps: usize) -> Outcome<()> {
        #[cfg(feature = "work")]
        crate::work::count(steps);
        let left = self.fuel.get().checked_sub(steps as u64);
        let left = left.ok_or_else(|| Fault::new("out of fuel: it takes more steps than any chat needs"))?;
        self.fuel.set(left);
        Ok(())
    }

    /// Takes the steps of reading or copying `bytes`.
    pub(super) fn copy(&self, bytes: usize) -> Outcome<()> {
        self.step(1 + bytes / COPIED)
    }

    /// Reserves `bytes` until the result is dropped: before they are allocated.
    pub(super) fn hold(self: &Rc<Meter>, bytes: usize) -> Outcome<Held> {
        let mut held = Held { meter: self.clone(), bytes: 0 };
        held.grow(bytes)?;
        Ok(held)
    }

    /// Goes one level deeper until the result is dropped.
    pub(super) fn enter(self: &Rc<Meter>) -> Outcome<Level> {
        self.step(1)?;
        if self.depth.get() >= DEPTH {
            return Err(Fault::new(format!("recursion: more than {DEPTH} levels")));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(Level(self.clone()))
    }
}

/// Bytes that are counted as alive.
#[derive(Debug)]
pub(super) struct Held {
    meter: Rc<Meter>,
    bytes: usize,
}

impl Held {
    /// The meter that counts them.
    pub(super) fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    /// Reserves more.
    pub(super) fn grow(&mut self, bytes: usize) -> Outcome<()> {
        let live = self.meter.live.get().checked_add(bytes).filter(|&live| live <= self.meter.limit);
        let limit = self.meter.limit;
        let live =
            live.ok_or_else(|| Fault::new(format!("its values are too large: more than {limit} bytes at once")))?;
        self.meter.live.set(live);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.live.set(self.meter.live.get() - self.bytes);
    }
}

/// One level of nesting.
pub(super) struct Level(Rc<Meter>);

impl Drop for Level {
    fn drop(&mut self) {
        self.0.depth.set(self.0.depth.get() - 1);
    }
}

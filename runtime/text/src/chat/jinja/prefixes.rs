//! All prefixes of a conversation in one rendering.
//!
//! Training needs the first k messages rendered, for many k. A template that goes through its messages from the first
//! to the last one writes the same for all of them up to turn k. So it runs once, and in each turn that is wanted a
//! copy of its state runs on to the end as if no message followed. [`Turns`] watches that nothing else depends on how
//! many messages there are: a template that looks ahead gives a fault, and each prefix must be rendered by itself.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{For, Node, Stmt};
use super::meter::Outcome;
use super::run::{Flow, Renderer};
use super::text::{Builder, Piece, Text};
use super::turns::{Horizon, Turns, ahead};
use super::value::{Loop, Value};
use super::{Rendered, Variables, clipped, clipped_marks, contents};
use crate::tokenizer::{Contents, Marks};

/// The renderings of prefixes of a conversation. All start with the same text, and each leaves it somewhere.
pub struct Prefixes {
    text: String,
    pieces: Vec<Piece>,
    generated: Vec<Range<usize>>,
    pub(in crate::chat) marks: Option<Arc<Marks>>,
    /// By number of messages.
    ends: Vec<Option<End>>,
}

/// How a prefix ends.
struct End {
    /// Bytes of the common text that it starts with.
    at: usize,
    /// What follows.
    tail: Text,
    /// Bytes of what follows that are inside `{% generation %}`.
    generated: Vec<Range<usize>>,
}

impl Prefixes {
    /// The common text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Bytes of the common text that are the same, and from the same messages, as those of another rendering.
    pub fn agrees(&self, other: &Prefixes) -> usize {
        let equal = self.text.bytes().zip(other.text.bytes()).take_while(|(a, b)| a == b).count();
        let same = self.pieces.iter().zip(&other.pieces).take_while(|(a, b)| a == b).count();
        let differs = self.pieces[same..].iter().take(1).chain(other.pieces[same..].iter().take(1));
        differs.fold(equal, |equal, piece| equal.min(piece.start))
    }

    /// How much of the common text the first `count` messages start with; none if they are not among the renderings.
    pub fn common(&self, count: usize) -> Option<usize> {
        self.ends.get(count)?.as_ref().map(|end| end.at)
    }

    /// The rendering of the first `count` messages from byte `from` on, which the common text must reach.
    pub fn from(&self, count: usize, from: usize) -> Option<Rendered> {
        let end = self.ends.get(count)?.as_ref().filter(|end| from <= end.at)?;
        let text = [&self.text[from..end.at], end.tail.as_str()].concat();
        let mut pieces: Vec<Piece> = clipped(&self.pieces, from..end.at).collect();
        for piece in end.tail.pieces() {
            let piece =
                Piece { start: piece.start + end.at - from, end: piece.end + end.at - from, source: piece.source };
            match pieces.last_mut() {
                Some(last) if last.end == piece.start && last.source == piece.source => last.end = piece.end,
                _ => pieces.push(piece),
            }
        }
        let shifted = end.generated.iter().map(|mark| mark.start + end.at - from..mark.end + end.at - from);
        let generated = clipped_marks(&self.generated, from..end.at).chain(shifted).collect();
        Some(Rendered { text, pieces, generated, marks: self.marks.clone() })
    }

    /// The bytes of `range` of the common text that come from messages, counted from its start.
    pub fn contents(&self, range: Range<usize>) -> Contents {
        contents(&self.pieces, range, self.marks.clone())
    }

    /// Where the last bytes of the common text that come from a message end, before byte `before`.
    pub fn end_of_contents(&self, before: usize) -> Option<usize> {
        let count = self.pieces.partition_point(|piece| piece.end <= before);
        self.pieces[..count].last().map(|piece| piece.end)
    }
}

/// State of a rendering that turns can change.
struct State {
    root: Variables,
    namespaces: Vec<Variables>,
}

impl Renderer {
    /// Runs a template over `turns`; `wanted` says for which numbers of messages the rendering is kept.
    pub(super) fn prefixes(&mut self, body: &[Node], horizon: &Horizon, wanted: &[bool]) -> Outcome<Prefixes> {
        let mut ends: Vec<Option<End>> = wanted.iter().map(|_| None).collect();
        let mut keep = |renderer: &mut Renderer, count: usize, run: &mut dyn FnMut(&mut Renderer) -> Outcome<()>| {
            if wanted.get(count) != Some(&true) || horizon.needed.get() > count {
                return Ok(());
            }
            horizon.known.set(Some(count));
            ends[count] = Some(renderer.aside(run)?);
            horizon.known.set(None);
            Ok(())
        };
        if !self.follow(body, &[], &mut keep)? {
            return Err(ahead());
        }
        let (text, pieces) = self.outputs.pop().ok_or_else(ahead)?.into_parts();
        let generated = std::mem::take(&mut self.generated);
        Ok(Prefixes { text, pieces, generated, marks: None, ends })
    }

    /// Runs statements up to the loop over the turns, and that; whether it was found. `rest` is what comes after.
    fn follow(&mut self, nodes: &[Node], rest: &[&[Node]], keep: &mut Keep<'_>) -> Outcome<bool> {
        let _level = self.meter.enter()?;
        for (at, node) in nodes.iter().enumerate() {
            let after: Vec<&[Node]> = [&nodes[at + 1..]].into_iter().chain(rest.iter().copied()).collect();
            let inner = match &node.kind {
                Stmt::If(branches) => self.chosen(branches)?,
                Stmt::Body(body) => Some(&body[..]),
                Stmt::For(statement) => {
                    match self.turns(&statement.items)? {
                        Some(turns) if self.comes_again(&after)? => self.scan(statement, &turns)?,
                        Some(turns) => return self.walk(statement, &turns, &after, keep).map(|()| true),
                        None => drop(self.statement(node)?),
                    }
                    None
                }
                _ => {
                    self.statement(node)?;
                    None
                }
            };
            if let Some(inner) = inner
                && self.follow(inner, &after, keep)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether one of these statements is a loop over the turns.
    fn comes_again(&self, lists: &[&[Node]]) -> Outcome<bool> {
        for node in lists.iter().copied().flatten() {
            self.meter.step(1)?;
            let again = match &node.kind {
                Stmt::For(statement) => self.turns(&statement.items)?.is_some(),
                Stmt::Body(body) => self.comes_again(&[body])?,
                Stmt::If(branches) => {
                    let bodies: Vec<&[Node]> = branches.iter().map(|(_, body)| &body[..]).collect();
                    self.comes_again(&bodies)?
                }
                _ => false,
            };
            if again {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The loop over the turns: each one as the last one, with `after` after it, and then as one that others follow.
    fn walk(&mut self, statement: &Arc<For>, turns: &Rc<Turns>, after: &[&[Node]], keep: &mut Keep<'_>) -> Outcome<()> {
        let state = watched(statement, turns)?;
        let last = turns.list.items.len() - 1;
        for at in 0..=last {
            state.index.set(at);
            let seen = state.seen.borrow().clone();
            keep(self, turns.skipped + at + 1, &mut |renderer| {
                renderer.turn(statement, &state)?;
                after.iter().try_for_each(|nodes| renderer.body(nodes).map(|_| ()))
            })?;
            state.seen.replace(seen);
            if at < last && self.turn(statement, &state)? == Flow::Break {
                return Err(ahead());
            }
        }
        Ok(())
    }

    /// A loop that only looks for something (a system message, say): it must write nothing, and what it leaves holds
    /// for the prefixes that have all it was found in.
    fn scan(&mut self, statement: &Arc<For>, turns: &Rc<Turns>) -> Outcome<()> {
        let state = watched(statement, turns)?;
        let written = self.outputs.last().map(Builder::len);
        let mut before = self.state()?;
        turns.horizon.scanning.set(true);
        for at in 0..turns.list.items.len() {
            state.index.set(at);
            let flow = self.turn(statement, &state)?;
            let now = self.state()?;
            if flow == Flow::Break || !self.same(&before, &now)? {
                turns.horizon.need(turns.skipped + at + 1);
                before = now;
            }
            if flow == Flow::Break {
                break;
            }
        }
        turns.horizon.scanning.set(false);
        if self.outputs.last().map(Builder::len) == written { Ok(()) } else { Err(ahead()) }
    }

    /// Runs `run` on a copy of the state, and returns what it writes and where.
    fn aside(&mut self, run: &mut dyn FnMut(&mut Renderer) -> Outcome<()>) -> Outcome<End> {
        let state = self.state()?;
        let at = self.outputs.last().map_or(0, Builder::len);
        let outputs = std::mem::replace(&mut self.outputs, vec![Builder::new(&self.meter)?]);
        let before = std::mem::take(&mut self.generated);
        run(self)?;
        let tail = self.outputs.pop().ok_or_else(ahead)?.finish();
        self.outputs = outputs;
        let generated = std::mem::replace(&mut self.generated, before);
        self.root.variables = state.root;
        self.namespaces.drain(state.namespaces.len()..).for_each(|namespace| namespace.clear());
        for (namespace, entries) in self.namespaces.iter().zip(state.namespaces) {
            namespace.restore(entries);
        }
        Ok(End { at, tail, generated })
    }

    fn state(&self) -> Outcome<State> {
        let namespaces: Vec<Variables> = self.namespaces.iter().map(|namespace| namespace.entries()).collect();
        self.meter
            .step(self.root.variables.len() + namespaces.iter().map(|entries| 1 + entries.len()).sum::<usize>())?;
        Ok(State { root: self.root.variables.clone(), namespaces })
    }

    /// Whether nothing tells two states apart.
    fn same(&self, a: &State, b: &State) -> Outcome<bool> {
        if a.namespaces.len() != b.namespaces.len() {
            return Ok(false);
        }
        for (a, b) in a.namespaces.iter().chain([&a.root]).zip(b.namespaces.iter().chain([&b.root])) {
            let mut equal = a.len() == b.len();
            for ((name, a), (other, b)) in a.iter().zip(b) {
                equal = equal && name == other && a.is(b, &self.meter)?;
            }
            if !equal {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Keeps the rendering of a number of messages, which a function finishes.
type Keep<'k> = dyn FnMut(&mut Renderer, usize, &mut dyn FnMut(&mut Renderer) -> Outcome<()>) -> Outcome<()> + 'k;

/// The variable `loop` of a loop over the turns.
fn watched(statement: &Arc<For>, turns: &Rc<Turns>) -> Outcome<Rc<Loop>> {
    if statement.condition.is_some() || statement.recursive || turns.list.items.is_empty() {
        return Err(ahead());
    }
    Ok(Rc::new(Loop {
        items: turns.list.clone(),
        turns: Some(turns.clone()),
        index: Cell::new(0),
        depth: 0,
        seen: RefCell::default(),
        statement: statement.clone(),
    }))
}

impl Value {
    /// Whether nothing tells two values apart. Equal ones that were made twice may be called different.
    fn is(&self, other: &Value, meter: &Rc<super::Meter>) -> Outcome<bool> {
        meter.step(1)?;
        Ok(match (self, other) {
            (Value::Undefined, Value::Undefined) | (Value::None, Value::None) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Text(a), Value::Text(b)) => {
                meter.copy(a.as_str().len().min(b.as_str().len()))?;
                a.as_str() == b.as_str() && a.pieces() == b.pieces()
            }
            (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
            (Value::Map(a), Value::Map(b)) => Rc::ptr_eq(a, b),
            (Value::Turns(a), Value::Turns(b)) => Rc::ptr_eq(a, b),
            (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
            (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
            (Value::Function(a), Value::Function(b)) => a == b,
            _ => false,
        })
    }
}

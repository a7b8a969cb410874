//! Jinja for chat templates: its syntax and what templates use of its library, within bounds.
//!
//! A template is a stranger's program, so what it may use is counted where it is used: steps, nesting, the bytes that
//! all its values hold at once (before they are allocated), and what it writes. And its strings know which of their
//! bytes came from which message, whatever was done with them ([`text`]): so the rendered text tells what an assistant
//! wrote.
//!
//! [`lexer`], [`parser`] and [`expressions`] make the tree ([`ast`]) once; [`run`] and [`evaluate`] walk it for each
//! rendering. White space, scopes, operators and output are Jinja2's with `trim_blocks` and `lstrip_blocks`, as in
//! Transformers.

mod arguments;
mod ast;
mod checks;
mod dates;
mod display;
mod evaluate;
mod expressions;
mod filters;
mod format;
mod functions;
mod json;
mod lexer;
mod meter;
mod methods;
mod operators;
mod parser;
mod prefixes;
mod run;
mod sequences;
mod strings;
mod text;
mod turns;
mod value;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use meter::Meter;
use run::{Renderer, Scope};
use text::{Builder, Source, Text};
use turns::{Horizon, Turns};
use value::{Items, Map, Value};

pub(super) use meter::{Fault, Outcome};
pub use prefixes::Prefixes;
pub(super) use text::Piece;

/// Steps of a rendering. A chat of a hundred messages takes some ten thousand.
const FUEL: u64 = 4_000_000;
/// Steps besides, for each message.
const FUEL_PER_MESSAGE: u64 = 10_000;
/// Steps besides, for each byte of the messages.
const FUEL_PER_BYTE: u64 = 4;
/// Bytes that all values may hold at once.
const MEMORY: usize = 16 << 20;
/// Bytes besides, for each byte of the messages.
const MEMORY_PER_BYTE: usize = 32;
/// Bytes besides, for each message.
const MEMORY_PER_MESSAGE: usize = 4096;
/// Output allowed besides sixteen times the length of the messages.
const OUTPUT: usize = 1 << 20;

/// Names with their values.
type Variables = Vec<(Arc<str>, Value)>;

/// A compiled template.
pub(super) struct Program {
    body: Vec<ast::Node>,
    /// What time it is for the template, in seconds since 1970, if not what the system says.
    pub(super) clock: Option<u64>,
}

/// What a template is given under a name.
pub(super) enum Input<'i> {
    None,
    Bool(bool),
    Text(&'i str),
    /// Objects. The texts in message `i`, but for its role, become pieces of message `i`.
    Messages(&'i [serde_json::Value]),
    /// Any JSON. Its texts become pieces of no message.
    Json(&'i serde_json::Value),
}

/// A rendered text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// What comes from messages, in order.
    pub(super) pieces: Vec<Piece>,
}

impl Rendered {
    /// The bytes of `range` that come from messages, counted from its start.
    pub fn contents(&self, range: Range<usize>) -> Vec<Range<usize>> {
        clipped(&self.pieces, range).map(|piece| piece.start..piece.end).collect()
    }

    /// From the first to the last byte that message `message` says, in the last place where it is written: nothing of
    /// another message is between them.
    pub fn said(&self, message: usize) -> Option<Range<usize>> {
        let of = |piece: &&Piece| piece.source.message.is_some_and(|found| found as usize == message);
        let mut said = self.pieces.iter().rev().skip_while(|p| !of(p)).take_while(of).filter(|piece| piece.source.said);
        let last = said.next()?;
        Some(said.last().unwrap_or(last).start..last.end)
    }

    /// Whether something before byte `before` comes from elsewhere than message `message`.
    pub fn others(&self, message: usize, before: usize) -> bool {
        let before = self.pieces.iter().take_while(|piece| piece.end <= before);
        before.last().is_some_and(|piece| piece.source.message.is_none_or(|found| found as usize != message))
    }

    /// The text before byte `end`.
    pub fn until(&self, end: usize) -> Rendered {
        let mut pieces = self.pieces.clone();
        pieces.retain_mut(|piece| {
            piece.end = piece.end.min(end);
            piece.start < piece.end
        });
        Rendered { text: self.text[..end].to_owned(), pieces }
    }

    /// Where the last bytes that come from a message end, before byte `before`.
    pub fn end_of_contents(&self, before: usize) -> usize {
        self.pieces.iter().take_while(|piece| piece.end <= before).last().map_or(0, |piece| piece.end)
    }
}

/// The parts of `pieces`, which are in order, that are in `range`, counted from its start.
fn clipped(pieces: &[Piece], range: Range<usize>) -> impl Iterator<Item = Piece> + '_ {
    let first = pieces.partition_point(|piece| piece.end <= range.start);
    pieces[first..].iter().take_while(move |piece| piece.start < range.end).map(move |piece| Piece {
        start: piece.start.max(range.start) - range.start,
        end: piece.end.min(range.end) - range.start,
        source: piece.source,
    })
}

impl Program {
    /// Compiles a template.
    ///
    /// # Errors
    /// What is wrong with its syntax.
    pub(super) fn new(source: &str) -> Outcome<Program> {
        let source =
            if source.contains('\r') { source.replace("\r\n", "\n").replace('\r', "\n") } else { source.into() };
        parser::parse(&source).map(|body| Program { body, clock: None })
    }

    /// Renders a text; `messages` and `bytes` say how many messages of which length are in `context`.
    ///
    /// # Errors
    /// What the template raises, cannot do, or does too much of.
    pub(super) fn render(&self, context: &[(&str, Input<'_>)], messages: usize, bytes: usize) -> Outcome<Rendered> {
        let mut renderer = Renderer::new(context, messages, bytes, None)?;
        renderer.clock = self.clock;
        renderer.body(&self.body)?;
        let (text, pieces) = renderer.outputs.pop().ok_or_else(|| Fault::new("no output"))?.into_parts();
        Ok(Rendered { text, pieces })
    }

    /// Renders prefixes of the conversation in `context`: the first k messages where `wanted[k]` says so. Those that
    /// something ties to more messages than they have are left out.
    ///
    /// # Errors
    /// If the template looks ahead or takes too much: then each must be rendered by itself.
    pub(super) fn prefixes(
        &self,
        context: &[(&str, Input<'_>)],
        (messages, bytes): (usize, usize),
        wanted: &[bool],
    ) -> Outcome<Prefixes> {
        let horizon = Rc::new(Horizon::default());
        let mut renderer = Renderer::new(context, messages, bytes, Some(&horizon))?;
        renderer.clock = self.clock;
        renderer.prefixes(&self.body, &horizon, wanted)
    }
}

impl Renderer {
    /// A rendering that has not begun. With a horizon it is open how many messages there are.
    fn new(
        context: &[(&str, Input<'_>)],
        messages: usize,
        bytes: usize,
        horizon: Option<&Rc<Horizon>>,
    ) -> Outcome<Renderer> {
        let fuel = FUEL + FUEL_PER_MESSAGE * messages as u64 + FUEL_PER_BYTE * bytes as u64;
        let memory = MEMORY
            .saturating_add(bytes.saturating_mul(MEMORY_PER_BYTE))
            .saturating_add(messages.saturating_mul(MEMORY_PER_MESSAGE));
        let meter = Meter::new(fuel, memory);
        let mut root = Scope::new(&meter)?;
        for (name, input) in context {
            let value = load(input, &meter)?;
            let value = match (input, horizon) {
                (Input::Messages(_), Some(horizon)) => {
                    let list = value.items(&meter)?;
                    Value::Turns(Rc::new(Turns { list, skipped: 0, horizon: horizon.clone() }))
                }
                _ => value,
            };
            root.set((*name).into(), value)?;
        }
        let outputs = vec![Builder::new(&meter)?];
        let output_limit = bytes.saturating_mul(16).saturating_add(OUTPUT);
        let open = horizon.is_some();
        let (locals, namespaces, clock) = (Vec::new(), Vec::new(), None);
        Ok(Renderer { meter, root, locals, outputs, output_limit, namespaces, clock, open })
    }
}

/// Keys of a message that say whose it is, not what it says.
const NAMES: [&str; 2] = ["name", "tool_call_id"];

fn load(input: &Input<'_>, meter: &Rc<Meter>) -> Outcome<Value> {
    match input {
        Input::None => Ok(Value::None),
        Input::Bool(value) => Ok(Value::Bool(*value)),
        Input::Text(text) => Value::text(text, meter),
        Input::Json(json) => json::load(json, Some(Source { message: None, said: false }), meter),
        Input::Messages(messages) => {
            let mut out = Items::new(meter)?;
            for (i, message) in messages.iter().enumerate() {
                let mut map = Map::new(meter)?;
                for (key, value) in message.as_object().into_iter().flatten() {
                    // The role is structure: templates make control tokens of it.
                    let source = Source { message: Some(i as u32), said: !NAMES.contains(&key.as_str()) };
                    let source = Some(source).filter(|_| key != "role");
                    map.insert(Value::Text(Text::new(key, meter)?), json::load(value, source, meter)?)?;
                }
                out.push(Value::Map(Rc::new(map)))?;
            }
            out.list()
        }
    }
}

#[cfg(test)]
mod tests;

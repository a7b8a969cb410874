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

use crate::tokenizer::{Content, Contents, Marks};
use meter::Meter;
use run::{Renderer, Scope};
use text::{Builder, Source, Text};
use turns::{Horizon, Turns};
use value::{Items, Map, Value};

pub(super) use meter::{Fault, Outcome};
pub use prefixes::Prefixes;
pub use text::Part;
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
    Messages(&'i [Given]),
    /// Any JSON. Its texts become pieces of no message.
    Json(&'i serde_json::Value),
}

/// A message as a template gets it.
pub(super) struct Given {
    /// An object.
    pub(super) value: serde_json::Value,
    /// Whether what it says may be control tokens.
    pub(super) trusted: bool,
}

/// A rendered text.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// What comes from messages, in order.
    pub(super) pieces: Vec<Piece>,
    /// What is inside `{% generation %}`, in order.
    pub(super) generated: Vec<Range<usize>>,
    /// User-defined tokens that the template writes as marks.
    pub(super) marks: Option<Arc<Marks>>,
}

impl Rendered {
    /// The bytes of `range` that come from messages, counted from its start.
    pub fn contents(&self, range: Range<usize>) -> Contents {
        contents(&self.pieces, range, self.marks.clone())
    }

    /// The parts of message `message` that are written; with no message, those of none.
    pub fn parts(&self, message: Option<usize>) -> Vec<Part> {
        let of = self.pieces.iter().filter(|piece| piece.source.message.map(|found| found as usize) == message);
        let mut parts: Vec<Part> = of.map(|piece| piece.source.part).collect();
        parts.dedup();
        parts
    }

    /// What the template marks as generated (`{% generation %}`) around what message `message` says, from the first
    /// mark to the last one; none if it marks nothing of it.
    pub fn generated(&self, message: usize) -> Option<Range<usize>> {
        let said = self.said(message)?;
        let mut marks = self.generated.iter().filter(|mark| mark.start < said.end && said.start < mark.end);
        let first = marks.next()?.clone();
        Some(marks.fold(first, |all, mark| all.start..mark.end.max(all.end)))
    }

    /// Whether the template marks anything as generated.
    pub fn is_marked(&self) -> bool {
        !self.generated.is_empty()
    }

    /// From the first to the last byte that message `message` says, in the last place where it is written: nothing of
    /// another message is between them.
    pub fn said(&self, message: usize) -> Option<Range<usize>> {
        let of = |piece: &&Piece| piece.source.message.is_some_and(|found| found as usize == message);
        let mut said =
            self.pieces.iter().rev().skip_while(|p| !of(p)).take_while(of).filter(|piece| piece.source.is_said());
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
        let (generated, marks) = (clipped_marks(&self.generated, 0..end).collect(), self.marks.clone());
        Rendered { text: self.text[..end].to_owned(), pieces, generated, marks }
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

/// The parts of `marks` that are in `range`, counted from its start.
fn clipped_marks(marks: &[Range<usize>], range: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
    let inside = marks.iter().map(move |mark| mark.start.max(range.start)..mark.end.min(range.end));
    inside.filter(|mark| mark.start < mark.end).map(move |mark| mark.start - range.start..mark.end - range.start)
}

/// What of the bytes of `range` messages brought in.
fn contents(pieces: &[Piece], range: Range<usize>, marks: Option<Arc<Marks>>) -> Contents {
    let foreign = clipped(pieces, range).filter(|piece| !piece.source.trusted);
    let content = |piece: Piece| Content { range: piece.start..piece.end, answer: piece.source.answer };
    Contents::new(foreign.map(content).collect(), marks)
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
        let generated = std::mem::take(&mut renderer.generated);
        Ok(Rendered { text, pieces, generated, marks: None })
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
        let (locals, namespaces, generated, clock) = (Vec::new(), Vec::new(), Vec::new(), None);
        Ok(Renderer { meter, root, locals, outputs, output_limit, namespaces, generated, clock, open })
    }
}

/// Which part of a message is under `key`.
fn part_of(key: &str) -> Part {
    match key {
        "content" => Part::Content,
        "reasoning_content" | "reasoning" | "thinking" => Part::Reasoning,
        // They say whose it is, not what it says.
        "name" | "tool_call_id" => Part::Name,
        _ => Part::Other,
    }
}

/// The calls of a message, each a part of its own.
fn load_calls(calls: &[serde_json::Value], source: Source, meter: &Rc<Meter>) -> Outcome<Value> {
    let mut out = Items::new(meter)?;
    for (number, call) in calls.iter().enumerate() {
        out.push(load_call(call, source, u16::try_from(number).unwrap_or(u16::MAX), meter)?)?;
    }
    out.list()
}

/// A call, or what is under `function` in it.
fn load_call(call: &serde_json::Value, source: Source, number: u16, meter: &Rc<Meter>) -> Outcome<Value> {
    let of = |part: Part| Some(Source { part, ..source });
    let Some(object) = call.as_object() else { return json::load(call, of(Part::Call(number)), meter) };
    let mut out = Map::new(meter)?;
    for (key, value) in object {
        let name = Value::Text(Text::from_source(key, of(Part::Call(number)), meter)?);
        let value = match (key.as_str(), value) {
            ("function", value) if value.get("function").is_none() => load_call(value, source, number, meter)?,
            ("arguments", value) => json::load(value, of(Part::Arguments(number)), meter)?,
            (_, value) => json::load(value, of(Part::Call(number)), meter)?,
        };
        out.insert(name, value)?;
    }
    Ok(Value::Map(Rc::new(out)))
}

fn load(input: &Input<'_>, meter: &Rc<Meter>) -> Outcome<Value> {
    match input {
        Input::None => Ok(Value::None),
        Input::Bool(value) => Ok(Value::Bool(*value)),
        Input::Text(text) => Value::text(text, meter),
        Input::Json(json) => {
            let source = Source { message: None, part: Part::Tools, trusted: false, answer: false };
            json::load(json, Some(source), meter)
        }
        Input::Messages(messages) => {
            let mut out = Items::new(meter)?;
            for (i, Given { value, trusted }) in messages.iter().enumerate() {
                let mut map = Map::new(meter)?;
                let answer = value.get("role").and_then(serde_json::Value::as_str) == Some("assistant");
                for (key, value) in value.as_object().into_iter().flatten() {
                    let part = part_of(key);
                    let source = Source { message: Some(i as u32), part, trusted: *trusted, answer };
                    let value = match (key.as_str(), value) {
                        // The role is structure: templates make control tokens of it.
                        ("role", value) => json::load(value, None, meter)?,
                        ("tool_calls", serde_json::Value::Array(calls)) => load_calls(calls, source, meter)?,
                        (_, value) => json::load(value, Some(source), meter)?,
                    };
                    map.insert(Value::Text(Text::new(key, meter)?), value)?;
                }
                out.push(Value::Map(Rc::new(map)))?;
            }
            out.list()
        }
    }
}

#[cfg(test)]
mod tests;

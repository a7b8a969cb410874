//! Strings that know which of their bytes a message brought in.

use std::ops::Range;
use std::rc::Rc;

use super::meter::{Held, Meter, Outcome};

/// Bytes of a text besides its characters.
const OVERHEAD: usize = 96;

/// Where bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chat) struct Source {
    /// Number of the message; none for tools.
    pub(in crate::chat) message: Option<u32>,
    /// What of it they are.
    pub(in crate::chat) part: Part,
    /// Whether they may be control tokens, because whoever brought the message asked for it.
    pub(in crate::chat) trusted: bool,
    /// Whether the assistant says them.
    pub(in crate::chat) answer: bool,
}

/// What of a message bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The content.
    Content,
    /// What the assistant thought.
    Reasoning,
    /// The call of a tool, counted from 0, but for its arguments.
    Call(u16),
    /// The arguments of a call.
    Arguments(u16),
    /// Another key of the message.
    Other,
    /// Names that the message goes by: nothing that it says.
    Name,
    /// Descriptions of tools: of no message.
    Tools,
}

impl Source {
    /// Whether they are what the message says.
    pub(in crate::chat) fn is_said(self) -> bool {
        !matches!(self.part, Part::Name | Part::Tools)
    }
}

/// Bytes of a text that come from a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chat) struct Piece {
    /// First byte.
    pub(in crate::chat) start: usize,
    /// Byte after the last one.
    pub(in crate::chat) end: usize,
    /// From where.
    pub(in crate::chat) source: Source,
}

/// Writes a part of what a character becomes.
type Push<'p> = dyn FnMut(&str) -> Outcome<()> + 'p;
/// Writes what a character becomes.
type Map<'m> = dyn FnMut(char, &mut Push<'_>) -> Outcome<()> + 'm;

struct Buffer {
    text: String,
    /// In order, without overlaps; neighbours of the same source are one.
    pieces: Vec<Piece>,
    held: Held,
}

/// A string. Whatever a template does with it, its pieces stay with the characters they belong to.
#[derive(Clone)]
pub(super) struct Text {
    buffer: Rc<Buffer>,
    /// Whether it is HTML: what is added to it is escaped.
    safe: bool,
}

impl Text {
    /// A text of the template itself.
    pub(super) fn new(text: &str, meter: &Rc<Meter>) -> Outcome<Text> {
        Text::from_source(text, None, meter)
    }

    /// A text of `source`.
    pub(super) fn from_source(text: &str, source: Option<Source>, meter: &Rc<Meter>) -> Outcome<Text> {
        let mut out = Builder::new(meter)?;
        out.push(text, source)?;
        Ok(out.finish())
    }

    /// The characters.
    pub(super) fn as_str(&self) -> &str {
        &self.buffer.text
    }

    /// The same text as HTML.
    pub(super) fn safe(mut self) -> Text {
        self.safe = true;
        self
    }

    /// Whether it is HTML.
    pub(super) fn is_safe(&self) -> bool {
        self.safe
    }

    /// Where they come from.
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.buffer.pieces
    }

    /// The meter that counts it.
    pub(super) fn meter(&self) -> &Rc<Meter> {
        self.buffer.held.meter()
    }

    /// The bytes of `range`, which begins and ends between characters.
    pub(super) fn slice(&self, range: Range<usize>) -> Outcome<Text> {
        if range == (0..self.as_str().len()) {
            return Ok(self.clone());
        }
        let mut out = Builder::new(self.meter())?;
        out.push_part(self, range)?;
        Ok(out.finish())
    }

    /// The part `part` of [`Text::as_str`], which must be borrowed from it.
    pub(super) fn part(&self, part: &str) -> Outcome<Text> {
        let start = part.as_ptr() as usize - self.as_str().as_ptr() as usize;
        self.slice(start..start + part.len())
    }

    /// Runs of bytes of `range` with where they come from.
    fn runs(&self, range: Range<usize>) -> impl Iterator<Item = (Range<usize>, Option<Source>)> + '_ {
        let first = self.pieces().partition_point(|piece| piece.end <= range.start);
        let mut pieces = self.pieces()[first..].iter().peekable();
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let (end, source) = match pieces.peek() {
                Some(piece) if piece.start <= at => {
                    let found = (piece.end.min(range.end), Some(piece.source));
                    pieces.next();
                    found
                }
                Some(piece) => (piece.start.min(range.end), None),
                None => (range.end, None),
            };
            let run = at..end;
            at = end;
            Some((run, source))
        })
    }

    /// Each character as `map` writes it; what comes from a message still does.
    pub(super) fn map(&self, mut map: impl FnMut(char, &mut Push<'_>) -> Outcome<()>) -> Outcome<Text> {
        let mut out = Builder::new(self.meter())?;
        out.push_mapped(self, &mut map)?;
        Ok(out.finish())
    }
}

/// Builds a text, counting before it allocates.
pub(super) struct Builder {
    text: String,
    pieces: Vec<Piece>,
    held: Held,
}

impl Builder {
    /// An empty one.
    pub(super) fn new(meter: &Rc<Meter>) -> Outcome<Builder> {
        Ok(Builder { text: String::new(), pieces: Vec::new(), held: meter.hold(OVERHEAD)? })
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Makes room for `bytes` more.
    pub(super) fn reserve(&mut self, bytes: usize) -> Outcome<()> {
        let (length, capacity) = (self.text.len(), self.text.capacity());
        if bytes > capacity - length {
            let wanted = length.saturating_add(bytes).max(capacity.saturating_mul(2));
            self.held.grow(wanted - capacity)?;
            self.text.reserve_exact(wanted - length);
        }
        Ok(())
    }

    /// Appends text of `source`, or of the template.
    pub(super) fn push(&mut self, text: &str, source: Option<Source>) -> Outcome<()> {
        self.held.meter().copy(text.len())?;
        self.reserve(text.len())?;
        let (start, end) = (self.text.len(), self.text.len() + text.len());
        self.text.push_str(text);
        let Some(source) = source.filter(|_| start < end) else { return Ok(()) };
        match self.pieces.last_mut() {
            Some(last) if last.end == start && last.source == source => last.end = end,
            _ => {
                if self.pieces.len() == self.pieces.capacity() {
                    let more = self.pieces.len().max(1);
                    self.held.grow(more * size_of::<Piece>())?;
                    self.pieces.reserve_exact(more);
                }
                self.pieces.push(Piece { start, end, source });
            }
        }
        Ok(())
    }

    /// Appends text of the template.
    pub(super) fn push_str(&mut self, text: &str) -> Outcome<()> {
        self.push(text, None)
    }

    /// Appends a whole text.
    pub(super) fn push_text(&mut self, text: &Text) -> Outcome<()> {
        self.push_part(text, 0..text.as_str().len())
    }

    /// Appends some bytes of a text.
    pub(super) fn push_part(&mut self, text: &Text, range: Range<usize>) -> Outcome<()> {
        text.runs(range).try_for_each(|(run, source)| self.push(&text.as_str()[run], source))
    }

    /// Appends each character of a text as `map` writes it.
    pub(super) fn push_mapped(&mut self, text: &Text, map: &mut Map<'_>) -> Outcome<()> {
        for (run, source) in text.runs(0..text.as_str().len()) {
            for c in text.as_str()[run].chars() {
                map(c, &mut |written| self.push(written, source))?;
            }
        }
        Ok(())
    }

    /// Appends a text `count` times.
    pub(super) fn repeat(&mut self, text: &str, count: usize) -> Outcome<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.reserve(text.len().saturating_mul(count))?;
        (0..count).try_for_each(|_| self.push_str(text))
    }

    /// The text.
    pub(super) fn finish(self) -> Text {
        Text { buffer: Rc::new(Buffer { text: self.text, pieces: self.pieces, held: self.held }), safe: false }
    }

    /// The text as it is handed out, with its pieces.
    pub(super) fn into_parts(self) -> (String, Vec<Piece>) {
        (self.text, self.pieces)
    }
}

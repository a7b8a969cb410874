//! What of a rendered chat messages brought in, and what the template's own marks are.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::special::{Class, Special};
use super::{TokenType, Tokenizer};
use crate::Result;

/// Bytes that a message brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Which bytes of the text.
    pub range: Range<usize>,
    /// Whether the assistant says them.
    pub answer: bool,
}

/// What of a text messages brought in: no control token has one of these bytes.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// In order, without overlaps.
    pub(super) pieces: Vec<Content>,
    pub(super) marks: Option<Arc<Marks>>,
}

impl Contents {
    /// Pieces in order; `marks` are those of the template that wrote the text.
    pub fn new(pieces: Vec<Content>, marks: Option<Arc<Marks>>) -> Self {
        Contents { pieces, marks }
    }

    /// The bytes of each piece.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.pieces.iter().map(|piece| piece.range.clone())
    }
}

/// User-defined tokens that a chat template writes as marks: they are no text for the messages of others. Files often
/// call `<|im_start|>` user-defined.
pub struct Marks(pub(super) Special);

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks = self.0.entries().iter().filter(|entry| entry.class != Class::Text).count();
        write!(f, "Marks({marks})")
    }
}

/// Whether a token looks like a mark: a word between signs, without white space.
fn is_mark(text: &str) -> bool {
    let sign = |c: Option<char>| c.is_some_and(|c| !c.is_alphanumeric());
    let blank = |c: char| c.is_whitespace() || c == super::vocabulary::SPACE_CHAR;
    sign(text.chars().next())
        && sign(text.chars().next_back())
        && text.contains(char::is_alphanumeric)
        && !text.contains(blank)
}

impl Tokenizer {
    /// The user-defined tokens that a template writes as marks: those in its `source`, and of them, those around a
    /// user's `turn` as it writes one, which are not the assistant's either. None if there are none.
    ///
    /// # Errors
    /// [`crate::Error::Tokenizer`] if the tokens are too many or too long.
    pub fn marks(&self, source: &str, turn: &str) -> Result<Option<Arc<Marks>>> {
        let mut any = false;
        let marks = self.special.reclassed(|entry| {
            let text = entry.text.as_str();
            let class = match entry.class {
                Class::Text if is_mark(text) && turn.contains(text) => Class::Control,
                Class::Text if is_mark(text) && source.contains(text) => Class::Mark,
                class => class,
            };
            any |= class != entry.class;
            class
        });
        Ok(if any { Some(Arc::new(Marks(marks?))) } else { None })
    }

    /// The control tokens that `contents` of a text spell, and that stay text: the id of each.
    pub fn spelled(&self, text: &str, contents: &Contents) -> Vec<u32> {
        let control = |id: &u32| self.types.get(*id as usize) == Some(&TokenType::Control);
        self.special.spelled(text, &contents.pieces).into_iter().map(|entry| entry.id).filter(control).collect()
    }
}

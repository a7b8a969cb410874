//! Where any of many texts end in a text.

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;

use crate::{Error, Result};

/// Searches for many texts at once.
pub(super) struct Matcher {
    automaton: Option<NFA>,
    /// The number that each text was given with.
    entries: Vec<u32>,
}

/// All texts that end at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State(StateID);

/// A text that ends at a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Match {
    /// Its number.
    pub(super) entry: u32,
    /// Its length in bytes.
    pub(super) length: usize,
}

impl Matcher {
    /// Of texts with their numbers.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if they are too many or too long.
    pub(super) fn new<'t>(texts: impl Iterator<Item = (u32, &'t str)>) -> Result<Self> {
        let (entries, texts): (Vec<u32>, Vec<&str>) = texts.unzip();
        if entries.is_empty() {
            return Ok(Matcher { automaton: None, entries });
        }
        let automaton = NFA::new(texts).map_err(|e| Error::Tokenizer(format!("added tokens: {e}").into()))?;
        Ok(Matcher { automaton: Some(automaton), entries })
    }

    /// Calls `each` with every place where one or more of the texts end.
    pub(super) fn each_end(&self, text: &str, mut each: impl FnMut(usize, State)) {
        let Some(automaton) = &self.automaton else { return };
        let Ok(mut state) = automaton.start_state(Anchored::No) else { return };
        for (at, &byte) in text.as_bytes().iter().enumerate() {
            state = automaton.next_state(Anchored::No, state, byte);
            if automaton.is_match(state) {
                each(at + 1, State(state));
            }
        }
    }

    /// The text number `index` of those that end at a place: the longest is the first.
    fn hit(&self, automaton: &NFA, State(state): State, index: usize) -> Match {
        let pattern = automaton.match_pattern(state, index);
        Match { entry: self.entries[pattern.as_usize()], length: automaton.pattern_len(pattern) }
    }

    /// The texts that end at a place, the longest first.
    pub(super) fn hits(&self, state: State) -> impl Iterator<Item = Match> + '_ {
        let automaton = self.automaton.as_ref();
        let count = automaton.map_or(0, |automaton| automaton.match_len(state.0));
        (0..count).filter_map(move |index| automaton.map(|automaton| self.hit(automaton, state, index)))
    }

    /// The longest text of at most `room` bytes that ends at a place.
    pub(super) fn longest(&self, state: State, room: usize) -> Option<Match> {
        let automaton = self.automaton.as_ref()?;
        let (mut low, mut high) = (0, automaton.match_len(state.0));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.hit(automaton, state, middle).length > room { low = middle + 1 } else { high = middle }
        }
        (low < automaton.match_len(state.0)).then(|| self.hit(automaton, state, low))
    }
}

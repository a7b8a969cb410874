//! The text of an answer while it comes: whole characters only, up to the first stop text.

use crate::tokenizer::TextStream;

/// Text that grows by tokens. The end of it is held back while it could become a stop text.
pub(super) struct Text<'a> {
    stream: TextStream<'a>,
    stops: &'a [String],
    text: String,
    shown: usize,
    /// A stop text came.
    pub stopped: bool,
}

impl<'a> Text<'a> {
    pub fn new(stream: TextStream<'a>, stops: &'a [String]) -> Self {
        Self { stream, stops, text: String::new(), shown: 0, stopped: false }
    }

    /// Takes a token and returns what can be shown now.
    pub fn push(&mut self, id: u32) -> String {
        if let Some(piece) = self.stream.push(id) {
            self.text += &piece;
            self.stopped = cut(&mut self.text, self.stops);
        }
        let held = if self.stopped { 0 } else { undecided(&self.text, self.stops) };
        self.show(self.text.len() - held)
    }

    /// What was held back.
    pub fn finish(&mut self) -> String {
        if !self.stopped {
            self.text.extend(self.stream.finish());
            self.stopped = cut(&mut self.text, self.stops);
        }
        self.show(self.text.len())
    }

    /// The text without the stop text and what followed it.
    pub fn into_text(self) -> String {
        self.text
    }

    fn show(&mut self, to: usize) -> String {
        let fresh = self.text.get(self.shown..to).unwrap_or_default().to_owned();
        self.shown = self.shown.max(to);
        fresh
    }
}

/// Cuts `text` before the first stop text in it; says whether there was one.
fn cut(text: &mut String, stops: &[String]) -> bool {
    let found = stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min();
    if let Some(at) = found {
        text.truncate(at);
    }
    found.is_some()
}

/// Bytes at the end of `text` that begin a stop text.
fn undecided(text: &str, stops: &[String]) -> usize {
    let begins = |stop: &String| {
        let ends = stop.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
        ends.filter(|at| text.ends_with(&stop[..*at])).max()
    };
    stops.iter().filter_map(begins).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_text_is_cut_and_its_beginning_held_back() {
        let stops = ["END".to_owned(), "\n\n".to_owned(), String::new()];
        let mut text = "one EN".to_owned();
        assert!(!cut(&mut text, &stops));
        assert_eq!(undecided(&text, &stops), 2);
        text += "D two";
        assert!(cut(&mut text, &stops));
        assert_eq!(text, "one ");
        assert_eq!(undecided("a\n", &stops), 1);
        assert_eq!(undecided("naï", &stops), 0);
    }
}

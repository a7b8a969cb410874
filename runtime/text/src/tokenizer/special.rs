//! Finding whole tokens in a text: control tokens, user-defined tokens, and the white space that goes with them.
//!
//! As llama.cpp does (`tokenizer_st_partition`): the longest token first, wherever it stands, then the next in what is
//! left. That is not the same as taking the longest at each place from left to right. Each place where a token ends is
//! looked at once, with the longest token that ends there; where that one does not fit, with the longest that does. So
//! the time is that of sorting the places, however many tokens there are and however much they are alike.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

use super::contents::Content;
use super::matcher::{Matcher, State};
use super::vocabulary::{Strips, TokenType};
use crate::Result;

/// Whose bytes a token may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Structure: of no message. It is looked for only where the caller says that the text has some.
    Control,
    /// Text to the model's file, but the chat template writes it as structure: the assistant's.
    Mark,
    /// Text: everybody's.
    Text,
}

impl Class {
    /// All of them.
    const ALL: [Class; 3] = [Class::Control, Class::Mark, Class::Text];

    /// Whether a token of this class has no bytes of `content`.
    fn avoids(self, content: &Content) -> bool {
        match self {
            Class::Control => true,
            Class::Mark => !content.answer,
            Class::Text => false,
        }
    }
}

/// A token that is matched whole.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: u32,
    pub(super) text: String,
    pub(super) class: Class,
    /// White space before it belongs to it.
    pub(super) lstrip: bool,
    /// White space after it belongs to it.
    pub(super) rstrip: bool,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fragment {
    /// Text to be encoded: a range of bytes, never empty.
    Text(Range<usize>),
    /// A token.
    Token(u32),
}

/// Which tokens are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Control tokens too.
    pub(super) control: bool,
    /// Bytes that messages brought in, in order.
    pub(super) contents: &'a [Content],
}

/// All tokens that are matched whole.
pub(super) struct Special {
    /// The longest first.
    entries: Vec<Entry>,
    /// For each class of [`Class::ALL`].
    matchers: [Matcher; 3],
}

/// A token at a place, in the order in which they are taken: the longest first, then from left to right.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Index into the entries.
    rank: u32,
    start: usize,
    end: usize,
    /// Index into the classes.
    class: usize,
    state: State,
}

/// A token that is taken, with the white space that goes with it.
struct Taken {
    end: usize,
    id: u32,
}

impl Special {
    /// Prepares the search.
    ///
    /// # Errors
    /// [`crate::Error::Tokenizer`] if the tokens are too many or too long.
    pub(super) fn new(mut entries: Vec<Entry>) -> Result<Self> {
        entries.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then(a.id.cmp(&b.id)));
        let matcher = |class: Class| {
            let of = (0..entries.len()).filter(|&i| entries[i].class == class);
            Matcher::new(of.map(|i| (i as u32, entries[i].text.as_str())))
        };
        let [control, mark, text] = Class::ALL.map(matcher);
        let matchers = [control?, mark?, text?];
        Ok(Special { entries, matchers })
    }

    /// The same tokens with other classes.
    ///
    /// # Errors
    /// As [`Special::new`].
    pub(super) fn reclassed(&self, mut class: impl FnMut(&Entry) -> Class) -> Result<Self> {
        Special::new(self.entries.iter().map(|entry| Entry { class: class(entry), ..entry.clone() }).collect())
    }

    /// The tokens.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Cuts `text` at the tokens in it.
    pub(super) fn partition(&self, text: &str, wanted: Wanted) -> Vec<Fragment> {
        let mut out = Vec::new();
        let mut at = 0;
        for (start, Taken { end, id }) in self.taken(text, wanted) {
            if at < start {
                out.push(Fragment::Text(at..start));
            }
            out.push(Fragment::Token(id));
            at = end;
        }
        if at < text.len() {
            out.push(Fragment::Text(at..text.len()));
        }
        out
    }

    /// The control tokens that messages spell and that are no tokens for it, by entry and in order.
    pub(super) fn spelled(&self, text: &str, contents: &[Content]) -> Vec<&Entry> {
        let matcher = &self.matchers[0];
        let mut found = Vec::new();
        let mut from = 0;
        matcher.each_end(text, |end, state| {
            let hidden = |start: usize| overlap(contents, start..end, Class::Control);
            let hits = matcher.hits(state).filter(|hit| end - hit.length >= from && hidden(end - hit.length));
            if let Some(hit) = hits.max_by_key(|hit| hit.length) {
                found.push(&self.entries[hit.entry as usize]);
                from = end;
            }
        });
        found
    }

    /// The tokens in `text`, by their first bytes.
    fn taken(&self, text: &str, wanted: Wanted) -> BTreeMap<usize, Taken> {
        let avoided = Class::ALL.map(|class| {
            let contents = wanted.contents.iter().filter(|content| class.avoids(content));
            contents.map(|content| content.range.clone()).collect::<Vec<_>>()
        });
        let mut queue = self.candidates(text, wanted.control);
        let mut taken: BTreeMap<usize, Taken> = BTreeMap::new();
        while let Some(Reverse(found)) = queue.pop() {
            let Candidate { rank, start, end, class, state } = found;
            let free = taken.range(..end).next_back().map_or(0, |(_, before)| before.end);
            let floor = free.max(content_end(&avoided[class], end));
            if floor >= end {
                continue;
            }
            if start < floor {
                // The longest token that ends here and fits.
                if let Some(hit) = self.matchers[class].longest(state, end - floor) {
                    let start = end - hit.length;
                    queue.push(Reverse(Candidate { rank: hit.entry, start, end, class, state }));
                }
                continue;
            }
            let Entry { id, lstrip, rstrip, .. } = self.entries[rank as usize];
            let next = taken.range(end..).next().map_or(text.len(), |(&start, _)| start);
            let begin = if lstrip { free + text[free..start].trim_end_matches(is_space).len() } else { start };
            let after = if rstrip { next - text[end..next].trim_start_matches(is_space).len() } else { end };
            taken.insert(begin, Taken { end: after, id });
        }
        taken
    }

    /// For each place the longest token of each class that ends there.
    fn candidates(&self, text: &str, control: bool) -> BinaryHeap<Reverse<Candidate>> {
        let searched = || self.matchers.iter().enumerate().filter(|(class, _)| control || *class > 0);
        let mut count = 0;
        searched().for_each(|(_, matcher)| matcher.each_end(text, |_, _| count += 1));
        let mut list = Vec::with_capacity(count);
        for (class, matcher) in searched() {
            matcher.each_end(text, |end, state| {
                if let Some(hit) = matcher.longest(state, end) {
                    list.push(Reverse(Candidate { rank: hit.entry, start: end - hit.length, end, class, state }));
                }
            });
        }
        BinaryHeap::from(list)
    }
}

/// A place where a text can be cut: the ids of both sides together are those of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The byte, at which an added token begins.
    pub at: usize,
    /// This much of the text must be as it is; what follows can be anything.
    pub until: usize,
}

/// A token that is somewhere in a text, whether or not it is taken.
struct Hit {
    start: usize,
    end: usize,
    entry: u32,
}

impl Special {
    /// Places where `text` can be cut, in order: an added token begins there, and nothing that could be one reaches
    /// into it from either side. None if that takes too long to find out.
    pub(super) fn cuts(&self, text: &str, contents: &[Content]) -> Vec<Cut> {
        let mut found: Vec<Hit> = Vec::new();
        let limit = text.len() / 2 + 64;
        for matcher in &self.matchers {
            matcher.each_end(text, |end, state| {
                let room = (limit + 1).saturating_sub(found.len());
                let hits = matcher.hits(state).take(room);
                found.extend(hits.map(|hit| Hit { start: end - hit.length, end, entry: hit.entry }));
            });
        }
        if found.len() > limit {
            return Vec::new();
        }
        // The longest of those that begin together comes first.
        found.sort_unstable_by_key(|hit| (hit.start, usize::MAX - hit.end, hit.entry));
        let longest = self.entries.first().map_or(0, |entry| entry.text.len());
        let mut cuts = Vec::new();
        let mut rest = &found[..];
        while let Some(&Hit { start, end, entry }) = rest.first() {
            let mut reach = end;
            let overlapping = rest.iter().take_while(|hit| {
                let touches = hit.start < reach;
                reach = if touches { reach.max(hit.end) } else { reach };
                touches
            });
            rest = &rest[overlapping.count()..];
            let (entry, whole) = (&self.entries[entry as usize], reach == end);
            let hidden = overlap(contents, start..end, entry.class);
            // White space at its ends could go with a neighbour.
            let bare = !entry.text.starts_with(is_space) && !entry.text.ends_with(is_space) && !entry.lstrip;
            if whole && !hidden && bare {
                cuts.push(Cut { at: start, until: end + longest });
            }
        }
        cuts
    }
}

/// Where the last of `contents` that begins before byte `end` ends.
fn content_end(contents: &[Range<usize>], end: usize) -> usize {
    let count = contents.partition_point(|content| content.start < end);
    contents[..count].last().map_or(0, |content| content.end)
}

/// Whether one of `contents` that a token of `class` avoids has bytes of `range`.
fn overlap(contents: &[Content], range: Range<usize>, class: Class) -> bool {
    let next = contents.partition_point(|content| content.range.end <= range.start);
    contents[next..].iter().take_while(|content| content.range.start < range.end).any(|content| class.avoids(content))
}

/// C's `isspace`.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// A token of Phi-3's tokenizer and of no other: its added tokens take the white space after them, which files
/// without keys for it do not say.
pub const PHI3_MARK: &str = "<|placeholder1|>";

/// The tokens that are matched whole; `strips` are the ids that the file names. Other programs' files name none, so
/// that the few tokenizers that need it are known by what they are.
pub(super) fn entries(tokens: &[String], types: &[TokenType], strips: Option<&Strips>, pre: &str) -> Vec<Entry> {
    let phi3 = strips.is_none() && tokens.iter().any(|text| text == PHI3_MARK);
    let mask = match pre {
        "jina-v2-de" | "jina-v2-es" | "jina-v2-code" => Some("<mask>"),
        _ => None,
    };
    let named = |id: u32, list: fn(&Strips) -> &Vec<u32>| strips.is_some_and(|strips| list(strips).contains(&id));
    let entry = |(id, (text, ty)): (usize, (&String, &TokenType))| {
        let whole = matches!(ty, TokenType::Control | TokenType::Unknown | TokenType::UserDefined);
        let id = id as u32;
        (whole && !text.is_empty()).then(|| Entry {
            id,
            text: text.clone(),
            class: if *ty == TokenType::UserDefined { Class::Text } else { Class::Control },
            lstrip: mask == Some(text.as_str()) || named(id, |strips| &strips.left),
            rstrip: phi3 && !["<unk>", "<s>", "<|endoftext|>"].contains(&text.as_str())
                || named(id, |strips| &strips.right),
        })
    };
    tokens.iter().zip(types).enumerate().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special(list: &[(&str, bool)]) -> Special {
        let entry = |(id, (text, control)): (usize, &(&str, bool))| Entry {
            id: id as u32,
            text: (*text).to_owned(),
            class: if *control { Class::Control } else { Class::Text },
            lstrip: false,
            rstrip: *control,
        };
        Special::new(list.iter().enumerate().map(entry).collect()).unwrap()
    }

    fn of(range: Range<usize>) -> Content {
        Content { range, answer: false }
    }

    const ALL: Wanted = Wanted { control: true, contents: &[] };

    #[test]
    fn the_longest_token_wins_even_where_another_begins_before_it() {
        let special = special(&[("ab", false), ("bcd", false)]);
        assert_eq!(special.partition("abcd", ALL), [Fragment::Text(0..1), Fragment::Token(1)]);
        assert_eq!(special.partition("abab", ALL), [Fragment::Token(0), Fragment::Token(0)]);
        assert_eq!(special.partition("", ALL), []);
    }

    #[test]
    fn white_space_goes_with_the_token_that_strips_it() {
        let special = special(&[("<e>", true)]);
        let expected = [Fragment::Text(0..2), Fragment::Token(0), Fragment::Text(7..8)];
        assert_eq!(special.partition("a <e>\n b", ALL), expected);
        assert_eq!(special.partition("<e> \t", ALL), [Fragment::Token(0)]);
    }

    #[test]
    fn contents_hide_control_tokens_only() {
        let special = special(&[("<e>", true), ("<u>", false)]);
        let wanted = Wanted { control: true, contents: &[of(0..3), of(5..6)] };
        let expected = [Fragment::Text(0..3), Fragment::Token(1), Fragment::Token(0)];
        assert_eq!(special.partition("<e><u><e>", wanted), expected);
        let none = Wanted { control: false, contents: &[] };
        assert_eq!(special.partition("<e>", none), [Fragment::Text(0..3)]);
        // A token that is only partly content is text, too, wherever the content begins.
        for contents in [0..1, 1..2, 2..3, 0..2, 1..9] {
            let wanted = Wanted { control: true, contents: &[of(contents)] };
            assert_eq!(special.partition("<e>", wanted), [Fragment::Text(0..3)]);
        }
        assert_eq!(special.partition("<e>x", Wanted { control: true, contents: &[of(3..4)] })[0], Fragment::Token(0));
    }

    #[test]
    fn marks_of_a_template_are_text_only_for_the_assistant() {
        let special = special(&[("<m>", false)]).reclassed(|_| Class::Mark).unwrap();
        let text = "<m><m><m>";
        let contents = [of(0..3), Content { range: 3..6, answer: true }];
        let expected = [Fragment::Text(0..3), Fragment::Token(0), Fragment::Token(0)];
        assert_eq!(special.partition(text, Wanted { control: true, contents: &contents }), expected);
    }

    #[test]
    fn shorter_tokens_fill_what_longer_ones_leave() {
        let special = special(&[("a", false), ("aa", false), ("aaaa", false), ("caaaa", true)]);
        let ids = |text: &str| special.partition(text, ALL);
        assert_eq!(ids("caaaaaaa"), [3, 1, 0].map(Fragment::Token));
        assert_eq!(ids("aaaaaaa"), [2, 1, 0].map(Fragment::Token));
    }

    /// 40,000 tokens that all occur, and a thousand that are prefixes of each other: sorting, not squaring.
    #[test]
    fn many_tokens_and_tokens_alike_take_little_time() {
        let many: Vec<String> = (0..40_000).map(|i| format!("<{i}>")).collect();
        let alike: Vec<String> = (1..1000).map(|i| "a".repeat(i)).collect();
        for (tokens, text) in [(&many, many.concat()), (&alike, "a".repeat(200_000))] {
            let list: Vec<(&str, bool)> = tokens.iter().map(|text| (text.as_str(), false)).collect();
            let special = special(&list);
            let started = std::time::Instant::now();
            let fragments = special.partition(&text, ALL);
            assert!(started.elapsed().as_secs_f64() < 2.0, "{:?}", started.elapsed());
            assert!(fragments.iter().all(|fragment| matches!(fragment, Fragment::Token(_))));
        }
    }

    #[test]
    fn control_tokens_in_messages_are_told() {
        let special = special(&[("<e>", true), ("<ee>", true), ("<u>", false)]);
        let texts = |text: &str, contents: &[Content]| -> Vec<String> {
            special.spelled(text, contents).into_iter().map(|entry| entry.text.clone()).collect()
        };
        assert_eq!(texts("<e><ee><u><e>", &[of(0..7)]), ["<e>", "<ee>"]);
        assert!(texts("<e>", &[]).is_empty());
    }
}

//! Finding whole tokens in a text: control tokens, user-defined tokens, and the white space that goes with them.
//!
//! As llama.cpp does (`tokenizer_st_partition`): the longest token first, wherever it stands, then the next in what is
//! left. That is not the same as taking the longest at each place from left to right.

use std::ops::Range;

use aho_corasick::AhoCorasick;

use super::vocabulary::TokenType;
use crate::{Error, Result};

/// A token that is matched whole.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: u32,
    pub(super) text: String,
    /// Structure, looked for only where the caller says that the text has some.
    pub(super) control: bool,
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
    /// Bytes that messages brought in, in order: no control token has one of them.
    pub(super) contents: &'a [Range<usize>],
}

/// All tokens that are matched whole.
pub(super) struct Special {
    /// The longest first.
    entries: Vec<Entry>,
    control: Matcher,
    user_defined: Matcher,
}

/// Says quickly which of a set of tokens occur in a text at all.
struct Matcher {
    automaton: Option<AhoCorasick>,
    /// Index into the entries per pattern.
    entries: Vec<usize>,
}

impl Matcher {
    fn new(entries: &[Entry], control: bool) -> Result<Self> {
        let chosen: Vec<usize> = (0..entries.len()).filter(|&i| entries[i].control == control).collect();
        if chosen.is_empty() {
            return Ok(Matcher { automaton: None, entries: chosen });
        }
        let automaton = AhoCorasick::new(chosen.iter().map(|&i| &entries[i].text))
            .map_err(|e| Error::Tokenizer(format!("added tokens: {e}").into()))?;
        Ok(Matcher { automaton: Some(automaton), entries: chosen })
    }

    /// Marks the entries that occur in `text`.
    fn look(&self, text: &str, seen: &mut [bool]) {
        let Some(automaton) = &self.automaton else { return };
        let mut left = self.entries.len();
        for found in automaton.find_overlapping_iter(text) {
            let slot = &mut seen[self.entries[found.pattern().as_usize()]];
            left -= usize::from(!*slot);
            *slot = true;
            if left == 0 {
                break;
            }
        }
    }
}

impl Special {
    /// Prepares the search.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokens are too many or too long.
    pub(super) fn new(mut entries: Vec<Entry>) -> Result<Self> {
        entries.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then(a.id.cmp(&b.id)));
        let (control, user_defined) = (Matcher::new(&entries, true)?, Matcher::new(&entries, false)?);
        Ok(Special { entries, control, user_defined })
    }

    /// Cuts `text` at the tokens in it.
    pub(super) fn partition(&self, text: &str, wanted: Wanted) -> Vec<Fragment> {
        let mut seen = vec![false; self.entries.len()];
        self.user_defined.look(text, &mut seen);
        if wanted.control {
            self.control.look(text, &mut seen);
        }
        let mut fragments = if text.is_empty() { Vec::new() } else { vec![Fragment::Text(0..text.len())] };
        for (entry, _) in self.entries.iter().zip(&seen).filter(|(_, seen)| **seen) {
            let mut next = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                match fragment {
                    Fragment::Text(range) => cut(text, range, entry, wanted.contents, &mut next),
                    token => next.push(token),
                }
            }
            fragments = next;
        }
        fragments
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

impl Special {
    /// Places where `text` can be cut, in order: an added token begins there, and nothing that could be one reaches
    /// into it from either side. None if that takes too long to find out.
    pub(super) fn cuts(&self, text: &str, contents: &[Range<usize>]) -> Vec<Cut> {
        let mut found: Vec<(usize, usize, usize)> = Vec::new();
        for matcher in [&self.control, &self.user_defined] {
            for hit in matcher.automaton.iter().flat_map(|automaton| automaton.find_overlapping_iter(text)) {
                if found.len() > text.len() / 2 + 64 {
                    return Vec::new();
                }
                found.push((hit.start(), hit.end(), matcher.entries[hit.pattern().as_usize()]));
            }
        }
        // The longest of those that begin together comes first.
        found.sort_unstable_by_key(|&(start, end, entry)| (start, usize::MAX - end, entry));
        let longest = self.entries.first().map_or(0, |entry| entry.text.len());
        let mut cuts = Vec::new();
        let mut rest = &found[..];
        while let Some(&(start, end, entry)) = rest.first() {
            let mut reach = end;
            let overlapping = rest.iter().take_while(|hit| {
                let touches = hit.0 < reach;
                reach = if touches { reach.max(hit.1) } else { reach };
                touches
            });
            rest = &rest[overlapping.count()..];
            let (entry, whole) = (&self.entries[entry], reach == end);
            let hidden = entry.control && overlap(contents, start..end);
            // White space at its ends could go with a neighbour.
            let bare = !entry.text.starts_with(is_space) && !entry.text.ends_with(is_space) && !entry.lstrip;
            if whole && !hidden && bare {
                cuts.push(Cut { at: start, until: end + longest });
            }
        }
        cuts
    }
}

/// Whether one of `contents` has bytes of `range`.
fn overlap(contents: &[Range<usize>], range: Range<usize>) -> bool {
    let next = contents.partition_point(|content| content.end <= range.start);
    contents.get(next).is_some_and(|content| content.start < range.end)
}

/// Cuts the stretch `range` of `text` at each occurrence of `entry`.
fn cut(text: &str, range: Range<usize>, entry: &Entry, contents: &[Range<usize>], out: &mut Vec<Fragment>) {
    let (mut rest, end) = (range.start, range.end);
    let mut from = rest;
    while let Some(found) = text[from..end].find(&entry.text) {
        let start = from + found;
        if entry.control && overlap(contents, start..start + entry.text.len()) {
            from = start + text[start..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let mut left = &text[rest..start];
        if entry.lstrip {
            left = left.trim_end_matches(is_space);
        }
        if !left.is_empty() {
            out.push(Fragment::Text(rest..rest + left.len()));
        }
        out.push(Fragment::Token(entry.id));
        rest = start + entry.text.len();
        if entry.rstrip {
            rest = end - text[rest..end].trim_start_matches(is_space).len();
        }
        from = rest;
    }
    if rest < end {
        out.push(Fragment::Text(rest..end));
    }
}

/// C's `isspace`.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// The tokens that are matched whole. `name` is `general.name`, `pre` the pre-tokenizer: white space around a token is
/// no part of GGUF, so that llama.cpp goes by the names of the few families that strip it.
pub(super) fn entries(tokens: &[String], types: &[TokenType], name: &str, pre: &str) -> Vec<Entry> {
    let name = name.to_lowercase();
    let phi3 = name.contains("phi-3") || name.contains("phi3");
    let mask = match pre {
        "jina-v2-de" | "jina-v2-es" | "jina-v2-code" => Some("<mask>"),
        _ if name.contains("modern-bert") => Some("[MASK]"),
        _ => None,
    };
    let entry = |(id, (text, ty)): (usize, (&String, &TokenType))| {
        let whole = matches!(ty, TokenType::Control | TokenType::Unknown | TokenType::UserDefined);
        (whole && !text.is_empty()).then(|| Entry {
            id: id as u32,
            text: text.clone(),
            control: *ty != TokenType::UserDefined,
            lstrip: mask == Some(text.as_str()),
            rstrip: phi3 && !["<unk>", "<s>", "<|endoftext|>"].contains(&text.as_str()),
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
            control: *control,
            lstrip: false,
            rstrip: *control,
        };
        Special::new(list.iter().enumerate().map(entry).collect()).unwrap()
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
        let wanted = Wanted { control: true, contents: &[0..3, 5..6] };
        let expected = [Fragment::Text(0..3), Fragment::Token(1), Fragment::Token(0)];
        assert_eq!(special.partition("<e><u><e>", wanted), expected);
        let none = Wanted { control: false, contents: &[] };
        assert_eq!(special.partition("<e>", none), [Fragment::Text(0..3)]);
        // A token that is only partly content is text, too, wherever the content begins.
        for contents in [0..1, 1..2, 2..3, 0..2, 1..9] {
            let wanted = Wanted { control: true, contents: &[contents] };
            assert_eq!(special.partition("<e>", wanted), [Fragment::Text(0..3)]);
        }
        assert_eq!(
            special.partition("<e>x", Wanted { control: true, contents: std::slice::from_ref(&(3..4)) })[0],
            Fragment::Token(0)
        );
    }
}

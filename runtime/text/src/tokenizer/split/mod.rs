//! Pre-tokenizers: how text is cut into pieces before byte-pair merges, by `tokenizer.ggml.pre`.
//!
//! The patterns ([`table`]) run on a linear-time engine: a backtracking one overflows or gives up on long runs of one
//! character. What needs look-ahead is not left to it: the end of a run of white space is a [`Tail`], groups of digits
//! are cut by [`digits`].

mod digits;
mod table;

use regex_automata::{Input, meta::Regex};

use crate::error::TokenizerProblem;
use crate::{Error, Result};
use table::{Stage, TABLE, Tail};

pub(super) use table::{Alphabet, PreTokenizer};

/// Looks up `tokenizer.ggml.pre`.
pub(super) fn find(name: &str) -> Result<&'static PreTokenizer> {
    TABLE.iter().find(|entry| entry.names.contains(&name)).ok_or_else(|| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        // All of them would hide the name that matters; one per group of equal splits tells the kinds.
        let known: Vec<&str> = TABLE.iter().filter_map(|entry| entry.names.first()).copied().collect();
        let known = format!("{} and other names for the same splits", known.join(", "));
        Error::Tokenizer(TokenizerProblem::UnknownPreTokenizer { found: shown, known })
    })
}

/// All names that [`find`] knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|entry| entry.names).copied()
}

/// A compiled pre-tokenizer.
pub(super) struct Splitter {
    passes: Vec<Pass>,
}

/// A compiled stage.
enum Pass {
    Pattern(Regex, Tail),
    Digits(table::Digits),
}

/// Pattern id of the white-space alternative in a stage that has one.
const SPACES: usize = 1;

impl Splitter {
    pub(super) fn new(pre: &PreTokenizer) -> Result<Self> {
        let compile = |stage: &Stage| {
            let (pattern, tail) = match stage {
                Stage::Pattern(pattern, tail) => (pattern, *tail),
                Stage::Digits(rule) => return Ok(Pass::Digits(*rule)),
            };
            let patterns = if tail == Tail::None { vec![*pattern] } else { vec![*pattern, r"\s+"] };
            let regex = Regex::new_many(&patterns)
                .map_err(|e| Error::Tokenizer(format!("pre-tokenizer pattern: {e}").into()))?;
            Ok(Pass::Pattern(regex, tail))
        };
        Ok(Splitter { passes: pre.stages.iter().map(compile).collect::<Result<_>>()? })
    }

    /// Cuts `text` into pieces: a partition, in order, without empty pieces. Time is linear in the length of the text.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut pieces = if text.is_empty() { Vec::new() } else { vec![text] };
        for pass in &self.passes {
            let mut next = Vec::with_capacity(pieces.len());
            for piece in pieces {
                match pass {
                    Pass::Pattern(regex, tail) => split_piece(regex, *tail, piece, &mut next),
                    Pass::Digits(rule) => digits::cut(*rule, piece, &mut next),
                }
            }
            pieces = next;
        }
        pieces
    }
}

fn split_piece<'t>(regex: &Regex, tail: Tail, piece: &'t str, out: &mut Vec<&'t str>) {
    let mut done = 0;
    let mut at = 0;
    while let Some(found) = regex.find(Input::new(piece).range(at..)) {
        let (start, mut end) = (found.start(), found.end());
        if start > done {
            out.push(&piece[done..start]);
        }
        let spaces = tail != Tail::None && found.pattern().as_usize() == SPACES;
        if spaces && end < piece.len() {
            // `\s+(?!\S)`: the run ends before a word, so its last character goes with the word, if it has two.
            let last = piece[start..end].chars().next_back().map_or(0, char::len_utf8);
            if end - last > start {
                end -= last;
            }
        }
        if spaces && tail == Tail::Powers {
            push_powers(&piece[start..end], out);
        } else if end > start {
            // No pattern of the table matches the empty string; should one ever, it must not loop.
            out.push(&piece[start..end]);
        }
        done = end;
        at = end.max(at + 1);
        if at > piece.len() || !piece.is_char_boundary(at) {
            break;
        }
    }
    if done < piece.len() {
        out.push(&piece[done..]);
    }
}

/// White space in pieces of 512, 256, .. 4, 2 and 1 characters, the largest first.
fn push_powers<'t>(mut run: &'t str, out: &mut Vec<&'t str>) {
    let mut left = run.chars().count();
    for size in [512, 256, 128, 64, 32, 16, 8, 4, 2, 1] {
        while left >= size {
            let end = run.char_indices().nth(size).map_or(run.len(), |(at, _)| at);
            out.push(&run[..end]);
            run = &run[end..];
            left -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        Splitter::new(find(name).unwrap()).unwrap().split(text)
    }

    #[test]
    fn white_space_leaves_its_last_character_to_the_word() {
        assert_eq!(pieces("gpt-2", "a   b"), ["a", "  ", " b"]);
        assert_eq!(pieces("gpt-2", "a   "), ["a", "   "]);
        assert_eq!(pieces("gpt-2", "a\n\nb"), ["a", "\n", "\n", "b"]);
        assert_eq!(pieces("gpt-2", "a\nb"), ["a", "\n", "b"]);
        assert_eq!(pieces("llama-bpe", "a \n\n  b"), ["a", " \n\n", " ", " b"]);
    }

    #[test]
    fn digits_and_contractions() {
        assert_eq!(pieces("gpt-2", "it's 1234!"), ["it", "'s", " 1234", "!"]);
        assert_eq!(pieces("smollm", "x 12"), ["x", " ", "1", "2"]);
        assert_eq!(pieces("llama-bpe", "IT'S 12345"), ["IT", "'S", " ", "123", "45"]);
        assert_eq!(pieces("qwen2", "12"), ["1", "2"]);
    }

    #[test]
    fn letters_of_other_case_begin_words() {
        assert_eq!(pieces("tekken", "HelloWorld's"), ["Hello", "World", "'s"]);
        assert_eq!(pieces("gpt-4o", "HelloWorld's 1234"), ["Hello", "World's", " ", "123", "4"]);
        assert_eq!(pieces("kimi-k2", "a漢字b's"), ["a", "漢字", "b's"]);
    }

    #[test]
    fn white_space_in_powers_of_two() {
        assert_eq!(pieces("jais-2", &format!("a{}b", " ".repeat(8)))[1..], ["    ", "  ", " ", " b"]);
        assert_eq!(pieces("jais-2", &" ".repeat(515)).iter().map(|p| p.len()).collect::<Vec<_>>(), [512, 2, 1]);
        let long = " ".repeat(5_000_000);
        assert_eq!(pieces("jais-2", &long).concat(), long);
    }

    #[test]
    fn pieces_are_a_partition() {
        let text = "Ünïcode \t\r\n漢字 12.5€ -- don't\u{200d}🚀\u{0}  ";
        for entry in TABLE {
            for name in entry.names {
                let cut = pieces(name, text);
                assert_eq!(cut.concat(), text, "{name}");
                assert!(cut.iter().all(|p| !p.is_empty()), "{name}");
            }
        }
    }

    #[test]
    fn unknown_name_is_an_error_without_control_characters() {
        let error = find("evil\u{1b}[2J").err().unwrap().to_string();
        assert!(error.contains("unknown pre-tokenizer") && !error.contains('\u{1b}'), "{error}");
    }
}

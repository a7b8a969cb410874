//! Pre-tokenizers: how text is cut into pieces before byte-pair merges, by `tokenizer.ggml.pre`.
//!
//! The patterns are those of the models' own tokenizers (the names are those of the table in llama.cpp's
//! `llama-vocab.cpp`). They run on a linear-time engine: a backtracking one overflows or gives up on
//! long runs of one character. The one construct that needs look-ahead, `\s+(?!\S)|\s+`, is a flag of the stage instead.

use regex_automata::{Input, meta::Regex};

use crate::{Error, Result};

/// One pass over the pieces: every match becomes a piece, and so does the text between matches.
struct Stage {
    /// A pattern without look-around.
    pattern: &'static str,
    /// Whether `\s+(?!\S)|\s+` follows as the last alternatives: white space before a word leaves it its last one.
    spaces: bool,
}

/// What a name in `tokenizer.ggml.pre` stands for.
pub(super) struct PreTokenizer {
    /// Names in GGUF files.
    names: &'static [&'static str],
    /// Passes in order.
    stages: &'static [Stage],
    /// A piece that is a token is taken as it is, without merges.
    pub(super) ignore_merges: bool,
    /// Whether BOS is put in front when the file does not say.
    pub(super) add_bos: bool,
}

const fn stage(pattern: &'static str) -> Stage {
    Stage { pattern, spaces: false }
}

const fn spaced(pattern: &'static str) -> Stage {
    Stage { pattern, spaces: true }
}

const fn plain(names: &'static [&'static str], stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer { names, stages, ignore_merges: false, add_bos: false }
}

const GPT2: Stage = spaced(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+");
const LLAMA3: Stage = spaced(concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
));
const QWEN2: Stage = spaced(concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
));
const CJK: Stage = stage(r"[\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+");

/// The names that are known. Anything else is an error: wrong pieces give wrong tokens without a sign.
static TABLE: &[PreTokenizer] = &[
    plain(&["gpt-2", "mpt", "olmo", "jais", "phi-2", "trillion", "granite-docling"], &[GPT2]),
    plain(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        &[stage(r"\p{N}"), GPT2],
    ),
    plain(&["qwen2", "stablelm2", "hunyuan", "megrez", "deepseek-r1-qwen"], &[QWEN2]),
    plain(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3]),
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        stages: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    plain(&["deepseek-coder"], &[stage(r"[\r\n]"), stage(r"\s?\p{L}+"), stage(r"\s?\p{P}+"), CJK, stage(r"\p{N}")]),
    plain(&["falcon"], &[stage(r"[\p{P}\$\+<=>\^~\|`]+"), GPT2, stage(r"[0-9][0-9][0-9]")]),
    plain(&["default"], &[stage(r"[\p{P}\$\+<=>\^~\|]+"), GPT2, stage(r"\p{N}+"), stage(r"[0-9][0-9][0-9]")]),
];

/// Looks up `tokenizer.ggml.pre`.
pub(super) fn find(name: &str) -> Result<&'static PreTokenizer> {
    TABLE.iter().find(|entry| entry.names.contains(&name)).ok_or_else(|| {
        let known: Vec<&str> = TABLE.iter().flat_map(|entry| entry.names).copied().collect();
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        Error::Tokenizer(format!("unknown pre-tokenizer {shown:?} in tokenizer.ggml.pre; known: {}", known.join(", ")))
    })
}

/// A compiled pre-tokenizer.
pub(super) struct Splitter {
    stages: Vec<(Regex, bool)>,
}

/// Pattern id of the white-space alternative in a stage that has one.
const SPACES: usize = 1;

impl Splitter {
    pub(super) fn new(pre: &PreTokenizer) -> Result<Self> {
        let compile = |stage: &Stage| {
            let patterns = if stage.spaces { vec![stage.pattern, r"\s+"] } else { vec![stage.pattern] };
            let regex =
                Regex::new_many(&patterns).map_err(|e| Error::Tokenizer(format!("pre-tokenizer pattern: {e}")))?;
            Ok((regex, stage.spaces))
        };
        Ok(Splitter { stages: pre.stages.iter().map(compile).collect::<Result<_>>()? })
    }

    /// Cuts `text` into pieces: a partition, in order, without empty pieces. Time is linear in the length of the text.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut pieces = if text.is_empty() { Vec::new() } else { vec![text] };
        for (regex, spaces) in &self.stages {
            let mut next = Vec::with_capacity(pieces.len());
            for piece in pieces {
                split_piece(regex, *spaces, piece, &mut next);
            }
            pieces = next;
        }
        pieces
    }
}

fn split_piece<'t>(regex: &Regex, spaces: bool, piece: &'t str, out: &mut Vec<&'t str>) {
    let mut done = 0;
    let mut at = 0;
    while let Some(found) = regex.find(Input::new(piece).range(at..)) {
        let (start, mut end) = (found.start(), found.end());
        if spaces && found.pattern().as_usize() == SPACES && end < piece.len() {
            // `\s+(?!\S)`: the run ends before a word, so its last character goes with the word, if it has two.
            let last = piece[start..end].chars().next_back().map_or(0, char::len_utf8);
            if end - last > start {
                end -= last;
            }
        }
        if start > done {
            out.push(&piece[done..start]);
        }
        // No pattern of the table matches the empty string; should one ever, it must not loop.
        if end > start {
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

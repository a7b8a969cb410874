//! What each name in `tokenizer.ggml.pre` stands for: names and patterns as llama.cpp's `llama-vocab.cpp` and
//! `unicode.cpp` apply them.
//!
//! llama.cpp applies most patterns to a text whose characters stand for their general category, and the others to one
//! without white space beyond ASCII. What they match in effect is written here: `\p{Lu}` and its like are all letters,
//! `\d` and `[a-z]` are ASCII, white space is in no range of characters. Look-ahead inside a class became a difference
//! of classes; look-ahead at the end became a [`Tail`].

/// What follows the alternatives of a pattern: how a run of white space is cut that they do not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing.
    None,
    /// `\s+(?!\S)|\s+`: white space before a word leaves the word its last character, if there are two.
    Spaces,
    /// `\s{512}(?!\S)|\s{256}(?!\S)|...|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}`: the same in pieces of powers of two.
    Powers,
}

/// How runs of digits are cut; no pattern without look-ahead can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digits {
    /// `(?=(\d{3})+(?!\d))`: before each place that has a multiple of three digits left.
    BeforeThrees,
    /// `\d{1,3}(?=(?:\d{3})*\b)`: groups of three from the right, if no letter follows.
    Groups,
    /// Groups of three from the right; what stands before a run stays with its first one or two digits.
    AfterFirst,
}

/// One pass over the pieces.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    /// Every match becomes a piece, and so does the text between matches.
    Pattern(&'static str, Tail),
    /// Runs of digits.
    Digits(Digits),
}

/// What the pieces are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tokenizer) enum Alphabet {
    /// The bytes, each as its character ([`super::super::bytes`]).
    Bytes,
    /// The characters, spaces as U+2581; other bytes are tokens `<0x0A>`.
    Characters,
}

/// What a name in `tokenizer.ggml.pre` stands for.
#[derive(Debug)]
pub(in crate::tokenizer) struct PreTokenizer {
    /// Names in GGUF files.
    pub(super) names: &'static [&'static str],
    /// Passes in order.
    pub(super) stages: &'static [Stage],
    /// A piece that is a token is taken as it is, without merges.
    pub(in crate::tokenizer) ignore_merges: bool,
    /// Whether BOS is put first when the file does not say.
    pub(in crate::tokenizer) add_bos: bool,
    /// What is merged.
    pub(in crate::tokenizer) alphabet: Alphabet,
}

const fn stage(pattern: &'static str) -> Stage {
    Stage::Pattern(pattern, Tail::None)
}

const fn spaced(pattern: &'static str) -> Stage {
    Stage::Pattern(pattern, Tail::Spaces)
}

const fn plain(names: &'static [&'static str], stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer { names, stages, ignore_merges: false, add_bos: false, alphabet: Alphabet::Bytes }
}

/// With tokens that skip the merges.
const fn whole(names: &'static [&'static str], stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer { ignore_merges: true, ..plain(names, stages) }
}

/// With tokens that skip the merges, and BOS first.
const fn whole_with_bos(names: &'static [&'static str], stages: &'static [Stage]) -> PreTokenizer {
    PreTokenizer { add_bos: true, ..whole(names, stages) }
}

macro_rules! contraction {
    () => {
        r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
    };
}
/// Words as Llama 3 and Qwen take them: with one character of another kind before.
macro_rules! word {
    () => {
        r"[^\r\n\p{L}\p{N}]?\p{L}+"
    };
}
/// Punctuation with the line ends after it, then blank lines.
macro_rules! marks_and_lines {
    () => {
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    };
}
/// Words in which a capital letter begins a new one, without (Tekken) or with (GPT-4o) a contraction at the end.
macro_rules! cased {
    ($upper:literal, $lower:literal, $end:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?",
            $upper,
            "*",
            $lower,
            "+",
            $end,
            r"|[^\r\n\p{L}\p{N}]?",
            $upper,
            "+",
            $lower,
            "*",
            $end
        )
    };
}
macro_rules! marks_slash_and_lines {
    () => {
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
    };
}
/// Words as DeepSeek takes them, then line ends.
macro_rules! deepseek_words {
    ($lines:literal) => {
        concat!(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
            r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+",
            $lines
        )
    };
}

const DIGIT: Stage = stage(r"\p{N}");
const DIGITS_3: Stage = stage(r"\p{N}{1,3}");
const GPT2: Stage = spaced(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+");
const LLAMA3: Stage = spaced(concat!(contraction!(), "|", word!(), r"|\p{N}{1,3}", marks_and_lines!()));
const JAIS2: Stage =
    Stage::Pattern(concat!(contraction!(), "|", word!(), r"|\p{N}{1,3}", marks_and_lines!()), Tail::Powers);
const QWEN2: Stage = spaced(concat!(contraction!(), "|", word!(), r"|\p{N}", marks_and_lines!()));
const QWEN35: Stage = spaced(concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
));
const MINICPM5: Stage = spaced(concat!(contraction!(), "|", word!(), r"|\p{N}+", marks_and_lines!()));
const UFAKZEKA: Stage = spaced(concat!(word!(), r"|\p{N}", marks_and_lines!()));
const SEED_CODER: Stage = spaced(concat!(contraction!(), "|", word!(), r"|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+"));
const BAILING: Stage = spaced(concat!(contraction!(), "|", word!(), r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]"));
const EXAONE_MOE: Stage = spaced(concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]"
));
const TEKKEN: Stage =
    spaced(concat!(cased!(r"[\p{L}--a-z]", r"[\p{L}--A-Z]", ""), r"|\p{N}", marks_slash_and_lines!()));
const GPT4O: Stage = spaced(concat!(
    cased!(r"[\p{L}--a-z]", r"[\p{L}--A-Z]", concat!("(?:", contraction!(), ")?")),
    r"|\p{N}{1,3}",
    marks_slash_and_lines!()
));
const GRANITE_EMBEDDING: Stage = spaced(concat!(
    cased!(r"[[\p{L}\p{M}]--a-z]", r"[[\p{L}\p{M}]--A-Z]", concat!("(?:", contraction!(), ")?")),
    r"|\p{N}{1,3}",
    marks_slash_and_lines!()
));
const TINY_AYA: Stage = spaced(concat!(
    cased!(r"[\p{L}\p{M}]", r"[\p{L}\p{M}]", concat!("(?:", contraction!(), ")?")),
    r"|\p{N}{1,3}",
    marks_slash_and_lines!()
));
const YOUTU: Stage = spaced(concat!(
    cased!(r"[\p{L}\p{M}]", r"[\p{L}\p{M}]", concat!("(?:", contraction!(), ")?")),
    r"|\p{N}",
    marks_slash_and_lines!()
));
const DEEPSEEK3: Stage = spaced(deepseek_words!(r"[\r\n]*|\s*[\r\n]+"));
const SPARK: Stage = spaced(deepseek_words!(r"|[\r\n]"));
const LINE_ENDS: Stage = stage(r"[\r\n]");
const LINES: Stage = stage(r"[^\n]+|\n+");
const CJK: Stage = stage(r"[[\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]--\s]+");
const CJK_KANA: Stage = stage(r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+");
const SENTENCES: Stage = stage(r" ?[^(\s|.,!?…。，、।۔،)]+");
/// Without U+3000 in the last range: it is white space.
const DEEPSEEK_MARKS: Stage = stage(r"\s?[!-/:-~！-／：-～‘-‟\x{3001}-。]+");
/// Letters with case, as of an older Unicode.
const DEEPSEEK_LETTERS: Stage = stage(concat!(
    r"\s?[A-Za-z",
    r"\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}",
    r"\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}",
    r"\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}",
    r"\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}",
    r"\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}",
    r"\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}",
    r"\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}",
    r"\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}",
    r"\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}",
    r"\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}",
    r"\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}",
    r"\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}",
    r"\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}",
    r"\x{1e900}-\x{1e943}",
    "]+"
));
const YOUTU_ASIA: Stage =
    stage(r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+");
const AFMOE_ASIA: Stage = stage(concat!(
    r"[\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{f900}-\x{faff}\x{3040}-\x{309f}\x{30a0}-\x{30ff}\x{ff65}-\x{ff9f}",
    r"\x{2f00}-\x{2fdf}\x{0e00}-\x{0e7f}\x{0e80}-\x{0eff}\x{1780}-\x{17ff}\x{1000}-\x{109f}\x{aa60}-\x{aa7f}",
    r"\x{a9e0}-\x{a9ff}\x{ac00}-\x{d7af}\x{1100}-\x{11ff}]+"
));
macro_rules! han {
    () => {
        concat!(
            r"\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{20000}-\x{2a6df}\x{2a700}-\x{2b73f}\x{2b740}-\x{2b81f}",
            r"\x{2b820}-\x{2ceaf}\x{2ceb0}-\x{2ebef}\x{f900}-\x{faff}\x{2f800}-\x{2fa1f}"
        )
    };
}
const KIMI: Stage = spaced(concat!(
    "[",
    han!(),
    r"]+|[^\r\n\p{L}\p{N}]?[\p{L}--[",
    han!(),
    "]]+(?:",
    contraction!(),
    ")?",
    r"|\p{N}{1,3}",
    marks_and_lines!()
));

/// The names that are known. Anything else is an error: wrong pieces give wrong tokens without a sign.
pub(super) static TABLE: &[PreTokenizer] = &[
    plain(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "roberta-bpe",
        ],
        &[GPT2],
    ),
    plain(
        &["starcoder", "smollm", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[DIGIT, GPT2],
    ),
    plain(
        &["qwen2", "stablelm2", "hunyuan", "megrez", "deepseek-r1-qwen", "kormo", "f2llmv2", "solar-open", "grok-2"],
        &[QWEN2],
    ),
    plain(&["qwen35"], &[QWEN35]),
    plain(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[LLAMA3]),
    whole_with_bos(
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        &[LLAMA3],
    ),
    whole_with_bos(&["tekken"], &[TEKKEN]),
    plain(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[GPT4O]),
    plain(&["deepseek-coder"], &[LINE_ENDS, stage(r"\s?\p{L}+"), stage(r"\s?\p{P}+"), CJK, DIGIT]),
    plain(&["deepseek-llm"], &[LINE_ENDS, DEEPSEEK_LETTERS, DEEPSEEK_MARKS, stage(r"\s+$"), CJK, stage(r"\p{N}+")]),
    plain(&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], &[DIGITS_3, CJK_KANA, DEEPSEEK3]),
    plain(&["spark2_5"], &[DIGITS_3, CJK_KANA, SPARK, DIGIT]),
    plain(&["falcon"], &[stage(r"[\p{P}\$\+<=>\^~\|`]+"), GPT2, stage(r"[0-9][0-9][0-9]")]),
    plain(&["default"], &[stage(r"[\p{P}\$\+<=>\^~\|]+"), GPT2, stage(r"\p{N}+"), stage(r"[0-9][0-9][0-9]")]),
    plain(&["poro-chat", "bloom", "gpt3-finnish"], &[SENTENCES]),
    plain(&["viking"], &[SENTENCES, DIGIT]),
    plain(&["jais-2"], &[JAIS2]),
    plain(&["exaone-moe"], &[EXAONE_MOE]),
    plain(&["tiny_aya", "cohere2moe"], &[Stage::Digits(Digits::Groups), TINY_AYA]),
    plain(&["superbpe"], &[stage(r"\p{N}+"), Stage::Digits(Digits::BeforeThrees)]),
    plain(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING]),
    plain(&["seed-coder"], &[SEED_CODER]),
    plain(&["ufakzeka"], &[UFAKZEKA]),
    plain(&["kimi-k2"], &[KIMI]),
    plain(&["afmoe"], &[Stage::Digits(Digits::AfterFirst), AFMOE_ASIA, DEEPSEEK3]),
    plain(&["laguna"], &[LINES, QWEN2]),
    whole(&["youtu"], &[YOUTU_ASIA, YOUTU]),
    whole(&["minicpm5"], &[DIGITS_3, MINICPM5]),
    whole(&["granite-embed-multi-97m"], &[GRANITE_EMBEDDING]),
    PreTokenizer {
        add_bos: true,
        ..plain(
            &["chameleon"],
            &[
                stage("<sentinel:[0-9]+>"),
                stage("IMGIMG[A-I]{1,4}Z"),
                stage(r"[\t\n]|    |  "),
                DIGIT,
                stage(r"[\p{P}!-/:-@\[-`{-~]"),
                GPT2,
            ],
        )
    },
    PreTokenizer {
        add_bos: true,
        alphabet: Alphabet::Characters,
        ..plain(&["gemma4", "granite-embed-multi-311m"], &[LINES])
    },
];

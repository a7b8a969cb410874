//! SentencePiece vocabularies, good, hostile and long. Equality with the `tokenizers` crate is in
//! `tests/tokenizers.rs`.

use super::*;

/// A token of a vocabulary.
struct Entry {
    token: String,
    ty: i32,
    score: f32,
}

fn entry(token: &str, ty: i32, score: f32) -> Entry {
    Entry { token: token.to_owned(), ty, score }
}

/// Unknown, BOS, EOS, the 256 bytes, then `extra`.
fn vocabulary(extra: &[Entry]) -> Vocabulary {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..=255u8).map(vocabulary::byte_token));
    let mut types = vec![2, 3, 3];
    types.resize(tokens.len(), 6);
    let mut scores = vec![0.0; tokens.len()];
    for Entry { token, ty, score } in extra {
        tokens.push(token.clone());
        types.push(*ty);
        scores.push(*score);
    }
    Vocabulary { model: Model::Spm, tokens, types, scores, ..Vocabulary::default() }
}

/// The id of the `index`-th extra token.
const fn extra(index: u32) -> u32 {
    259 + index
}

/// The id of a byte.
const fn byte(value: u8) -> u32 {
    3 + value as u32
}

fn encode(vocabulary: &Vocabulary, text: &str, special: bool) -> Vec<u32> {
    Tokenizer::new(vocabulary.clone()).unwrap().encode(text, special, false).unwrap()
}

#[test]
fn the_highest_score_is_joined_first_and_of_equals_the_first() {
    let v = vocabulary(&[
        entry("a", 1, -9.0),
        entry("b", 1, -9.0),
        entry("ab", 1, -2.0),
        entry("ba", 1, -1.0),
        entry("aa", 1, -3.0),
        entry("▁", 1, -9.0),
    ]);
    let v = Vocabulary { add_space_prefix: Some(false), ..v };
    assert_eq!(encode(&v, "aba", false), [extra(0), extra(3)]);
    assert_eq!(encode(&v, "aaa", false), [extra(4), extra(0)]);
    assert_eq!(encode(&v, "é\n", false), [byte(0xc3), byte(0xa9), byte(b'\n')], "bytes of unknown characters");
    assert_eq!(encode(&v, " ", false), [extra(5)]);
    assert_eq!(encode(&v, "", false), [0; 0]);
}

#[test]
fn a_space_goes_in_front_of_a_text_and_after_added_tokens() {
    let v = vocabulary(&[entry("▁", 1, -9.0), entry("a", 1, -9.0), entry("▁a", 1, -1.0), entry("<u>", 4, 0.0)]);
    let tokenizer = Tokenizer::new(v.clone()).unwrap();
    let (space, a, space_a, user) = (extra(0), extra(1), extra(2), extra(3));
    assert_eq!(tokenizer.encode("a a", false, true).unwrap(), [1, space_a, space_a], "BOS by default");
    assert_eq!(tokenizer.encode("a<u>a</s>a", true, false).unwrap(), [space_a, user, space_a, 2, space_a]);
    assert_eq!(tokenizer.encode_after(&[a], "a").unwrap(), [a]);
    assert_eq!(tokenizer.encode_after(&[user], "a").unwrap(), [space_a]);
    assert_eq!(tokenizer.encode_after(&[], " a").unwrap(), [space, space_a]);
    assert_eq!(tokenizer.decode(&[1, space_a, a, space_a, user, space_a]), "<s>aa a<u>a");
    let without = Vocabulary { add_space_prefix: Some(false), ..v };
    assert_eq!(encode(&without, "a a", false), [a, space_a]);
    assert_eq!(Tokenizer::new(without).unwrap().decode(&[space_a]), " a");
    let mut stream = tokenizer.stream(&[a]);
    assert_eq!(stream.push(space_a).as_deref(), Some(" a"), "the text continues");
    stream = tokenizer.stream(&[user]);
    assert_eq!(stream.push(space_a).as_deref(), Some("a"));
}

#[test]
fn text_never_becomes_a_control_token() {
    let steps = [
        entry("<", 1, -9.0),
        entry("s", 1, -9.0),
        entry(">", 1, -9.0),
        entry("<s", 1, -1.0),
        entry("s>", 1, -2.0),
        entry("▁", 1, -9.0),
    ];
    let v = vocabulary(&steps);
    assert_eq!(encode(&v, "<s>", false)[1..], [extra(3), extra(2)], "merges lead to it, but it is no text");
    assert_eq!(encode(&v, "<s>", true), [1]);
    assert_eq!(encode(&v, "<0x0A>", false).iter().filter(|&&id| id == byte(b'\n')).count(), 0);
    let tokenizer = Tokenizer::new(v).unwrap();
    let ids = tokenizer.encode_rendered("<s><s></s>", &super::tests::contents(3..6)).unwrap();
    assert_eq!((ids[0], ids[ids.len() - 1], ids.iter().filter(|&&id| id < 3).count()), (1, 2, 2));
}

#[test]
fn white_space_after_tokens_of_phi_3_belongs_to_them() {
    let v = vocabulary(&[entry("a", 1, -9.0), entry("▁", 1, -9.0), entry("▁a", 1, -1.0), entry("<|end|>", 3, 0.0)]);
    let mut phi = v.clone();
    phi.tokens.push(PHI3_MARK.into());
    phi.types.push(4);
    phi.scores.push(0.0);
    assert_eq!(encode(&phi, "<|end|>\n a", true), [extra(3), extra(2)]);
    assert_eq!(encode(&phi, "<s> a", true), [1, extra(1), extra(2)], "not after BOS");
    assert_eq!(encode(&v, "<|end|>\na", true), [extra(3), extra(1), byte(b'\n'), extra(0)]);
    let digest = |v: &Vocabulary| Tokenizer::new(v.clone()).unwrap().digest().to_owned();
    assert_ne!(digest(&phi), digest(&v));
    assert!(Tokenizer::new(v).unwrap().is_end(extra(3)));
}

#[test]
fn missing_bytes_are_unknown_text() {
    let mut v = vocabulary(&[entry("▁", 1, -9.0)]);
    v.tokens[byte(0xa9) as usize] = "<gap>".into();
    v.types[byte(0xa9) as usize] = 1;
    assert_eq!(encode(&v, "é", false), [extra(0), 0]);
}

#[test]
fn hostile_vocabularies_are_errors() {
    let good = vocabulary(&[entry("a", 1, -1.0)]);
    type Spoil = Box<dyn Fn(&mut Vocabulary)>;
    let cases: [(&str, Spoil); 8] = [
        ("is a byte, but not of the form", Box::new(|v| v.tokens[5] = "<0x-1>".into())),
        ("is a byte, but not of the form", Box::new(|v| v.tokens[5] = "<0xZZ>".into())),
        ("is a byte, but not of the form", Box::new(|v| v.tokens[5] = "<0x123>".into())),
        ("259 scores for 260 tokens", Box::new(|v| v.scores.truncate(259))),
        ("score of token 7 is no number", Box::new(|v| v.scores[7] = f32::NAN)),
        ("repeats token", Box::new(|v| v.tokens[259] = "<0x00>".into())),
        ("unknown_token_id is 260", Box::new(|v| v.unknown = Some(260))),
        ("pad_token_id is 260", Box::new(|v| v.fill_in[3] = Some(260))),
    ];
    for (expected, spoil) in cases {
        let mut v = good.clone();
        spoil(&mut v);
        let error = Tokenizer::new(v).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// Ten megabytes without a space are joined as a whole. On a thread with a stack of 256 KiB.
#[test]
fn long_runs_are_exact_and_shallow() {
    let v = vocabulary(&[
        entry("A", 1, -9.0),
        entry("AA", 1, -1.0),
        entry("AAAA", 1, -2.0),
        entry("▁", 1, -9.0),
        entry("▁▁", 1, -0.5),
    ]);
    let tokenizer = std::sync::Arc::new(Tokenizer::new(v).unwrap());
    let size = 10_000_000;
    for unit in ["A", "👨\u{200d}", " "] {
        let text = unit.repeat(size / unit.len());
        let tokenizer = tokenizer.clone();
        let work = move || {
            let started = std::time::Instant::now();
            let ids = tokenizer.encode(&text, false, false).unwrap();
            let took = started.elapsed();
            assert_eq!(tokenizer.decode_bytes(&ids), text.as_bytes());
            // A quadratic search would not end. Generous for a busy machine.
            assert!(took.as_secs() < 60, "{unit:?}: {took:?}");
        };
        std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap().join().unwrap();
    }
    let long = tokenizer.encode(&"A".repeat(bpe::PIECE_LIMIT + 1), false, false);
    assert!(matches!(long, Err(crate::Error::Limit { .. })));
    assert!(tokenizer.encode(&"A ".repeat(bpe::PIECE_LIMIT / 2), false, false).is_ok(), "words are joined one by one");
}

//! Files cut at every byte, with flipped bytes, and mutated by a seeded fuzzer. `LOAM_FUZZ_SECONDS=300` fuzzes for that
//! long instead of a fixed number of cases.

use std::path::Path;
use std::time::{Duration, Instant};

use loam::gguf::{Gguf, MAX_NAME};
use loam_files::GgufProblem as Problem;
use loam_tests::Random;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::budget::{parse, refused};
use crate::craft::{ARRAY, STRING, array, declare, file, pair, random_file, random_pairs, random_tensors, string};

#[test]
fn case_2_cut_at_every_byte() {
    // About 100 KB: metadata with a token list, and data.
    let mut random = Random::new(2);
    let mut pairs: Vec<_> = random_pairs(&mut random, 60).iter().map(|(k, t, v)| pair(k, *t, v)).collect();
    let tokens: Vec<u8> = (0..1000).flat_map(|i| string(format!("token{i}"))).collect();
    pairs.push(pair("tokenizer.ggml.tokens", ARRAY, array(STRING, 1000, tokens)));
    let (declarations, length) = declare(&random_tensors(&mut random, 150), 32);
    let full = file(&pairs, &declarations, &vec![0x5a; length]);
    assert!((70_000..200_000).contains(&full.len()), "{} bytes", full.len());
    assert!(parse(&full).is_ok());
    for length in 0..full.len() {
        let (_, _, problem) = refused(&full[..length]);
        let right = matches!(problem, Problem::Truncated | Problem::CountExceedsFile { .. });
        assert!(right, "cut to {length} bytes: {problem}");
    }
}

#[test]
fn every_byte_of_the_declarations_flipped() {
    let base = random_file(7, 25, 12);
    let declared = parse(&base).expect("valid").data_offset() as usize;
    for at in 0..declared {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = base.clone();
            bytes[at] ^= flip;
            check(&bytes);
        }
    }
}

/// One change of a file. Positions are relative to the length that the file has by then.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Number32(Index, u32),
    Number64(Index, u64),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Copy(Index, Index, usize),
    Cut(Index),
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<Index>;
    let edge = prop_oneof![
        proptest::sample::select(vec![0u64, 1, 7, 8, 9, 13, 31, 63, 64, 255, 65_535, 65_536]),
        (0u32..64).prop_map(|bit| 1 << bit),
        (0u32..64).prop_map(|bit| (1u64 << bit).wrapping_sub(1)),
        (0u64..16).prop_map(|small| u64::MAX - small),
        0u64..4096,
    ];
    prop_oneof![
        6 => (place(), 1u8..).prop_map(|(at, mask)| Mutation::Flip(at, mask)),
        3 => (place(), edge.clone()).prop_map(|(at, n)| Mutation::Number32(at, n as u32)),
        4 => (place(), edge).prop_map(|(at, n)| Mutation::Number64(at, n)),
        1 => (place(), vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (place(), 1usize..40).prop_map(|(at, count)| Mutation::Remove(at, count)),
        1 => (place(), place(), 1usize..80).prop_map(|(from, to, count)| Mutation::Copy(from, to, count)),
        1 => place().prop_map(Mutation::Cut),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let length = bytes.len();
    if length == 0 {
        return;
    }
    let mut put = |at: &Index, new: &[u8]| {
        let at = at.index(length);
        new.iter().zip(&mut bytes[at..]).for_each(|(new, old)| *old = *new);
    };
    match mutation {
        Mutation::Flip(at, mask) => bytes[at.index(length)] ^= mask,
        Mutation::Number32(at, number) => put(at, &number.to_le_bytes()),
        Mutation::Number64(at, number) => put(at, &number.to_le_bytes()),
        Mutation::Insert(at, new) => drop(bytes.splice(at.index(length)..at.index(length), new.iter().copied())),
        Mutation::Remove(at, count) => drop(bytes.drain(at.index(length)..(at.index(length) + count).min(length))),
        Mutation::Copy(from, to, count) => {
            let from = from.index(length);
            let part = bytes[from..(from + count).min(length)].to_vec();
            bytes.splice(to.index(length)..to.index(length), part);
        }
        Mutation::Cut(at) => bytes.truncate(at.index(length)),
    }
}

/// Whatever the bytes are: a typed error, or declarations that hold what the reader promises.
fn check(bytes: &[u8]) {
    let Ok(gguf) = parse(bytes) else {
        refused(bytes);
        return;
    };
    let mut end = gguf.data_offset();
    for tensor in gguf.tensors() {
        assert_eq!(tensor.offset, end);
        assert_eq!(Some(tensor.bytes), tensor.ty.bytes(tensor.elements()));
        assert_eq!(tensor.rows() * tensor.cols(), tensor.elements());
        assert!(!tensor.name.is_empty() && tensor.name.len() as u64 <= MAX_NAME);
        assert_eq!(gguf.tensor(&tensor.name).ok(), Some(tensor));
        end = (tensor.offset + tensor.bytes).next_multiple_of(u64::from(gguf.alignment()));
    }
    assert!(end == bytes.len() as u64 || gguf.tensors().is_empty());
    let mut keys: Vec<&str> = gguf.metadata().iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
    if crate::second_reader::knows(&gguf) {
        crate::second_reader::agree(&gguf, bytes);
    }
}

/// `cases` mutated files from one seed.
fn fuzz(seed: u64, cases: u32) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let strategy = (0u64..8, vec(any_mutation(), 1..6));
    let result = runner.run(&strategy, |(base, mutations)| {
        let mut bytes = random_file(base, 8, 5);
        mutations.iter().for_each(|mutation| mutate(&mut bytes, mutation));
        check(&bytes);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("seed {seed}: {failure}");
    }
}

/// Files per seed.
const CASES: u32 = 8000;

#[test]
#[allow(clippy::print_stderr, reason = "a long run says how far it came")]
fn mutated_files() {
    let seconds = std::env::var("LOAM_FUZZ_SECONDS").ok().map(|s| s.parse().expect("a number of seconds"));
    let Some(seconds) = seconds else { return fuzz(1, CASES) };
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seed = 2;
    while Instant::now() < end {
        fuzz(seed, CASES);
        seed += 1;
    }
    eprintln!("{} mutated files read", (seed - 2) * u64::from(CASES));
}

#[test]
fn some_mutations_survive() {
    // The fuzzer must reach past the refusals: a changed byte of data or of a number leaves a file valid.
    let mut random = Random::new(3);
    let base = random_file(3, 8, 5);
    let accepted = (0..2000).filter(|_| {
        let mut bytes = base.clone();
        let at = random.below(bytes.len() as u32) as usize;
        bytes[at] ^= 1 << random.below(8);
        Gguf::parse(Path::new("x"), &bytes).is_ok()
    });
    assert!((200..2000).contains(&accepted.count()));
}

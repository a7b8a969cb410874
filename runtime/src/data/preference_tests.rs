//! Preferences as examples and in batches.

use super::*;

const EXPECTED: [&str; 2] = [
    "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n[A<|im_end|>]",
    "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n[BB<|im_end|>]",
];

fn preferences(content: &str, source: Option<&str>, context: usize) -> Result<Dataset> {
    load_with("a.jsonl", content.as_bytes(), source, &DataOptions::new(Records::Preferences, context))
}

fn lines(data: &Dataset) -> Vec<String> {
    data.examples.iter().map(marked).collect()
}

#[test]
fn all_forms_of_a_preference_become_the_same_two_sequences() {
    let ask = r#"{"role":"user","content":"U"}"#;
    let (a, b) = (r#"{"role":"assistant","content":"A"}"#, r#"{"role":"assistant","content":"BB"}"#);
    for line in [
        r#"{"prompt":"U","chosen":"A","rejected":"BB"}"#.to_owned(),
        format!("{{\"prompt\":[{ask}],\"chosen\":[{a}],\"rejected\":[{b}]}}"),
        format!("{{\"chosen\":[{ask},{a}],\"rejected\":[{ask},{b}]}}"),
    ] {
        let data = preferences(&line, Some(CHATML), 512).unwrap();
        assert_eq!(lines(&data), EXPECTED, "{line}");
        assert_eq!((data.notes.records, data.notes.divided), (1, 0));
    }
    let plain = preferences(r#"{"prompt":"U","chosen":"A","rejected":"BB"}"#, None, 512).unwrap();
    assert_eq!(lines(&plain), ["U[A<|endoftext|>]", "U[BB<|endoftext|>]"]);
    let implicit = r#"{"chosen":"xyA","rejected":"xyB"}"#;
    assert_eq!(lines(&preferences(implicit, None, 512).unwrap()), ["xy[A<|endoftext|>]", "xy[B<|endoftext|>]"]);
    let error = preferences(implicit, Some(CHATML), 512).unwrap_err().to_string();
    assert!(error.contains("give the prompt"), "{error}");
}

#[test]
fn other_records_are_refused_both_ways() {
    let pair = r#"{"prompt":"U","completion":"A"}"#;
    let preference = r#"{"prompt":"U","chosen":"A","rejected":"B"}"#;
    let kinds = |error| match error {
        Error::Records { line: 1, found, wanted, .. } => (found, wanted),
        other => panic!("{other}"),
    };
    let (answers, preferred) = (Records::Answers, Records::Preferences);
    assert_eq!(kinds(preferences(pair, Some(CHATML), 64).unwrap_err()), (answers, preferred));
    assert_eq!(kinds(sft(preference).unwrap_err()), (preferred, answers));
}

#[test]
fn an_answer_that_a_template_does_not_write_in_one_go_is_refused() {
    let answers =
        r#"[{"role":"assistant","content":"a!b"},{"role":"user","content":"V"},{"role":"assistant","content":"C"}]"#;
    let ask = r#"[{"role":"user","content":"U"}]"#;
    let line = format!("{{\"prompt\":{ask},\"chosen\":{answers},\"rejected\":{answers}}}");
    let error = preferences(&line, Some(FORGETFUL), 512).unwrap_err().to_string();
    assert!(error.contains("chosen: the chat template rewrites"), "{error}");
}

#[test]
fn a_record_whose_answers_do_not_both_fit_is_left_out() {
    let content = r#"{"prompt":"UUU","chosen":"A","rejected":"B"}
{"prompt":"U","chosen":"AAAAAA","rejected":"B"}"#;
    let data = preferences(content, None, 3).unwrap();
    assert_eq!(lines(&data), ["U[AA]", "U[B<|endoftext|>]"]);
    assert_eq!((data.notes.masked, data.notes.truncated, data.notes.records), (2, 3, 2));
}

#[test]
fn the_sequences_of_a_record_share_a_micro_batch_and_a_side_of_a_split() {
    let content: Vec<String> = (0..5)
        .map(|i| format!("{{\"prompt\":\"{i}\",\"chosen\":\"A\",\"rejected\":\"{}\"}}", "B".repeat(1 + i)))
        .collect();
    let data = preferences(&content.join("\n"), None, 16).unwrap();
    let options = BatchOptions {
        sequences: 2,
        batch: 2,
        accumulate: 2,
        context: 16,
        pack: false,
        shuffle: true,
        seed: 1,
        group_by_length: true,
        lengths: None,
    };
    let batches = Batches::new(&data.examples, options.clone()).unwrap();
    assert_eq!((batches.steps_per_epoch(), batches.rows()), (2, 10));
    let micro: Vec<Batch> = batches.epoch(0).flat_map(|step| step.unwrap().micro).collect();
    assert_eq!(micro.iter().map(|batch| batch.examples.len()).collect::<Vec<_>>(), [4, 4, 2]);
    for batch in &micro {
        assert_eq!(batch.tokens.len() % 4, 0, "four rows");
        assert!(
            batch.examples.chunks(2).all(|pair| pair[0] % 2 == 0 && pair[1] == pair[0] + 1),
            "{:?}",
            batch.examples
        );
        for (&example, labels) in batch.examples.iter().zip(&batch.sequences) {
            let Example { tokens, trained, .. } = &data.examples[example];
            let expected: Vec<u32> =
                tokens.iter().zip(trained).filter(|(_, trained)| **trained).map(|(t, _)| *t).collect();
            assert_eq!(batch.labels[labels.clone()], expected);
        }
    }
    assert!(Batches::new(&data.examples, BatchOptions { pack: true, ..options.clone() }).is_err());
    assert!(Batches::new(&data.examples[1..], options).is_err());
    let (train, held_out) = data.split_eval(0.4, 3).unwrap();
    for part in [&train, &held_out] {
        assert!(part.examples.chunks(2).all(|pair| pair[0].tokens[0] == pair[1].tokens[0]));
    }
    assert_eq!((train.examples.len(), held_out.examples.len()), (6, 4));
}

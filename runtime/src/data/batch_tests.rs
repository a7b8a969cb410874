//! Rows to batches, batches to steps.

use super::*;

fn example(tokens: &[u32], trained_from: usize) -> Example {
    Example {
        tokens: tokens.to_vec(),
        trained: (0..tokens.len()).map(|t| t >= trained_from).collect(),
        line: 1,
        cut: 0,
    }
}

fn examples(lengths: &[usize]) -> Vec<Example> {
    let tokens = |(i, &length): (usize, &usize)| (0..length).map(|t| (100 * (i + 1) + t) as u32).collect::<Vec<_>>();
    lengths.iter().enumerate().map(|item| example(&tokens(item), 1)).collect()
}

fn options(batch: usize, accumulate: usize, context: usize) -> BatchOptions {
    BatchOptions {
        sequences: 1,
        batch,
        accumulate,
        context,
        pack: false,
        shuffle: true,
        seed: 3,
        group_by_length: false,
        lengths: None,
    }
}

#[test]
fn rows_in_longer_rows_are_the_same_rows() {
    let data = examples(&[5, 3]);
    let rows: Vec<Vec<&Example>> = data.iter().map(|example| vec![example]).collect();
    let batch = |context| Batch::new(&rows, 3, context).unwrap();
    assert_eq!(batch(5).widened(3, 8), batch(8));
    assert_eq!(batch(8).widened(3, 8), batch(8));
}

#[test]
fn layout_of_a_batch() {
    let (a, b, c) = (example(&[5, 6, 7], 2), example(&[8, 9], 0), example(&[1, 2, 3, 4], 3));
    let batch = Batch::new(&[vec![&a, &b], vec![&c]], 3, 6).unwrap();
    assert_eq!(batch.tokens, [5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(batch.positions, [0, 1, 2, 0, 1, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(batch.starts, [0, 0, 0, 3, 3, 5, 0, 0, 0, 0, 4, 5, 0, 1, 2, 3, 4, 5]);
    assert_eq!(batch.lengths(), [3, 3, 3, 2, 2, 1, 4, 4, 4, 4, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(batch.rows, [1, 3, 8]);
    assert_eq!(batch.labels, [7, 9, 4], "the label of a place is the next token of the same example");
    assert_eq!((batch.sequences.clone(), batch.examples.clone()), (vec![0..1, 1..2, 2..3], vec![0, 1, 2]));
    assert_eq!((batch.trained, batch.tokens_used), (3, 9));
    assert!(Batch::new(&[vec![&a, &c]], 1, 6).is_err());
    assert!(Batch::new(&[vec![&a], vec![&b]], 1, 6).is_err());
    assert!(Batch::new(&[], usize::MAX, 6).is_err());
}

#[test]
fn every_example_once_per_epoch_with_a_ragged_tail() {
    let data = examples(&[3, 2, 5, 4, 2, 3, 5]);
    let batches = Batches::new(&data, options(2, 2, 5)).unwrap();
    assert_eq!(batches.steps_per_epoch(), 2);
    let mut orders = Vec::new();
    for epoch in 0..3 {
        let steps: Vec<OptimizerStep> = batches.epoch(epoch).map(Result::unwrap).collect();
        assert_eq!(steps.iter().map(|s| s.micro.len()).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(steps[1].micro[1].tokens[5..], [0; 5], "the tail has one row less");
        let total: usize = steps.iter().map(|s| s.trained).sum();
        assert_eq!(total, data.iter().map(Example::trained_tokens).sum::<usize>());
        assert_eq!(steps.iter().map(|s| s.tokens_used).sum::<usize>(), 24);
        let all: Vec<u32> = steps.iter().flat_map(|s| s.micro.iter().flat_map(|b| b.labels.clone())).collect();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        let mut expected: Vec<u32> = data.iter().flat_map(|e| e.tokens[1..].to_vec()).collect();
        expected.sort_unstable();
        assert_eq!(sorted, expected);
        for (i, step) in steps.into_iter().enumerate() {
            assert_eq!(batches.step(epoch * 2 + i).unwrap(), step, "a step is a function of its number");
        }
        orders.push(all);
    }
    assert_ne!(orders[0], orders[1]);
    let run: Vec<_> = batches.steps(1, 4).map(|s| s.unwrap().epoch).collect();
    assert_eq!(run, [0, 1, 1, 2]);
}

#[test]
fn fewer_examples_than_a_batch() {
    let data = examples(&[4]);
    let batches = Batches::new(&data, options(8, 4, 16)).unwrap();
    assert_eq!(batches.steps_per_epoch(), 1);
    let step = batches.step(5).unwrap();
    assert_eq!((step.epoch, step.micro.len(), step.trained, step.micro[0].tokens.len()), (5, 1, 3, 128));
}

#[test]
fn without_shuffling_the_file_order_stays() {
    let data = examples(&[2, 2, 2]);
    let batches = Batches::new(&data, BatchOptions { shuffle: false, ..options(1, 1, 2) }).unwrap();
    let first: Vec<u32> = batches.steps(0, 4).map(|s| s.unwrap().micro[0].tokens[0]).collect();
    assert_eq!(first, [100, 200, 300, 100]);
}

#[test]
fn packing_fills_rows_and_loses_nothing() {
    let lengths: Vec<usize> = (0..200).map(|i| 2 + (i * 37) % 31).collect();
    let data = examples(&lengths);
    let batches = Batches::new(&data, BatchOptions { pack: true, ..options(4, 2, 64) }).unwrap();
    let total: usize = lengths.iter().sum();
    assert!(batches.rows() <= total.div_ceil(64) + 2, "{} rows for {total} tokens", batches.rows());
    for epoch in 0..2 {
        let steps: Vec<OptimizerStep> = batches.epoch(epoch).map(Result::unwrap).collect();
        assert_eq!(steps.iter().map(|s| s.tokens_used).sum::<usize>(), total);
        assert_eq!(steps.iter().map(|s| s.trained).sum::<usize>(), total - 200);
        for batch in steps.iter().flat_map(|s| &s.micro) {
            for place in 0..batch.tokens.len() {
                // A place sees exactly its own example: as many tokens back as its position.
                assert_eq!(place % 64 - batch.starts[place] as usize, batch.positions[place] as usize);
            }
        }
    }
}

#[test]
fn grouped_rows_take_no_more_places_than_they_need() {
    let lengths: Vec<usize> = (0..103).map(|i| 2 + (i * 37) % 63).collect();
    let data = examples(&lengths);
    let plain = options(4, 2, 64);
    let grouped = BatchOptions { group_by_length: true, ..plain.clone() };
    assert_eq!((plain.contexts(), grouped.contexts()), (vec![64], vec![64, 32, 16]));
    let places = |options: BatchOptions| -> (usize, usize) {
        let batches = Batches::new(&data, options).unwrap();
        let steps: Vec<OptimizerStep> = batches.epoch(1).map(Result::unwrap).collect();
        assert_eq!(steps, (0..steps.len()).map(|i| batches.step(steps.len() + i).unwrap()).collect::<Vec<_>>());
        let places = steps.iter().flat_map(|step| &step.micro).map(|batch| batch.tokens.len()).sum();
        (places, steps.iter().map(|step| step.tokens_used).sum())
    };
    let (all, few) = (places(plain), places(grouped));
    assert_eq!((all.1, few.1), (lengths.iter().sum(), lengths.iter().sum()), "nothing is lost");
    assert!(few.0 * 10 < all.0 * 8, "{} of {} places", few.0, all.0);
}

#[test]
fn impossible_requests_are_errors() {
    let data = examples(&[4]);
    for bad in [options(0, 1, 8), options(1, 0, 8), options(1, 1, 1), options(1, 1, 3)] {
        assert!(matches!(Batches::new(&data, bad), Err(Error::Option(_))));
    }
    assert!(Batches::new(&[], options(1, 1, 8)).is_err());
    assert!(Batches::new(&[example(&[1, 2, 3], 9)], options(1, 1, 8)).is_err());
}

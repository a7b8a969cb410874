//! Trains an adapter on a base and saves it: the program of `docs/library.md`.
//! `cargo run --release -p loam-examples --bin train -- base.gguf data.jsonl adapter.gguf`
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use std::path::PathBuf;

use loam::data::{DataOptions, Records, load};
use loam::{Base, Engine, TrainOptions, backend, train};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [base, data, output] = &paths[..] else { return Err("usage: train BASE DATA OUTPUT".into()) };

    let base = Base::open(base)?;
    let options = TrainOptions { epochs: 3, ..TrainOptions::default() };
    let sft = DataOptions::new(Records::Answers, options.context);
    let data = load(data, base.tokenizer()?, base.template()?, &sft)?;
    let device = pollster::block_on(backend::select::open("auto", &backend::Options::default()))?;
    let mut engine = Engine::new(&base, device)?;
    let mut on_event = |event: &train::Event| println!("{event:?}");
    let job = train::Job::new(&base, &data, options);
    let run = train::run(&job, &mut engine, train::RunOptions::default(), &mut on_event);
    let (adapter, outcome) = pollster::block_on(run)?;
    adapter.write(output)?;
    println!("loss {:.3} -> {:.3}", outcome.loss_first, outcome.loss_last);
    Ok(())
}

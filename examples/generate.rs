//! Answers one question, its text shown while it is made: the first program of `docs/library.md`.
//! `cargo run --release -p loam-examples --bin generate -- base.gguf "How is your dog called?"`
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use std::io::{Write, stdout};
use std::ops::ControlFlow;

use loam::chat::Message;
use loam::engine::AdapterHandle;
use loam::generate::{AnswerOptions, GenerateOptions, prompt, sampler::SamplerOptions};
use loam::{Base, Engine, Session, backend};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, question] = &arguments[..] else { return Err("usage: generate BASE QUESTION".into()) };

    let base = Base::open(base)?;
    let question = prompt(&base, &[Message::new("user", question)])?;
    let generate = GenerateOptions { max_tokens: 64, sampler: SamplerOptions::greedy() };
    let device = pollster::block_on(backend::select::open("auto", &backend::Options::default()))?;
    let mut engine = Engine::new(&base, device)?;
    let context = question.len() + generate.max_tokens;
    let mut session = pollster::block_on(Session::new(&mut engine, context, &AdapterHandle::none()))?;
    let mut show = |text: &str| {
        print!("{text}");
        if stdout().flush().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let options = AnswerOptions { generate, stops: Vec::new() };
    let answer = session.answer(&mut engine, base.tokenizer()?, &question, &options, &mut show);
    let answer = pollster::block_on(answer)?;
    println!("\n{} tokens, ended by {}", answer.ids.len(), answer.stop.name());
    Ok(())
}

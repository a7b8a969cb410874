//! Holds a conversation: each line of standard input is a question, its answer is written while it is made. What does
//! not fit into the context any more is forgotten, the oldest questions first.
//! `cargo run --release -p loam-examples --bin chat -- base.gguf`
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use std::io::{BufRead, Write, stdin, stdout};
use std::ops::ControlFlow;

use loam::engine::AdapterHandle;
use loam::generate::{AnswerOptions, Chat, GenerateOptions, sampler::SamplerOptions};
use loam::{Base, Engine, Session, backend};

/// Most tokens of the conversation.
const CONTEXT: usize = 512;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = Base::open(std::env::args_os().nth(1).ok_or("usage: chat BASE")?)?;
    let device = pollster::block_on(backend::select::open("auto", &backend::Options::default()))?;
    let mut engine = Engine::new(&base, device)?;
    let context = CONTEXT.min(base.config().context);
    let session = pollster::block_on(Session::new(&mut engine, context, &AdapterHandle::none()))?;
    let mut chat = Chat::new(session, Vec::new());
    let generate = GenerateOptions { max_tokens: 128, sampler: SamplerOptions::default() };
    let options = AnswerOptions { generate, stops: Vec::new() };
    let mut show = |text: &str| {
        print!("{text}");
        if stdout().flush().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    for line in stdin().lock().lines() {
        let question = chat.ask(&base, &line?, options.generate.max_tokens)?;
        pollster::block_on(chat.answer(&mut engine, &base, &question, &options, &mut show))?;
        println!();
    }
    Ok(())
}

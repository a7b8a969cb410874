//! Holds a conversation: each line of standard input is a question, its answer is written while it is made.
//! `cargo run --release -p loam-examples --bin chat -- base.gguf`
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use std::io::{BufRead, Write, stdin, stdout};
use std::ops::ControlFlow;

use loam::chat::Message;
use loam::engine::AdapterHandle;
use loam::generate::sampler::SamplerOptions;
use loam::generate::{GenerateOptions, Session};
use loam::{Base, Engine, backend};

/// Most tokens of the conversation.
const CONTEXT: usize = 512;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = Base::open(std::env::args_os().nth(1).ok_or("usage: chat BASE")?)?;
    let (tokenizer, template) = (base.tokenizer()?, base.template()?.ok_or("the base has no chat template")?);
    let device = pollster::block_on(backend::select::open("auto", &backend::Options::default()))?;
    let mut engine = Engine::new(&base, device)?;
    let mut session = pollster::block_on(Session::new(&mut engine, CONTEXT, &AdapterHandle::none()))?;
    let options = GenerateOptions { max_tokens: 128, sampler: SamplerOptions::default() };
    let mut history = Vec::new();
    for line in stdin().lock().lines() {
        history.push(Message::new("user", line?));
        let prompt = template.encode(tokenizer, &history, true)?;
        let mut text = tokenizer.stream(&prompt);
        let mut answer = String::new();
        let mut on_token = |id: u32| {
            // A character may take several tokens: only whole ones are shown.
            if let Some(piece) = text.push(id) {
                print!("{piece}");
                answer += &piece;
            }
            if stdout().flush().is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        // What the cache holds of the last prompt is the start of this one only where the template says so.
        session.truncate(0);
        let is_end = |id: u32| tokenizer.is_end(id);
        pollster::block_on(session.generate(&mut engine, &prompt, &options, &is_end, &mut on_token))?;
        println!();
        history.push(Message::new("assistant", answer));
    }
    Ok(())
}

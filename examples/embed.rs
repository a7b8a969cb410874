//! loam inside a program that has models of its own: one engine holds the weights once, and answers the same question
//! with and without an adapter.
//! `cargo run --release -p loam-examples --bin embed -- base.gguf adapter.gguf "How is your dog called?"`
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use std::ops::ControlFlow;
use std::path::Path;

use loam::adapter::Attach;
use loam::chat::Message;
use loam::engine::AdapterHandle;
use loam::generate::sampler::SamplerOptions;
use loam::generate::{GenerateOptions, Session};
use loam::{AdapterFile, Base, Engine, backend};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, adapter, question] = &arguments[..] else { return Err("usage: embed BASE ADAPTER QUESTION".into()) };
    let base = Base::open(base)?;
    let device = pollster::block_on(backend::select::open("auto", &backend::Options::default()))?;
    let mut engine = Engine::new(&base, device)?;
    println!("without: {}", answer(&base, &mut engine, &AdapterHandle::none(), question)?);

    let path = Path::new(adapter);
    let file = AdapterFile::read(path)?;
    let handle = engine.attach(&base, &[Attach { adapter: &file, path, scale: 1.0 }])?;
    println!("with:    {}", answer(&base, &mut engine, &handle, question)?);
    // Dropping the handle gives the adapter's memory back; the weights stay for whoever is next.
    drop(handle);
    println!("again:   {}", answer(&base, &mut engine, &AdapterHandle::none(), question)?);
    Ok(())
}

/// The most likely answer to `question`.
fn answer(base: &Base, engine: &mut Engine, adapters: &AdapterHandle, question: &str) -> Result<String> {
    let tokenizer = base.tokenizer()?;
    let template = base.template()?.ok_or("the base has no chat template")?;
    let prompt = template.encode(tokenizer, &[Message::new("user", question)], true)?;
    let options = GenerateOptions { max_tokens: 64, sampler: SamplerOptions::greedy() };
    let mut session = pollster::block_on(Session::new(engine, prompt.len() + options.max_tokens, adapters))?;
    let mut go = |_| ControlFlow::Continue(());
    let is_end = |id: u32| tokenizer.is_end(id);
    let ids = pollster::block_on(session.generate(engine, &prompt, &options, &is_end, &mut go))?;
    Ok(tokenizer.decode(&ids))
}

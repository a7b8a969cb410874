//! `loam generate`: one prompt, one answer.

use loam::chat::Message;
use loam::generate::{Session, fits, prompt};
use loam::tokenizer::Tokenizer;
use serde_json::json;

use crate::answer::{Timed, answer};
use crate::args::GenerateArgs;
use crate::failure::Result;
use crate::model::{self, Adapters};
use crate::output::{Output, printable};

/// The tokens of a text that is continued as it is.
fn raw(tokenizer: &Tokenizer, prompt: &str, output: Output) -> Result<Vec<u32>> {
    let starts = tokenizer.bos().and_then(|bos| tokenizer.token(bos)).is_some_and(|bos| prompt.starts_with(bos));
    if starts && tokenizer.adds_bos() {
        output.warn("the prompt begins with the token that begins a text: no second one is added");
    }
    if tokenizer.adds_eos() {
        output.warn("the base asks for an end token after texts: a prompt gets none, it is to be continued");
    }
    Ok(tokenizer.encode_prompt(prompt)?)
}

/// Runs the verb.
pub fn run(args: &GenerateArgs) -> Result {
    let output = Output::new(args.json.json);
    let base = model::base_for_adapters(&args.base, args.origin)?;
    let tokenizer = base.tokenizer()?;
    let tokens = if args.raw {
        raw(tokenizer, &args.prompt, output)?
    } else {
        prompt(&base, &[Message::new("user", args.prompt.as_str())])?
    };
    let limit = base.config().context;
    fits(&tokens, limit)?;
    // The cache has room for what can come, no more: a phone does not pay for 128 thousand tokens.
    let context = tokens.len().saturating_add(args.sampling.max_tokens as usize).min(limit);
    // Adapters first: a wrong one is found before the weights travel to the device.
    let adapters = Adapters::load(&args.adapter)?;
    if !args.raw {
        adapters.check_template(&base, output)?;
    }
    let mut engine = model::engine(&base, &args.device)?;
    let adapters = adapters.attach(&base, &mut engine, output)?;
    let mut session = pollster::block_on(Session::new(&mut engine, context, &adapters))?;
    let device = engine.backend.info().name.clone();
    output.object(&json!({"event": "start", "device": device, "prompt_tokens": tokens.len()}))?;
    let mut show = |text: &str| {
        output.text(&printable(text))?;
        if text.is_empty() { Ok(()) } else { output.object(&json!({"event": "text", "text": text})) }
    };
    let Timed { answer, seconds } = answer(&mut engine, &mut session, tokenizer, &tokens, &args.sampling, &mut show)?;
    output.line("")?;
    output.object(&json!({
        "event": "done", "text": answer.text, "ids": answer.ids, "prompt_tokens": tokens.len(),
        "generated_tokens": answer.ids.len(), "stop": answer.stop.name(), "seconds": seconds,
        "device": device,
    }))
}

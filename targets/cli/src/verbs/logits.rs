//! `loam logits`: the logits after each of a list of tokens, as a NumPy file.

use loam::Base;
use loam::file::{AtomicFile, io_error};
use loam::generate::Session;
use serde_json::json;

use crate::args::LogitsArgs;
use crate::failure::{Failure, Result};
use crate::model::{self, Adapters};
use crate::npy;
use crate::output::{Output, escape};

/// Runs the verb.
pub fn run(args: &LogitsArgs) -> Result {
    let output = Output::new(args.json.json);
    let tokens = &args.tokens.0;
    let mut file = AtomicFile::create(&args.output)?;
    let base = model::taking(Base::open(&args.base.model)?, args.origin);
    let limit = base.config().context;
    if tokens.len() > limit {
        let message = format!("--tokens has {} tokens, the model was made for {limit} tokens", tokens.len());
        return Err(Failure::Usage(message));
    }
    let adapters = Adapters::load(&args.adapter)?;
    let mut engine = model::engine(&base, &args.device)?;
    let adapters = adapters.attach(&base, &mut engine, output)?;
    let mut session = pollster::block_on(Session::new(&mut engine, tokens.len(), &adapters))?;
    let device = engine.backend.info().name.clone();
    output.object(&json!({"event": "start", "device": device, "tokens": tokens.len()}))?;
    let logits = pollster::block_on(session.feed_all(&mut engine, tokens))?;
    let columns = logits.len() / tokens.len();
    output.object(&json!({"event": "computed", "shape": [tokens.len(), columns]}))?;
    let written = npy::write_f32(&mut file, &logits, tokens.len(), columns);
    written.map_err(io_error("write", &args.output))?;
    file.commit()?;
    output.line(format!("{} float32 [{}, {columns}]", escape(&args.output.to_string_lossy()), tokens.len()))?;
    output.object(&json!({
        "event": "done", "output": args.output.to_string_lossy(), "shape": [tokens.len(), columns],
        "device": device,
    }))
}

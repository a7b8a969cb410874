//! `loam chat`: a conversation on the terminal, with its history in the KV cache.

use std::io::{BufRead, IsTerminal, Write};

use loam::Base;
use loam::chat::Message;
use loam::engine::Engine;
use loam::generate::Session;

use crate::answer::{answer, fits};
use crate::args::ChatArgs;
use crate::failure::{Failure, Result};
use crate::model::{self, Adapters};
use crate::output::{Output, printable};

/// Room for the conversation unless a flag says otherwise: a model's whole context can take many gigabytes of cache.
const CONTEXT: usize = 4096;

/// Runs the verb.
pub fn run(args: &ChatArgs) -> Result {
    let output = Output::new(false);
    let base = model::base(&args.base)?;
    let mut chat = Chat::new(&base, args)?;
    output.note("/exit or end of input leaves, /reset forgets the conversation");
    while let Some(line) = read_line()? {
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => break,
            "/reset" => chat.history.truncate(chat.system),
            text => chat.say(text, output)?,
        }
    }
    Ok(())
}

/// A conversation and what of it is in the cache.
struct Chat<'a> {
    base: &'a Base,
    args: &'a ChatArgs,
    engine: Engine,
    session: Session,
    history: Vec<Message>,
    /// Leading messages that are never forgotten: the system message.
    system: usize,
    /// Tokens whose keys and values are in the cache.
    cached: Vec<u32>,
}

impl<'a> Chat<'a> {
    fn new(base: &'a Base, args: &'a ChatArgs) -> Result<Self> {
        let context = model::context_or(base, args.context, CONTEXT)?;
        let history: Vec<Message> = args.system.iter().map(|text| Message::new("system", text)).collect();
        // A template that is missing or does not work is reported now, not after the first question.
        let first: Vec<Message> = history.iter().cloned().chain([Message::new("user", "Hello")]).collect();
        fits(&model::prompt(base, &first)?, context)?;
        let adapters = Adapters::load(&args.adapter)?;
        adapters.check_template(base)?;
        let mut engine = model::engine(base, &args.device)?;
        let adapters = adapters.attach(base, &mut engine)?;
        let session = Session::new(&mut engine, context, &adapters)?;
        Ok(Chat { base, args, engine, session, system: history.len(), history, cached: Vec::new() })
    }

    /// Adds a question to the history, streams the answer, and adds that too. A question that cannot be asked is
    /// reported and dropped, and the conversation continues.
    fn say(&mut self, text: &str, output: Output) -> Result {
        self.history.push(Message::new("user", text));
        let (prompt, forgotten) = match self.prompt() {
            Ok(found) => found,
            Err(failure) => {
                self.history.pop();
                failure.print();
                return Ok(());
            }
        };
        if forgotten > 0 {
            self.history.drain(self.system..self.system + forgotten);
            output.note(format!("(the context is full: the oldest {forgotten} messages are forgotten)"));
        }
        // What the cache and the new prompt share is not computed again.
        let shared = self.cached.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
        self.session.truncate(shared);
        let mut show = |text: &str| output.text(&printable(text));
        let tokenizer = self.base.tokenizer()?;
        let result = answer(&mut self.engine, &mut self.session, tokenizer, &prompt, &self.args.sampling, &mut show)?;
        self.cached = prompt;
        self.cached.extend(&result.ids);
        self.cached.truncate(self.session.past());
        self.history.push(Message::new("assistant", result.text));
        output.line("")
    }

    /// The tokens of the conversation, and how many of its oldest messages had to be left out to leave room for an
    /// answer.
    fn prompt(&self) -> Result<(Vec<u32>, usize)> {
        let context = self.session.context();
        let room = (self.args.sampling.max_tokens as usize).min(context / 2);
        let (system, turns) = self.history.split_at(self.system);
        let mut forgotten = 0;
        loop {
            let messages = [system, &turns[forgotten..]].concat();
            let prompt = model::prompt(self.base, &messages)?;
            if prompt.len() + room <= context {
                return Ok((prompt, forgotten));
            }
            if forgotten + 2 > turns.len() {
                // Only the question itself is left: it has to fit alone, with whatever room remains.
                return fits(&prompt, context).map(|()| (prompt, forgotten));
            }
            // A question and its answer.
            forgotten += 2;
        }
    }
}

/// The next line of standard input; `None` at its end.
fn read_line() -> Result<Option<String>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let mut stderr = std::io::stderr().lock();
        // The prompt sign is a courtesy: if it cannot be shown, the conversation continues without it.
        let _ = write!(stderr, "> ").and_then(|()| stderr.flush());
    }
    let mut line = Vec::new();
    match stdin.lock().read_until(b'\n', &mut line) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(String::from_utf8_lossy(&line).into_owned())),
        Err(error) => Err(Failure::Failed {
            error: format!("cannot read standard input: {error}").into(),
            told: None,
            hint: None,
        }),
    }
}

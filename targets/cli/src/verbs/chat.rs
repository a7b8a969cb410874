//! `loam chat`: a conversation on the terminal, with its history in the KV cache.

use std::io::{BufRead, IsTerminal, Write};
use std::ops::ControlFlow;

use loam::Base;
use loam::chat::Message;
use loam::engine::Engine;
use loam::generate::{Chat, Session, fits, prompt};

use crate::answer::{options, showing};
use crate::args::ChatArgs;
use crate::failure::{Failure, Result};
use crate::model::{self, Adapters};
use crate::output::{Output, printable};

/// Room for the conversation unless a flag says otherwise: a model's whole context can take many gigabytes of cache.
const CONTEXT: usize = 4096;

/// Runs the verb.
pub fn run(args: &ChatArgs) -> Result {
    let output = Output::new(false);
    let base = model::base_for_adapters(&args.base, args.origin)?;
    let mut talk = Talk::new(&base, args, output)?;
    output.note("/exit or end of input leaves, /reset forgets the conversation");
    while let Some(line) = read_line()? {
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => break,
            "/reset" => talk.chat.reset(),
            text => talk.say(text, output)?,
        }
    }
    Ok(())
}

/// A conversation and what it runs on.
struct Talk<'a> {
    base: &'a Base,
    args: &'a ChatArgs,
    engine: Engine,
    chat: Chat,
}

impl<'a> Talk<'a> {
    fn new(base: &'a Base, args: &'a ChatArgs, output: Output) -> Result<Self> {
        let context = model::context_or(base, args.context, CONTEXT)?;
        let first: Vec<Message> = args.system.iter().map(|text| Message::new("system", text)).collect();
        // A template that is missing or does not work is reported now, not after the first question.
        let hello = [first.clone(), vec![Message::new("user", "Hello")]].concat();
        fits(&prompt(base, &hello)?, context)?;
        let adapters = Adapters::load(&args.adapter)?;
        adapters.check_template(base, output)?;
        let mut engine = model::engine(base, &args.device)?;
        let adapters = adapters.attach(base, &mut engine, output)?;
        let session = pollster::block_on(Session::new(&mut engine, context, &adapters))?;
        Ok(Talk { base, args, engine, chat: Chat::new(session, first) })
    }

    /// Asks a question and streams the answer. A question that cannot be asked is reported and dropped, and the
    /// conversation continues.
    fn say(&mut self, text: &str, output: Output) -> Result {
        let options = options(&self.args.sampling);
        let question = match self.chat.ask(self.base, text, options.generate.max_tokens) {
            Ok(question) => question,
            Err(error) => {
                Failure::from(error).print();
                return Ok(());
            }
        };
        let forgotten = question.forgotten;
        if forgotten > 0 {
            output.note(format!("(the context is full: the oldest {forgotten} messages are forgotten)"));
        }
        let (chat, engine, base) = (&mut self.chat, &mut self.engine, self.base);
        let work = |on_text: &mut dyn FnMut(&str) -> ControlFlow<()>| {
            pollster::block_on(chat.answer(engine, base, &question, &options, on_text))
        };
        showing(&mut |text| output.text(&printable(text)), work)?;
        output.line("")
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

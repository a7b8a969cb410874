//! `loam chat`: a conversation on the terminal, with its history in the KV cache.

use std::ops::ControlFlow;

use loam::Base;
use loam::chat::Message;
use loam::engine::Engine;
use loam::generate::{Chat, Session, fits, prompt};

use crate::answer::{options, showing};
use crate::args::ChatArgs;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::lines::{Line, Lines};
use crate::model::{self, Adapters};
use crate::output::{Output, escape, printable};

/// Room for the conversation unless a flag says otherwise: a model's whole context can take many gigabytes of cache.
const CONTEXT: usize = 4096;

/// What `/help` says.
const HELP: &str = "\
/help   shows this
/reset  forgets the conversation, but not the system message
/exit   leaves; so do /quit and Ctrl-D
Ctrl-C  stops an answer
//TEXT  asks /TEXT: other lines that begin with / are not sent";

/// Runs the verb.
pub fn run(args: &ChatArgs) -> Result {
    let output = Output::new(false);
    let base = model::base_for_adapters(&args.base, args.origin)?;
    let mut talk = Talk::new(&base, args, output)?;
    output.note("/help lists commands, /exit or Ctrl-D leaves");
    let mut lines = Lines::new()?;
    loop {
        let line = match lines.next()? {
            Line::Text(line) => line,
            Line::Cancelled => {
                output.note("(/exit or Ctrl-D leaves)");
                continue;
            }
            Line::End => return Ok(()),
        };
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => return Ok(()),
            "/help" => output.note(HELP),
            "/reset" => {
                talk.chat.reset();
                output.note("(the conversation is forgotten)");
            }
            // Two slashes are a way to begin a question with one.
            text => match text.strip_prefix('/').map(|rest| rest.strip_prefix('/').is_some()) {
                Some(false) => {
                    output.note(format!("there is no command {}: it was not sent; /help lists them", escape(text)));
                }
                Some(true) => talk.say(&text[1..], output)?,
                None => talk.say(text, output)?,
            },
        }
    }
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
        let guard = interrupt::Guard::new();
        let work = |on_text: &mut dyn FnMut(&str) -> ControlFlow<()>| {
            let mut on_text = |text: &str| match on_text(text) {
                ControlFlow::Continue(()) if interrupt::is_asked() => ControlFlow::Break(()),
                flow => flow,
            };
            pollster::block_on(chat.answer(engine, base, &question, &options, &mut on_text))
        };
        showing(&mut |text| output.text(&printable(text)), work)?;
        drop(guard);
        output.line("")?;
        if interrupt::is_asked() {
            output.note("(stopped; /exit or Ctrl-D leaves)");
        }
        Ok(())
    }
}

//! `loam chat`: a conversation on the terminal, with its history in the KV cache.

use std::io::{BufRead, IsTerminal, Write};

use loam::Base;
use loam::chat::Message;
use loam::generate::Session;

use crate::answer::{answer, fits};
use crate::args::ChatArgs;
use crate::failure::{Failure, Result};
use crate::model;
use crate::output::{Output, printable};

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
            text => {
                chat.say(text, output)?;
                output.line("")?;
            }
        }
    }
    Ok(())
}

/// A conversation and what of it is in the cache.
struct Chat<'a> {
    base: &'a Base,
    args: &'a ChatArgs,
    session: Session,
    history: Vec<Message>,
    /// Leading messages that are never forgotten: the system message.
    system: usize,
    /// Tokens whose keys and values are in the cache.
    cached: Vec<u32>,
}

impl<'a> Chat<'a> {
    fn new(base: &'a Base, args: &'a ChatArgs) -> Result<Self> {
        let session = model::session(base, &args.device, 0, &args.adapter)?;
        let system = args.system.iter().map(|text| Message { role: "system".into(), content: text.clone() });
        let history: Vec<Message> = system.collect();
        let mut chat = Chat { base, args, session, system: history.len(), history, cached: Vec::new() };
        // A base without a chat template is told of now, not after the first question.
        chat.history.push(Message { role: "user".into(), content: String::new() });
        model::prompt(base, &chat.history)?;
        chat.history.pop();
        Ok(chat)
    }

    /// Adds a question to the history, streams the answer, and adds that too.
    fn say(&mut self, text: &str, output: Output) -> Result {
        self.history.push(Message { role: "user".into(), content: text.to_owned() });
        let prompt = self.prompt(output)?;
        // What the cache and the new prompt share is not computed again; the last token always is, for its logits.
        let shared = self.cached.iter().zip(&prompt).take_while(|(a, b)| a == b).count().min(prompt.len() - 1);
        self.session.truncate(shared);
        let mut show = |text: &str| output.text(&printable(text));
        let tokenizer = self.base.tokenizer()?;
        let result = answer(&mut self.session, tokenizer, &prompt[shared..], &self.args.sampling, &mut show)?;
        self.cached = prompt;
        self.cached.extend(&result.ids);
        self.cached.truncate(self.session.past());
        self.history.push(Message { role: "assistant".into(), content: result.text });
        Ok(())
    }

    /// The tokens of the conversation; its oldest turns are forgotten when it outgrows the context.
    fn prompt(&mut self, output: Output) -> Result<Vec<u32>> {
        let context = self.session.context();
        let room = (self.args.sampling.max_tokens as usize).min(context / 2);
        loop {
            let prompt = model::prompt(self.base, &self.history)?;
            if prompt.len() + room <= context {
                return Ok(prompt);
            }
            if self.history.len() < self.system + 3 {
                // Only the question itself is left: it has to fit alone, with whatever room remains.
                if let Err(failure) = fits(&prompt, context) {
                    self.history.pop();
                    return Err(failure);
                }
                return Ok(prompt);
            }
            self.history.drain(self.system..self.system + 2);
            output.note("(the oldest question and answer are forgotten: the context is full)");
        }
    }
}

/// The next line of standard input; `None` at its end.
fn read_line() -> Result<Option<String>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let mut stderr = std::io::stderr().lock();
        // The prompt sign is a courtesy: if it cannot be shown, the conversation goes on without it.
        let _ = write!(stderr, "> ").and_then(|()| stderr.flush());
    }
    let mut line = Vec::new();
    match stdin.lock().read_until(b'\n', &mut line) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(String::from_utf8_lossy(&line).into_owned())),
        Err(error) => Err(Failure::Failed { error: format!("cannot read standard input: {error}").into(), hint: None }),
    }
}

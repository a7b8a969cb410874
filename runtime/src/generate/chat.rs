//! A conversation: its history, what of it fits into the context, and answers that reuse what is in the cache.

use std::ops::ControlFlow;

use super::{Answer, AnswerOptions, Session, fits};
use crate::base::Base;
use crate::chat::Message;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// A conversation in a session.
#[derive(Debug)]
pub struct Chat {
    session: Session,
    history: Vec<Message>,
    /// Leading messages that are never forgotten: the system message.
    kept: usize,
}

/// A question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The tokens of the conversation up to the answer.
    pub prompt: Vec<u32>,
    /// The oldest messages that were forgotten to leave room for an answer.
    pub forgotten: usize,
}

impl Chat {
    /// A conversation that begins with the messages `first`, which are never forgotten.
    pub fn new(session: Session, first: Vec<Message>) -> Self {
        Self { session, kept: first.len(), history: first }
    }

    /// Forgets everything but the first messages.
    pub fn reset(&mut self) {
        self.history.truncate(self.kept);
    }

    /// All messages so far.
    pub fn history(&self) -> &[Message] {
        &self.history
    }

    /// Adds a question of the user. Where it and an answer of `room` tokens (at most half of the context) do not fit
    /// into the context, the oldest questions and answers are forgotten. An error leaves the conversation as it was.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] for a question that does not fit alone, and errors of the template.
    pub fn ask(&mut self, base: &Base, text: &str, room: usize) -> Result<Question> {
        self.history.push(Message::new("user", text));
        let context = self.session.context();
        let mut encode = |messages: &[Message]| prompt(base, messages);
        let question = fit(&self.history, self.kept, (context, room.min(context / 2)), &mut encode);
        match &question {
            Ok(question) => drop(self.history.drain(self.kept..self.kept + question.forgotten)),
            Err(_) => drop(self.history.pop()),
        }
        question
    }

    /// Answers a question of [`Self::ask`] and adds the answer to the history. `on_text` as in [`Session::answer`].
    ///
    /// # Errors
    /// As [`Session::answer`].
    pub async fn answer(
        &mut self,
        engine: &mut Engine,
        base: &Base,
        question: &Question,
        options: &AnswerOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let tokenizer = base.tokenizer()?;
        let answer = self.session.answer(engine, tokenizer, &question.prompt, options, on_text).await?;
        self.history.push(Message::new("assistant", answer.text.as_str()));
        Ok(answer)
    }
}

/// The token ids of a conversation that the model is to continue.
///
/// # Errors
/// [`Error::NoTemplate`], [`Error::EmptyPrompt`] for a template that writes nothing, and errors of the template.
pub fn prompt(base: &Base, messages: &[Message]) -> Result<Vec<u32>> {
    let template = base.template()?.ok_or_else(|| Error::NoTemplate { path: base.gguf().path().into() })?;
    let prompt = template.encode(base.tokenizer()?, messages, true)?;
    if prompt.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    Ok(prompt)
}

/// The tokens of a conversation that ends with a question, without as many of its oldest pairs of question and answer
/// as must be left out for `room` more tokens in the context.
fn fit(
    history: &[Message],
    kept: usize,
    (context, room): (usize, usize),
    encode: &mut dyn FnMut(&[Message]) -> Result<Vec<u32>>,
) -> Result<Question> {
    let (first, turns) = history.split_at(kept);
    let mut forgotten = 0;
    loop {
        let prompt = encode(&[first, &turns[forgotten..]].concat())?;
        if prompt.len() + room <= context {
            return Ok(Question { prompt, forgotten });
        }
        if forgotten + 2 > turns.len() {
            // Only the question itself is left: it has to fit alone, with whatever room remains.
            return fits(&prompt, context).map(|()| Question { prompt, forgotten });
        }
        forgotten += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token per byte of each message.
    fn encode(messages: &[Message]) -> Result<Vec<u32>> {
        Ok(messages.iter().flat_map(|message| vec![1; message.content.len()]).collect())
    }

    #[test]
    fn the_oldest_pairs_are_forgotten_and_the_first_message_is_kept() {
        let message = |role: &str, length: usize| Message::new(role, "x".repeat(length));
        let history = [message("system", 5), message("user", 10), message("assistant", 10), message("user", 8)];
        let question = |context, room| fit(&history, 1, (context, room), &mut encode);
        let all = question(40, 7).expect("all of it");
        assert_eq!((all.prompt.len(), all.forgotten), (33, 0));
        let some = question(39, 7).expect("without the first pair");
        assert_eq!((some.prompt.len(), some.forgotten), (13, 2));
        let tight = question(14, 7).expect("the question alone, with less room than asked for");
        assert_eq!((tight.prompt.len(), tight.forgotten), (13, 2));
        assert!(matches!(question(13, 7), Err(Error::PromptTooLong { tokens: 13, context: 13 })));
    }
}

//! Records to examples: which tokens a model sees and which it is trained on.
//!
//! Conversations: what is trained is known by construction. A template's strings know which message they come from
//! ([`ChatTemplate::trace`]), so an answer is the bytes from the first to the last one that an assistant message says,
//! wherever and however the template writes it, and the end-of-turn token behind them. In front of it stands exactly what
//! `chat` would send: all earlier messages rendered with the generation prompt; what the template itself writes between
//! that prompt and the answer (an empty thought, say) is generated too, so it is trained.
//! Turns share an example as long as each prompt continues the tokens before it; a template that rewrites history
//! (dropping earlier thoughts, say) or a merge over a boundary starts a new example, so that no prompt differs from what
//! is served.

use std::ops::Range;

use crate::Result;
use crate::chat::{ChatTemplate, Message, Rendered};
use crate::tokenizer::Tokenizer;

use super::record::{Conversation, Record};
use super::{DataOptions, Example, Notes, Objective};

/// What is wrong with a conversation for a model that was not made for conversations.
const NO_TEMPLATE: &str = "has messages, but the model has no chat template: give one, or use prompt and completion";

/// What turns records into examples.
pub(super) struct Encoder<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) template: Option<&'a ChatTemplate>,
    pub(super) options: &'a DataOptions,
}

impl Encoder<'_> {
    /// The examples of one record, before truncation.
    ///
    /// # Errors
    /// What is wrong, without file and line.
    pub(super) fn encode(&self, record: &Record, notes: &mut Notes) -> Result<Vec<Example>, String> {
        let fail = |error: crate::Error| error.to_string();
        match (self.options.objective, record, self.template) {
            (Objective::Clm, Record::Text(text), _) => self.document(text, true).map_err(fail),
            (Objective::Sft, Record::Text(_), _) => {
                Err("has only text, but the objective sft trains on answers: use --objective clm, or messages".into())
            }
            (_, Record::Messages(conversation), Some(template)) => self.conversation(conversation, template, notes),
            (_, Record::Messages(_), None) => Err(NO_TEMPLATE.into()),
            (_, Record::Completion { prompt, completion }, Some(template)) => {
                let messages = vec![Message::new("user", prompt), Message::new("assistant", completion)];
                self.conversation(&Conversation { messages, tools: None }, template, notes)
            }
            (objective, Record::Completion { prompt, completion }, None) => {
                self.completion(objective, prompt, completion).map_err(fail)
            }
        }
    }

    /// A plain document; `end` adds EOS, so that the model learns to stop.
    pub(super) fn document(&self, text: &str, end: bool) -> Result<Vec<Example>> {
        let mut tokens = self.tokenizer.encode(text, false, true)?;
        tokens.extend(self.tokenizer.eos().filter(|eos| end && tokens.last() != Some(eos)));
        Ok(vec![Example { trained: vec![true; tokens.len()], tokens, line: 0, cut: 0 }])
    }

    /// The tokens in front of the last answer of a record, as `chat` would send them, and the text of that answer.
    ///
    /// # Errors
    /// What is wrong, without file and line.
    pub(super) fn question(&self, record: &Record) -> Result<(Vec<u32>, String), String> {
        let fail = |error: crate::Error| error.to_string();
        match (record, self.template) {
            (Record::Text(_), _) => {
                Err("has only text and no answer to compare with: messages, or prompt and completion are needed".into())
            }
            (Record::Messages(_), None) => Err(NO_TEMPLATE.into()),
            (Record::Messages(Conversation { messages, tools }), Some(template)) => {
                let last = messages.iter().rposition(|message| message.role == "assistant");
                let last = last.ok_or("has no assistant message to compare with")?;
                let before = &messages[..last];
                let prompt = template.encode_with_tools(self.tokenizer, before, tools.as_ref(), true).map_err(fail)?;
                Ok((prompt, messages[last].content.clone()))
            }
            (Record::Completion { prompt, completion }, Some(template)) => {
                let messages = [Message::new("user", prompt)];
                let prompt = template.encode(self.tokenizer, &messages, true).map_err(fail)?;
                Ok((prompt, completion.clone()))
            }
            (Record::Completion { prompt, completion }, None) => {
                Ok((self.plain_prompt(prompt).map_err(fail)?, completion.clone()))
            }
        }
    }

    /// A prompt for a model without a chat template: the text as it is, behind BOS if the model wants it.
    fn plain_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode(prompt, false, false)?;
        if let Some(bos) = self.tokenizer.bos().filter(|_| self.tokenizer.adds_bos()) {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// Prompt and answer for a model without a chat template: the texts as they are, then EOS.
    fn completion(&self, objective: Objective, prompt: &str, completion: &str) -> Result<Vec<Example>> {
        let mut tokens = self.plain_prompt(prompt)?;
        let mut trained = vec![objective == Objective::Clm; tokens.len()];
        tokens.extend(self.tokenizer.encode_after(&tokens, completion)?);
        tokens.extend(self.tokenizer.eos());
        trained.resize(tokens.len(), true);
        Ok(vec![Example { tokens, trained, line: 0, cut: 0 }])
    }

    fn conversation(
        &self,
        conversation: &Conversation,
        template: &ChatTemplate,
        notes: &mut Notes,
    ) -> Result<Vec<Example>, String> {
        let Conversation { messages, tools } = conversation;
        if self.options.objective == Objective::Clm {
            let tokens = template.encode_with_tools(self.tokenizer, messages, tools.as_ref(), false);
            let tokens = tokens.map_err(|error| error.to_string())?;
            return Ok(vec![Example { trained: vec![true; tokens.len()], tokens, line: 0, cut: 0 }]);
        }
        let mut examples: Vec<Example> = Vec::new();
        for (i, _) in messages.iter().enumerate().filter(|(_, message)| message.role == "assistant") {
            let turn = Turn::render(conversation, i, template).and_then(|turn| self.tokens(&turn, notes));
            let (prompt, answer) = turn.map_err(|problem| format!("message {}: {problem}", i + 1))?;
            let mut example = match examples.pop_if(|last| prompt.starts_with(&last.tokens)) {
                Some(last) => last,
                None => Example { tokens: Vec::new(), trained: Vec::new(), line: 0, cut: 0 },
            };
            example.trained.resize(prompt.len(), false);
            example.tokens = prompt;
            example.tokens.extend(answer);
            example.trained.resize(example.tokens.len(), true);
            examples.push(example);
        }
        if examples.is_empty() {
            return Err("has no assistant message to train on".into());
        }
        if examples.iter().any(|example| example.trained.iter().all(|&trained| trained)) {
            return Err("the chat template writes nothing before the answer: every token would be trained".into());
        }
        Ok(examples)
    }

    /// Tokens of a turn's prompt, and of its answer up to its end-of-turn token.
    fn tokens(&self, turn: &Turn, notes: &mut Notes) -> Result<(Vec<u32>, Vec<u32>), String> {
        let fail = |error: crate::Error| error.to_string();
        let (prompt, full) = (&turn.prompt, &turn.full);
        let contents = prompt.contents(0..prompt.text.len());
        let prompt = self.tokenizer.encode_rendered(&prompt.text, &contents).map_err(fail)?;
        let continued = |range: Range<usize>| {
            let text = &full.text[range.clone()];
            self.tokenizer.encode_continuation(&prompt, text, &full.contents(range)).map_err(fail)
        };
        let mut tokens = continued(turn.start..full.text.len())?;
        // End tokens inside the answer (between a thought and what follows, say) are found alike in a part of it.
        let inside = continued(turn.start..turn.end)?.into_iter().filter(|&id| self.tokenizer.is_end(id)).count();
        let mut ends = (0..tokens.len()).filter(|&at| self.tokenizer.is_end(tokens[at]));
        match ends.nth(inside) {
            Some(end) => tokens.truncate(end + 1),
            None => notes.endless += 1,
        }
        notes.unprompted += usize::from(!turn.prompted);
        if tokens.is_empty() {
            return Err("the answer has no tokens".into());
        }
        Ok((prompt, tokens))
    }
}

/// An assistant message as a template writes it.
struct Turn {
    /// What is in front of the answer.
    prompt: Rendered,
    /// The conversation up to the message.
    full: Rendered,
    /// First byte of the answer in `full`.
    start: usize,
    /// Byte behind the last one that the message says.
    end: usize,
    /// Whether `prompt` is what `chat` sends.
    prompted: bool,
}

impl Turn {
    /// Renders message `i` and what comes before it.
    fn render(conversation: &Conversation, i: usize, template: &ChatTemplate) -> Result<Turn, String> {
        let Conversation { messages, tools } = conversation;
        let render = |count: usize, ask: bool| {
            template.trace(&messages[..count], tools.as_ref(), ask).map_err(|error| error.to_string())
        };
        let full = render(i + 1, false)?;
        let said = full.said(i).ok_or("the chat template leaves it out")?;
        let prompt = match render(i, true) {
            // Many templates look at the first message: without one there is nothing that chat could send.
            Err(_) if i == 0 => full.until(said.start),
            prompt => prompt?,
        };
        let whole = full.text.starts_with(&prompt.text) && prompt.text.len() <= said.start;
        // A template may write what is before differently when it asks for an answer. As long as the last message before
        // is followed by the same header, the answer behind it fits the prompt that `chat` sends.
        let header = &prompt.text[prompt.end_of_contents(prompt.text.len())..];
        let before = full.end_of_contents(said.start);
        let headed = !header.is_empty() && full.text[before..said.start].starts_with(header);
        if whole || headed {
            let start = if whole { prompt.text.len() } else { before + header.len() };
            // What is between prompt and answer is generated, unless it is the header that the template never asks with.
            let blank = full.text[start..said.start].trim().is_empty();
            if blank || render(i, false)?.text != prompt.text {
                return Ok(Turn { prompt, full, start, end: said.end, prompted: true });
            }
        }
        // The template writes an answer otherwise than it asks for one: it is trained as it is written.
        let prompt = full.until(said.start);
        Ok(Turn { prompt, full, start: said.start, end: said.end, prompted: false })
    }
}

//! Records to examples: which tokens a model sees and which it is trained on.
//!
//! Conversations: for each assistant message the prompt is exactly what `chat` would send (all earlier messages
//! rendered with the generation prompt), the answer is what the template writes after it, up to the end-of-turn token.
//! Turns share an example as
//! long as each prompt continues the tokens before it; a template that rewrites history (dropping earlier
//! thoughts, say) or a merge over a boundary starts a new example, so that no prompt differs from what is served.

use crate::Result;
use crate::chat::{ChatTemplate, Marked, Message};
use crate::tokenizer::Tokenizer;

use super::record::Record;
use super::{DataOptions, Example, Objective};

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
    pub(super) fn encode(&self, record: &Record) -> Result<Vec<Example>, String> {
        let fail = |error: crate::Error| error.to_string();
        match (self.options.objective, record, self.template) {
            (Objective::Clm, Record::Text(text), _) => self.document(text, true).map_err(fail),
            (Objective::Sft, Record::Text(_), _) => {
                Err("has only text, but the objective sft trains on answers: use --objective clm, or messages".into())
            }
            (objective, Record::Messages(messages), Some(template)) => self.conversation(objective, messages, template),
            (_, Record::Messages(_), None) => Err(NO_TEMPLATE.into()),
            (objective, Record::Completion { prompt, completion }, Some(template)) => {
                let messages = [Message::new("user", prompt), Message::new("assistant", completion)];
                self.conversation(objective, &messages, template)
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
        Ok(vec![Example { trained: vec![true; tokens.len()], tokens, line: 0 }])
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
            (Record::Messages(messages), Some(template)) => {
                let last = messages.iter().rposition(|message| message.role == "assistant");
                let last = last.ok_or("has no assistant message to compare with")?;
                let prompt = template.encode(self.tokenizer, &messages[..last], true).map_err(fail)?;
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
        Ok(vec![Example { tokens, trained, line: 0 }])
    }

    fn conversation(
        &self,
        objective: Objective,
        messages: &[Message],
        template: &ChatTemplate,
    ) -> Result<Vec<Example>, String> {
        let fail = |error: crate::Error| error.to_string();
        let marked = Marked::new(self.tokenizer, messages).map_err(fail)?;
        if objective == Objective::Clm {
            let text = template.render(&marked.messages, false).map_err(fail)?;
            let tokens = self.tokenizer.encode_rendered(&text, Some(marked.mark)).map_err(fail)?;
            return Ok(vec![Example { trained: vec![true; tokens.len()], tokens, line: 0 }]);
        }
        let mut examples: Vec<Example> = Vec::new();
        for (i, _) in messages.iter().enumerate().filter(|(_, message)| message.role == "assistant") {
            let (prompt, answer) = self.turn(&marked, i, template)?;
            let example = match examples.last_mut() {
                Some(last) if prompt.starts_with(&last.tokens) => last,
                _ => {
                    examples.push(Example { tokens: Vec::new(), trained: Vec::new(), line: 0 });
                    let Some(last) = examples.last_mut() else { continue };
                    last
                }
            };
            example.trained.resize(prompt.len(), false);
            example.tokens = prompt;
            example.tokens.extend(answer);
            example.trained.resize(example.tokens.len(), true);
        }
        if examples.is_empty() {
            return Err("has no assistant message to train on".into());
        }
        Ok(examples)
    }

    /// Tokens of the prompt of message `i`, and of the message up to its end-of-turn token.
    fn turn(&self, marked: &Marked, i: usize, template: &ChatTemplate) -> Result<(Vec<u32>, Vec<u32>), String> {
        let fail = |error: crate::Error| format!("message {}: {error}", i + 1);
        let prompt = template.render(&marked.messages[..i], true).map_err(fail)?;
        let full = template.render(&marked.messages[..=i], false).map_err(fail)?;
        let answer = full.strip_prefix(&prompt).ok_or_else(|| {
            let detail = "the chat template writes it differently after its generation prompt than in a conversation";
            format!("message {}: {detail}, so that training could not match what is generated", i + 1)
        })?;
        let prompt = self.tokenizer.encode_rendered(&prompt, Some(marked.mark)).map_err(fail)?;
        let mut tokens = self.tokenizer.encode_continuation(&prompt, answer, Some(marked.mark)).map_err(fail)?;
        if let Some(end) = tokens.iter().rposition(|&id| self.tokenizer.is_end(id)) {
            tokens.truncate(end + 1);
        }
        if tokens.is_empty() {
            return Err(format!("message {}: the chat template writes nothing for it", i + 1));
        }
        Ok((prompt, tokens))
    }
}

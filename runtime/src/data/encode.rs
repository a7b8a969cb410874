//! Records to examples: which tokens a model sees and which it is trained on.
//!
//! Conversations: what is trained is known by construction. A template's strings know which message they come from
//! ([`ChatTemplate::trace`]), so an answer is the bytes from the first to the last one that an assistant message says,
//! wherever and however the template writes it, and the end-of-turn token after them. Before it stands exactly what
//! `chat` would send: all earlier messages rendered with the generation prompt; what the template itself writes between
//! that prompt and the answer (an empty thought, say) is generated too, so it is trained. Turns share an example as
//! long as each prompt continues the tokens before it; a template that rewrites history (dropping earlier thoughts,
//! say) or a merge over a boundary starts a new example, so that no prompt differs from what is served.

use std::borrow::Cow;
use std::ops::Range;

use crate::chat::{ChatTemplate, Message};
use crate::problem::DataProblem;
use crate::tokenizer::{Content, Contents, Tokenizer};
use loam_text::Result;

use super::preference::Preference;
use super::record::{Conversation, Record};
use super::turns::{Turn, Turns, left_out};
use super::{DataOptions, Example, Notes, Records, written};

/// What is wrong with a message of no weight where all text is trained.
const WEIGHTED: &str = "has a message that is not trained on (weight 0, or train false), which plain text cannot leave out: \
     train on answers instead";

/// All of a text.
fn whole(text: &str) -> Contents {
    Contents::new(vec![Content { range: 0..text.len(), answer: true }], None)
}

/// Whether there are tools in a list of them.
fn has_tools(tools: &serde_json::Value) -> bool {
    tools.as_array().is_some_and(|list| !list.is_empty())
}

/// What is wrong with a conversation for a model that was not made for conversations.
const NO_TEMPLATE: &str = "has messages, but the model has no chat template: give one, or use prompt and completion";

/// What is wrong with two texts without a prompt for a model that was made for conversations.
const NO_PROMPT: &str =
    "chosen and rejected are texts without a prompt, and the model has a chat template: give the prompt";

/// What is wrong with an answer that a template does not write in one go.
const SEVERAL: &str = "the chat template rewrites earlier turns, so that the answer is no single sequence";

/// What turns records into examples.
pub(super) struct Encoder<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) template: Option<&'a ChatTemplate>,
    pub(super) options: &'a DataOptions,
}

impl Encoder<'_> {
    /// Hands the examples of one record to `take`, before truncation, each as soon as it is whole: a template that
    /// rewrites history makes many that are long.
    ///
    /// # Errors
    /// What is wrong, without file and line.
    pub(super) fn encode(
        &self,
        record: &Record,
        notes: &mut Notes,
        take: &mut dyn FnMut(Example),
    ) -> Result<(), DataProblem> {
        match (record, self.template) {
            (Record::Text(text), _) => self.document(text, true, notes).map(take).map_err(DataProblem::from_text),
            (Record::Messages(conversation), Some(template)) => self.conversation(conversation, template, notes, take),
            (Record::Messages(_), None) => Err(DataProblem::Template(NO_TEMPLATE.into())),
            (Record::Completion { prompt, completion }, Some(template)) => {
                let messages = vec![Message::new("user", prompt), Message::new("assistant", completion)];
                self.conversation(&Conversation::new(messages, None), template, notes, take)
            }
            (Record::Completion { prompt, completion }, None) => {
                self.completion(prompt, completion, notes).map(take).map_err(DataProblem::from_text)
            }
            (Record::Preference(preference), _) => self.preference(preference, notes, take),
        }
    }

    /// The two sequences of a preference, the chosen one first.
    fn preference(
        &self,
        preference: &Preference,
        notes: &mut Notes,
        take: &mut dyn FnMut(Example),
    ) -> Result<(), DataProblem> {
        let sides = match preference {
            Preference::Texts { implicit: true, .. } if self.template.is_some() => return Err(NO_PROMPT.into()),
            Preference::Texts { prompt, chosen, rejected, .. } => [chosen, rejected]
                .map(|answer| Record::Completion { prompt: prompt.clone(), completion: answer.clone() }),
            Preference::Conversations { chosen, rejected } => {
                [chosen, rejected].map(|side| Record::Messages(side.clone()))
            }
        };
        for (side, name) in sides.iter().zip(["chosen", "rejected"]) {
            let mut examples = Vec::new();
            let encoded = self.encode(side, notes, &mut |example| examples.push(example));
            encoded.map_err(|problem| problem.named(name))?;
            let [example] =
                <[Example; 1]>::try_from(examples).map_err(|_| DataProblem::Template(SEVERAL.into()).named(name))?;
            take(example);
        }
        Ok(())
    }

    /// A plain document; `end` adds EOS, so that the model learns to stop.
    pub(super) fn document(&self, text: &str, end: bool, notes: &mut Notes) -> Result<Example> {
        self.note_spelled(text, &whole(text), notes);
        let mut tokens = self.tokenizer.encode(text, self.options.control_tokens, true)?;
        tokens.extend(self.tokenizer.eos().filter(|eos| end && tokens.last() != Some(eos)));
        Ok(Example { trained: vec![true; tokens.len()], tokens, line: 0, cut: 0 })
    }

    /// The tokens before the last answer of a record, as `chat` would send them, and the text of that answer.
    ///
    /// # Errors
    /// What is wrong, without file and line.
    pub(super) fn question(&self, record: &Record) -> Result<(Vec<u32>, String), DataProblem> {
        match (record, self.template) {
            (Record::Text(_), _) => {
                Err("has only text and no answer to compare with: messages, or prompt and completion are needed".into())
            }
            (Record::Preference(_), _) => {
                Err("has preferences and no answer to compare with: messages, or prompt and completion are needed"
                    .into())
            }
            (Record::Messages(_), None) => Err(DataProblem::Template(NO_TEMPLATE.into())),
            (Record::Messages(Conversation { messages, tools, .. }), Some(template)) => {
                let last = messages.iter().rposition(|message| message.role == "assistant");
                let last = last.ok_or("has no assistant message to compare with")?;
                let before = &messages[..last];
                let prompt = template
                    .encode_with_tools(self.tokenizer, before, tools.as_ref(), true)
                    .map_err(DataProblem::from_text)?;
                Ok((prompt, messages[last].content.clone()))
            }
            (Record::Completion { prompt, completion }, Some(template)) => {
                let messages = [Message::new("user", prompt)];
                let prompt = template.encode(self.tokenizer, &messages, true).map_err(DataProblem::from_text)?;
                Ok((prompt, completion.clone()))
            }
            (Record::Completion { prompt, completion }, None) => {
                Ok((self.plain_prompt(prompt).map_err(DataProblem::from_text)?, completion.clone()))
            }
        }
    }

    /// A prompt for a model without a chat template: the text as it is, after BOS if the model wants it.
    fn plain_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode(prompt, false, false)?;
        if let Some(bos) = self.tokenizer.bos().filter(|_| self.tokenizer.adds_bos()) {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// Prompt and answer for a model without a chat template: the texts as they are, then EOS.
    fn completion(&self, prompt: &str, completion: &str, notes: &mut Notes) -> Result<Example> {
        self.note_spelled(completion, &whole(completion), notes);
        let mut tokens = self.plain_prompt(prompt)?;
        let mut trained = vec![self.options.records == Records::Texts; tokens.len()];
        tokens.extend(match self.options.control_tokens {
            true => self.tokenizer.encode_continuation(&tokens, completion, &Contents::default())?,
            false => self.tokenizer.encode_after(&tokens, completion)?,
        });
        tokens.extend(self.tokenizer.eos());
        trained.resize(tokens.len(), true);
        Ok(Example { tokens, trained, line: 0, cut: 0 })
    }

    fn conversation(
        &self,
        conversation: &Conversation,
        template: &ChatTemplate,
        notes: &mut Notes,
        take: &mut dyn FnMut(Example),
    ) -> Result<(), DataProblem> {
        let conversation = &*self.taking(conversation);
        let Conversation { messages, tools, weighted } = conversation;
        if self.options.records == Records::Texts {
            if *weighted {
                return Err(WEIGHTED.into());
            }
            let full = template.trace(messages, tools.as_ref(), false).map_err(DataProblem::from_text)?;
            for (i, message) in messages.iter().enumerate().filter(|(_, message)| message.role == "assistant") {
                full.said(i).ok_or_else(|| left_out().in_message(i))?;
                written::check(message, &full.parts(Some(i)), notes).map_err(|problem| problem.in_message(i))?;
            }
            notes.toolless += usize::from(tools.as_ref().is_some_and(has_tools) && full.parts(None).is_empty());
            let contents = full.contents(0..full.text.len());
            self.note_spelled(&full.text, &contents, notes);
            let tokens = self.tokenizer.encode_rendered(&full.text, &contents).map_err(DataProblem::from_text)?;
            take(Example { trained: vec![true; tokens.len()], tokens, line: 0, cut: 0 });
            return Ok(());
        }
        if tools.as_ref().is_some_and(has_tools) {
            let full = template.trace(messages, tools.as_ref(), false).map_err(DataProblem::from_text)?;
            notes.toolless += usize::from(full.parts(None).is_empty());
        }
        let turns = Turns::new(conversation, template, self.tokenizer);
        self.answers(messages, turns, notes, take)
    }

    /// The conversation with control tokens taken where the options ask for it: in the trained answers.
    fn taking<'c>(&self, conversation: &'c Conversation) -> Cow<'c, Conversation> {
        if !self.options.control_tokens {
            return Cow::Borrowed(conversation);
        }
        let mut conversation = conversation.clone();
        let answers = conversation.messages.iter_mut().filter(|message| message.role == "assistant");
        answers.for_each(|message| message.control_tokens |= !message.untrained);
        Cow::Owned(conversation)
    }

    /// Counts the control tokens that `contents` of a text spell and that stay text.
    fn note_spelled(&self, text: &str, contents: &Contents, notes: &mut Notes) {
        if self.options.control_tokens {
            return;
        }
        for id in self.tokenizer.spelled(text, contents) {
            let token = self.tokenizer.token(id).unwrap_or_default().to_owned();
            *notes.spelled.entry(token).or_default() += 1;
        }
    }

    /// Joins turns to examples: one for all of them, as long as each prompt continues what is before it.
    pub(super) fn answers(
        &self,
        messages: &[Message],
        mut turns: Turns<'_>,
        notes: &mut Notes,
        take: &mut dyn FnMut(Example),
    ) -> Result<(), DataProblem> {
        let mut pending: Option<Pending> = None;
        let mut finish = |pending: Pending| {
            if pending.example.trained.iter().all(|&trained| trained) {
                let problem = "the chat template writes nothing before the answer: every token would be trained";
                return Err(DataProblem::Template(problem.into()));
            }
            take(pending.example);
            Ok(())
        };
        let trained = |message: &Message| message.role == "assistant" && !message.untrained;
        for (i, _) in messages.iter().enumerate().filter(|(_, message)| trained(message)) {
            let named = |problem: DataProblem| problem.in_message(i);
            let Some(turn) = turns.turn(i).map_err(named)? else {
                notes.unmarked += 1;
                continue;
            };
            written::check(&messages[i], &turn.full.parts(Some(i)), notes).map_err(named)?;
            let before = &turns.ids()[..turn.before];
            let (prompt, answer) = self.tokens(before, &turn, notes).map_err(named)?;
            let mut next = match pending.take() {
                Some(last) if last.is_continued(before, &prompt) => last,
                last => {
                    last.map_or(Ok(()), &mut finish)?;
                    Pending::new(before)
                }
            };
            next.extend(before, &prompt, &answer);
            pending = Some(next);
        }
        finish(pending.ok_or("has no assistant message to train on")?)?;
        Ok(())
    }

    /// Tokens of a turn's prompt after those that are `before` it, and of its answer up to its end-of-turn token.
    fn tokens(&self, before: &[u32], turn: &Turn, notes: &mut Notes) -> Result<(Vec<u32>, Vec<u32>), DataProblem> {
        let (prompt, full) = (&turn.prompt, &turn.full);
        let contents = prompt.contents(0..prompt.text.len());
        let prompt = match before {
            [] => self.tokenizer.encode_rendered(&prompt.text, &contents),
            before => self.tokenizer.encode_continuation(before, &prompt.text, &contents),
        };
        let prompt = prompt.map_err(DataProblem::from_text)?;
        let continued = |range: Range<usize>| {
            let (text, last) = (&full.text[range.clone()], if prompt.is_empty() { before } else { &prompt });
            self.tokenizer.encode_continuation(last, text, &full.contents(range)).map_err(DataProblem::from_text)
        };
        let stop = turn.stop.unwrap_or(full.text.len());
        self.note_spelled(&full.text[turn.start..turn.end], &full.contents(turn.start..turn.end), notes);
        let mut tokens = continued(turn.start..stop)?;
        // End tokens inside the answer (between a thought and what follows, say) are found alike in a part of it.
        let inside = continued(turn.start..turn.end)?.into_iter().filter(|&id| self.tokenizer.is_end(id)).count();
        let mut ends = (0..tokens.len()).filter(|&at| self.tokenizer.is_end(tokens[at]));
        match ends.nth(inside) {
            // A mark of the template says where the answer ends.
            Some(_) if turn.stop.is_some() => {}
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

/// An example that the next turn may continue.
struct Pending {
    example: Example,
    /// How many of its first tokens are those that turns share.
    shared: usize,
}

impl Pending {
    fn new(before: &[u32]) -> Self {
        let example = Example { tokens: before.to_vec(), trained: vec![false; before.len()], line: 0, cut: 0 };
        Pending { example, shared: before.len() }
    }

    /// Whether a prompt, `before` and then `prompt`, starts with all its tokens.
    fn is_continued(&self, before: &[u32], prompt: &[u32]) -> bool {
        let tokens = &self.example.tokens;
        let shared = self.shared.min(before.len());
        let mut next = before[shared..].iter().chain(prompt);
        tokens.len() <= before.len() + prompt.len() && tokens[shared..].iter().all(|token| next.next() == Some(token))
    }

    /// Adds what such a prompt has more, and the answer to it.
    fn extend(&mut self, before: &[u32], prompt: &[u32], answer: &[u32]) {
        let Example { tokens, trained, .. } = &mut self.example;
        let known = tokens.len();
        tokens.extend(before.iter().skip(known));
        tokens.extend(prompt.iter().skip(known.saturating_sub(before.len())));
        trained.resize(tokens.len(), false);
        tokens.extend(answer);
        trained.resize(tokens.len(), true);
        self.shared = before.len();
    }
}

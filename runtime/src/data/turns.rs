//! The answers of a conversation, as a template writes them, with what is before each.
//!
//! What is before an answer is the conversation so far, rendered as `chat` would: rendering and encoding it again for
//! each answer would take time that is quadratic in the length. Most templates let all prefixes be rendered in one go
//! ([`ChatTemplate::prefixes`]). Then an answer needs only a window, from a place in the text they share where it can
//! be cut and encoded once. Whatever does not fit this is rendered whole.

use crate::chat::{ChatTemplate, Message, Prefixes, Rendered};
use crate::problem::DataProblem;
use crate::tokenizer::{Cut, Tokenizer};

use super::record::Conversation;

/// What is wrong with a message that a template does not write.
pub(super) fn left_out() -> DataProblem {
    DataProblem::Template("the chat template leaves it out".into())
}

/// With fewer answers nothing is gained by rendering all in one go.
const FEW: usize = 3;

/// An assistant message as a template writes it.
pub(super) struct Turn {
    /// How many ids of [`Turns::ids`] are before both texts.
    pub(super) before: usize,
    /// What is before the answer.
    pub(super) prompt: Rendered,
    /// The conversation up to the message.
    pub(super) full: Rendered,
    /// First byte of the answer in `full`.
    pub(super) start: usize,
    /// Byte after the last one that the message says.
    pub(super) end: usize,
    /// Byte after the last one that is trained, where the template marks it.
    pub(super) stop: Option<usize>,
    /// Whether `prompt` is what `chat` sends.
    pub(super) prompted: bool,
}

/// The turns of a conversation, in order.
pub(super) struct Turns<'c> {
    conversation: &'c Conversation,
    template: &'c ChatTemplate,
    tokenizer: &'c Tokenizer,
    shared: Option<Shared>,
    /// Whether the template marks what is generated somewhere in the conversation.
    marked: bool,
}

/// All prefixes of a conversation.
struct Shared {
    /// With and without the generation prompt.
    asked: Prefixes,
    plain: Prefixes,
    /// Bytes in which the texts of both are equal.
    equal: usize,
    cuts: Vec<Cut>,
    /// What is encoded, and how many bytes of the text that is.
    ids: Vec<u32>,
    encoded: usize,
}

impl<'c> Turns<'c> {
    pub(super) fn new(conversation: &'c Conversation, template: &'c ChatTemplate, tokenizer: &'c Tokenizer) -> Self {
        let shared = Shared::new(conversation, template, tokenizer);
        let whole = || template.trace(&conversation.messages, conversation.tools.as_ref(), false);
        let marked = template.can_mark() && whole().is_ok_and(|whole| whole.is_marked());
        Turns { conversation, template, tokenizer, shared, marked }
    }

    /// Turns that are all rendered whole.
    #[cfg(test)]
    pub(super) fn one_by_one(conv: &'c Conversation, template: &'c ChatTemplate, tokenizer: &'c Tokenizer) -> Self {
        Turns { shared: None, ..Turns::new(conv, template, tokenizer) }
    }

    /// Ids that many turns have before them.
    pub(super) fn ids(&self) -> &[u32] {
        self.shared.as_ref().map_or(&[], |shared| &shared.ids)
    }

    /// The answer in message `i`; none if the template marks what is generated, and not this.
    ///
    /// # Errors
    /// What the template cannot do with it.
    pub(super) fn turn(&mut self, i: usize) -> Result<Option<Turn>, DataProblem> {
        let found = match &mut self.shared {
            Some(shared) => shared.turn(i, self.tokenizer)?,
            None => None,
        };
        let Conversation { messages, tools, .. } = self.conversation;
        let render = |count: usize, ask: bool| {
            self.template.trace(&messages[..count], tools.as_ref(), ask).map_err(DataProblem::from_text)
        };
        let turn = found.map_or_else(|| Turn::new(i, render), Ok)?;
        Ok(Some(turn).filter(|turn| !self.marked || turn.stop.is_some()))
    }
}

fn is_answer(message: &Message) -> bool {
    message.role == "assistant"
}

impl Shared {
    /// Renders all prefixes that the answers need; none if the template does not let that be done in one go.
    fn new(conversation: &Conversation, template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<Shared> {
        let Conversation { messages, tools, .. } = conversation;
        if messages.iter().filter(|message| is_answer(message)).count() < FEW {
            return None;
        }
        let answer = |i: usize| messages.get(i).is_some_and(is_answer);
        let before: Vec<bool> = (0..=messages.len()).map(answer).collect();
        let around: Vec<bool> = (0..=messages.len()).map(|i| answer(i) || i > 0 && answer(i - 1)).collect();
        let asked = template.prefixes(messages, tools.as_ref(), true, &before)?;
        let plain = template.prefixes(messages, tools.as_ref(), false, &around)?;
        let equal = asked.agrees(&plain);
        let cuts = tokenizer.cuts(asked.text(), &asked.contents(0..asked.text().len()));
        Some(Shared { asked, plain, equal, cuts, ids: Vec::new(), encoded: 0 })
    }

    /// The answer in message `i`, after a cut; none if it cannot be had so.
    fn turn(&mut self, i: usize, tokenizer: &Tokenizer) -> Result<Option<Turn>, DataProblem> {
        let Some(from) = self.cut(i) else { return Ok(None) };
        let render = |count: usize, ask: bool| {
            let prefixes = if ask { &self.asked } else { &self.plain };
            prefixes.from(count, from).ok_or_else(|| DataProblem::from("is not rendered"))
        };
        let Ok(mut turn) = Turn::new(i, render) else { return Ok(None) };
        // The window must show what is said before: who ends where is told from that.
        let Some(said) = turn.full.said(i) else { return Ok(None) };
        if !turn.full.others(i, said.start) || turn.prompt.end_of_contents(turn.prompt.text.len()) == 0 {
            return Ok(None);
        }
        self.encode(from, tokenizer).map_err(DataProblem::from_text)?;
        turn.before = self.ids.len();
        Ok((turn.before > 0).then_some(turn))
    }

    /// Where to cut before message `i`: with something that a message says between that and the answer.
    fn cut(&self, i: usize) -> Option<usize> {
        let ends = [self.asked.common(i)?, self.plain.common(i)?, self.plain.common(i + 1)?];
        let shared = ends.into_iter().fold(self.equal, usize::min);
        let content = self.asked.end_of_contents(shared)?;
        let count = self.cuts.partition_point(|cut| cut.until <= content);
        self.cuts[..count].last().map(|cut| cut.at).filter(|&at| at >= self.encoded)
    }

    /// Encodes the common text up to byte `to`, a cut.
    fn encode(&mut self, to: usize, tokenizer: &Tokenizer) -> loam_text::Result<()> {
        let range = self.encoded..to;
        let (text, contents) = (&self.asked.text()[range.clone()], self.asked.contents(range));
        if self.ids.is_empty() {
            let ids = tokenizer.encode_continuation(&[], text, &contents)?;
            // Without any the first ids, and whether BOS is among them, are still to come.
            if ids.is_empty() {
                return Ok(());
            }
            self.ids = tokenizer.encode_rendered(text, &contents)?;
        } else {
            let ids = tokenizer.encode_continuation(&self.ids, text, &contents)?;
            self.ids.extend(ids);
        }
        self.encoded = to;
        Ok(())
    }
}

impl Turn {
    /// Message `i` and what comes before it; `render` renders the first messages.
    fn new(i: usize, render: impl Fn(usize, bool) -> Result<Rendered, DataProblem>) -> Result<Turn, DataProblem> {
        let full = render(i + 1, false)?;
        let said = full.said(i).ok_or_else(left_out)?;
        let asked = render(i, true);
        if let Some(mark) = full.generated(i) {
            let prompt = full.until(mark.start);
            let prompted = asked.is_ok_and(|asked| asked.text == prompt.text);
            return Ok(Turn {
                before: 0,
                prompt,
                full,
                start: mark.start,
                end: said.end,
                stop: Some(mark.end),
                prompted,
            });
        }
        let prompt = match asked {
            // Many templates look at the first message: without one there is nothing that chat could send.
            Err(_) if i == 0 => full.until(said.start),
            prompt => prompt?,
        };
        let whole = full.text.starts_with(&prompt.text) && prompt.text.len() <= said.start;
        // A template may write what is before differently when it asks for an answer. As long as the last message
        // before is followed by the same header, the answer after it fits the prompt that `chat` sends.
        let header = &prompt.text[prompt.end_of_contents(prompt.text.len())..];
        let before = full.end_of_contents(said.start);
        let written = &full.text[before..said.start];
        let headed = !header.is_empty() && written.starts_with(header);
        let mut start = said.start;
        if whole || headed {
            start = if whole { prompt.text.len() } else { before + header.len() };
            // What is between prompt and answer is generated, unless it is the header that the template never asks
            // with.
            let blank = full.text[start..said.start].trim().is_empty();
            if blank || render(i, false)?.text != prompt.text {
                return Ok(Turn { before: 0, prompt, full, start, end: said.end, stop: None, prompted: true });
            }
            start = said.start;
        } else if let Ok(plain) = render(i, false) {
            // Both begin a turn; what comes after that header is the answer.
            let ended = plain.text.len() - plain.end_of_contents(plain.text.len());
            let common = common_header(header, written);
            // Where letters follow, it is another name that the turn has.
            let named = header[common..].starts_with(char::is_alphanumeric);
            start = if common > ended && !named { before + common } else { start };
        }
        // The template writes an answer otherwise than it asks for one: it is trained as it is written.
        let prompt = full.until(start);
        Ok(Turn { before: 0, prompt, full, start, end: said.end, stop: None, prompted: false })
    }
}

/// How far two texts are the same header: up to the last line or mark that ends in what they have in common.
fn common_header(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let ends = |c: char| matches!(c, '\n' | '>' | ']' | ':');
    let common = b.char_indices().take_while(|(at, c)| at + c.len_utf8() <= same);
    common.filter(|(_, c)| ends(*c)).last().map_or(0, |(at, c)| at + c.len_utf8())
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;

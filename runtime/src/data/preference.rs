//! Preferences: a prompt with a better and a worse answer, each a text or messages, as TRL has them.
//!
//! Without a prompt both answers are whole: what they begin with in common is the prompt (TRL's `extract_prompt`).

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::record::Conversation;
use crate::chat::Message;

/// A text or messages.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Text(String),
    Messages(Vec<Message>),
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextOrMessages)
    }
}

struct TextOrMessages;

impl<'de> Visitor<'de> for TextOrMessages {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of messages")
    }

    fn visit_str<E>(self, text: &str) -> Result<Said, E> {
        Ok(Said::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Said, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Said::Messages)
    }
}

/// Two answers to a prompt.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Preference {
    /// Texts.
    Texts {
        prompt: String,
        chosen: String,
        rejected: String,
        /// The prompt is what both have in common: it may end in the middle of a sentence.
        implicit: bool,
    },
    /// Conversations. What both begin with is not trained.
    Conversations { chosen: Conversation, rejected: Conversation },
}

impl Preference {
    /// Of the values of a line.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn new(
        prompt: Option<Said>,
        chosen: Said,
        rejected: Said,
        tools: Option<serde_json::Value>,
    ) -> Result<Self, String> {
        let conversation = |prompt: &[Message], answer: &[Message]| joined(prompt, answer, tools.clone());
        match (prompt, chosen, rejected) {
            (Some(Said::Text(prompt)), Said::Text(chosen), Said::Text(rejected)) => {
                Ok(Preference::Texts { prompt, chosen, rejected, implicit: false })
            }
            (None, Said::Text(chosen), Said::Text(rejected)) => {
                let at = common_text(&chosen, &rejected);
                let (prompt, rejected) = (chosen[..at].to_owned(), rejected[at..].to_owned());
                Ok(Preference::Texts { prompt, chosen: chosen[at..].to_owned(), rejected, implicit: true })
            }
            (Some(Said::Messages(prompt)), Said::Messages(chosen), Said::Messages(rejected)) => {
                let (chosen, rejected) = (conversation(&prompt, &chosen), conversation(&prompt, &rejected));
                Ok(Preference::Conversations { chosen, rejected })
            }
            (None, Said::Messages(chosen), Said::Messages(rejected)) => {
                let at = common(&chosen, &rejected);
                let (before, after) =
                    (conversation(&chosen[..at], &chosen[at..]), conversation(&rejected[..at], &rejected[at..]));
                Ok(Preference::Conversations { chosen: before, rejected: after })
            }
            _ => Err("prompt, chosen and rejected must be all texts or all lists of messages".into()),
        }
    }
}

/// A prompt and the answer to it as one conversation, of which the answer is trained.
pub(super) fn joined(prompt: &[Message], answer: &[Message], tools: Option<serde_json::Value>) -> Conversation {
    let weighted = prompt.iter().chain(answer).any(|message| message.untrained);
    let prompt = prompt.iter().map(|message| Message { untrained: true, ..message.clone() });
    Conversation { messages: prompt.chain(answer.iter().cloned()).collect(), tools, weighted }
}

/// How many items of both lists are the same at the start; something is left of each.
fn common<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let most = a.len().min(b.len()).saturating_sub(1);
    a[..most].iter().zip(&b[..most]).take_while(|(a, b)| a == b).count()
}

/// How many bytes of both texts are the same at the start, without a space at the end: it belongs to the answers, as
/// most tokenizers have it.
fn common_text(a: &str, b: &str) -> usize {
    let (chars_a, chars_b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let same = common(&chars_a, &chars_b);
    let same = if same > 0 && chars_a[same - 1] == ' ' { same - 1 } else { same };
    chars_a[..same].iter().map(|c| c.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(chosen: &str, rejected: &str) -> (String, String, String) {
        let text = |text: &str| Said::Text(text.to_owned());
        match Preference::new(None, text(chosen), text(rejected), None) {
            Ok(Preference::Texts { prompt, chosen, rejected, implicit: true }) => (prompt, chosen, rejected),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_both_have_in_common_is_the_prompt() {
        let expected = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(texts("The sky is blue.", "The sky is green."), expected("The sky is", " blue.", " green."));
        assert_eq!(texts("äöx", "äöyz"), expected("äö", "x", "yz"));
        assert_eq!(texts("ab", "ab"), expected("a", "b", "b"));
        assert_eq!(texts("", "b"), expected("", "", "b"));
    }

    #[test]
    fn shared_turns_are_not_trained() {
        let (ask, answer) = (Message::new("user", "a"), |text| Message::new("assistant", text));
        let said = |last| Said::Messages(vec![ask.clone(), answer("b"), ask.clone(), answer(last)]);
        let Ok(Preference::Conversations { chosen, rejected }) = Preference::new(None, said("c"), said("d"), None)
        else {
            panic!("conversations");
        };
        let untrained = |conversation: &Conversation| -> Vec<bool> {
            conversation.messages.iter().map(|message| message.untrained).collect()
        };
        assert_eq!(untrained(&chosen), [true, true, true, false]);
        assert_eq!(untrained(&rejected), [true, true, true, false]);
        assert_eq!((chosen.messages[3].content.as_str(), rejected.messages[3].content.as_str()), ("c", "d"));
        let prompt = Some(Said::Text("a".into()));
        assert!(Preference::new(prompt, said("c"), said("d"), None).is_err());
    }
}

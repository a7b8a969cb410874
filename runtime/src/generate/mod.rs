//! Generation: a runner of any number of sequences over one cache of keys and values, a session with one sequence,
//! answers and conversations, and the sampler that picks the next token.

mod answer;
mod blocks;
mod chat;
mod runner;
pub mod sampler;
mod session;
mod text;

pub use answer::{Answer, AnswerOptions, Stop, fits};
pub use blocks::Sequence;
pub use chat::{Chat, Question, prompt};
pub use runner::{Feed, Room, Runner, Shape};
pub use session::{GenerateOptions, Session};

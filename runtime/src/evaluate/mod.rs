//! Measures: the loss on held-out data, and how generated answers compare with reference answers.

mod accuracy;
mod answers;
mod bleu;
mod loss;
mod rouge;

pub use accuracy::accuracy;
pub use answers::answers;
pub use bleu::corpus_bleu;
pub use loss::Scorer;
pub use rouge::Rouge;

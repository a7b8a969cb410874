//! Measures: the loss on held-out data, how generated answers compare with reference answers, and how far a model is
//! from another one.

mod accuracy;
mod answers;
mod bleu;
mod divergence;
mod loss;
mod mean;
mod rouge;
mod windows;

pub use accuracy::{accuracy, is_reference};
pub use answers::answers;
pub use bleu::corpus_bleu;
pub use divergence::{Divergence, log_softmax};
pub use loss::Scorer;
pub use mean::{Mean, Sums, change, grouped};
pub use rouge::Rouge;
pub use windows::windows;

//! Cross-entropy over a chunk of logits, gradient in place.

//! Causal attention with a saved log-sum-exp; never a T x T buffer.

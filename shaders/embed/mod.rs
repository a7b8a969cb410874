//! Rows of the token embedding.

//! Gated linear units.

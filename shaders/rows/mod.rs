//! Gathers and scatters rows.

//! Sums, copies and fills.

//! Products with a quantised weight, forward and transposed.

//! Which device to use.

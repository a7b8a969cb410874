//! Both back ends behind the one trait: buffers, plans, errors, and that they compute the same.

mod compare;
mod faults;
mod feed_forward;
mod fixture;
mod half;
mod plans;
mod selection;
mod storage;
mod tuning;

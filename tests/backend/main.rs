//! Both back ends under the one trait: buffers, plans, errors, and that they compute the same.

mod compare;
mod faults;
mod feed_forward;
mod fixture;
mod plans;
mod precision;
mod selection;
mod storage;
mod tuning;

//! A training run that is stopped, killed or robbed of its disk or device at any moment, and its adapter in the end:
//! the same bytes as those of a run that nothing happened to. `targets/cli/tests/kill.rs` kills the whole program.

mod damage;
mod devices;
mod faults;
mod job;
mod pace;
mod power;
mod resume;
mod variants;

//! One target per parser of things that come from outside: changed inputs for `LOAM_FUZZ_SECONDS` (default 2) each. A
//! panic, an abort, memory beyond the budget and more than two seconds are failures; the input is kept and its replay
//! printed. `docs/fuzzing.md` tells what ran for how long.

mod cases;
mod engine;
mod folders;
mod mutate;
mod seeds;
mod targets;

/// Counts what each thread allocates.
#[global_allocator]
static ALLOCATOR: loam_tests::budget::Counting = loam_tests::budget::Counting;

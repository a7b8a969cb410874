//! GGUF files: what the reader must refuse and how, what the writer makes, and what an independent reader says to it.

mod budget;
mod craft;
mod handcrafted;
mod hostile;
mod hostile_tensors;
mod mutation;
mod opening;
mod round_trip;
mod second_reader;
mod splits;

/// Counts what each test thread allocates.
#[global_allocator]
static ALLOCATOR: loam_tests::budget::Counting = loam_tests::budget::Counting;

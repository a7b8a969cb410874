//! Chat templates: the language compared with another engine, what is trained of their texts, and templates made to do
//! harm.

mod engine;
mod given;
mod hostile;
mod masks;
mod styles;
mod tools;

#[global_allocator]
static ALLOCATOR: loam_tests::budget::Counting = loam_tests::budget::Counting;

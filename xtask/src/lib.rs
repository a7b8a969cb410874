//! How loam's source is read for counts and rules: the files, what is code and what is comment in them, functions, and
//! which folder uses which. Text only: nothing is compiled.

pub mod count;
pub mod folders;
pub mod functions;
pub mod lexer;
pub mod sources;

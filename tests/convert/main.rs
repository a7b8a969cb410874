//! The converter end to end: bytes and metadata against llama.cpp's, sources in every layout, wrong inputs, PEFT.

mod adapters;
mod brought;
mod failures;
mod families;
mod family_adapters;
mod folder;
mod golden;
mod hostile;
mod pairs;
mod requantise;
mod resume;
mod sources;
mod splits;

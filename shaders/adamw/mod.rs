//! AdamW with on-device clipping by the global norm.

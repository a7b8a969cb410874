//! Training data: JSONL to packed batches.

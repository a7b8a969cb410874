//! The CPU back end: host functions over the mapped file.

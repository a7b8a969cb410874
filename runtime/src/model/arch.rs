//! What differs between architectures and is not in the metadata. The only place that knows their names.

/// Fixed properties of an architecture.
#[derive(Debug, Clone, Copy)]
pub struct Architecture {
    /// `general.architecture`, and the prefix of its metadata keys.
    pub name: &'static str,
    /// 0: adjacent pairs are rotated (ggml NORM), 1: halves (ggml NEOX).
    pub rope_style: u32,
    /// Whether the rows of q and k are permuted against Hugging Face's (adjacent pairs instead of halves), and rows of
    /// an adapter's B with them.
    pub permuted: bool,
}

const TABLE: &[Architecture] = &[Architecture { name: "llama", rope_style: 0, permuted: true }];

/// The architecture called `name`.
pub fn find(name: &str) -> Option<&'static Architecture> {
    TABLE.iter().find(|a| a.name == name)
}

/// Names of all supported architectures, for error messages.
pub fn names() -> String {
    TABLE.iter().map(|a| a.name).collect::<Vec<_>>().join(", ")
}

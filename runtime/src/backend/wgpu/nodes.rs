//! Whether the system has a GPU, without asking drivers.

/// What the nodes of GPUs in /dev begin with: of the kernel's graphics drivers, and of those that have their own.
#[cfg(target_os = "linux")]
const NODES: [&str; 8] = ["dri", "nvidia", "dxg", "kgsl", "mali", "pvr", "galcore", "goldfish_"];

/// Whether there may be a real GPU. Looking for one loads every driver (with Mesa's 50 MB, of which little comes back),
/// so `auto` does not where the kernel has none.
#[cfg(target_os = "linux")]
pub fn may_have_gpu() -> bool {
    let Ok(nodes) = std::fs::read_dir("/dev") else { return true };
    nodes
        .flatten()
        .any(|node| NODES.iter().any(|name| node.file_name().as_encoded_bytes().starts_with(name.as_bytes())))
}

/// Whether there may be a real GPU.
#[cfg(not(target_os = "linux"))]
pub fn may_have_gpu() -> bool {
    true
}

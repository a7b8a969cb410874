//! The host's memory: asked before a large allocation, because Linux grants what it does not have and kills later.

use crate::error::{Error, Result};

/// Allocations below this are not checked.
const SMALL: u64 = 1 << 20;

/// Bytes that new allocations can use without swapping; `None` where the system does not say.
#[cfg(target_os = "linux")]
pub fn available_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Bytes that new allocations can use without swapping; `None` where the system does not say.
#[cfg(not(target_os = "linux"))]
pub fn available_bytes() -> Option<u64> {
    None
}

/// Refuses an allocation of `bytes` for `what` that the host cannot hold.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn check(what: &str, bytes: u64) -> Result<()> {
    if bytes < SMALL {
        return Ok(());
    }
    match available_bytes() {
        Some(available) if bytes > available => Err(Error::OutOfMemory {
            device: "host".into(),
            what: format!("{what} ({available} bytes are free)"),
            bytes,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused_where_the_system_tells() {
        assert!(check("a test", 1000).is_ok());
        if available_bytes().is_some() {
            assert!(matches!(check("a test", 1 << 50), Err(Error::OutOfMemory { bytes, .. }) if bytes == 1 << 50));
        }
    }
}

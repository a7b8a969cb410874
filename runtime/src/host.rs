//! The host's memory: asked before a large allocation, because Linux grants what it does not have and kills later.

#[cfg(any(target_os = "linux", test))]
mod limits;

use crate::error::{Error, Result};

/// Allocations below this are not checked.
const SMALL: u64 = 1 << 20;

/// Bytes that new allocations can use without swapping: by the machine, by the memory limits of the control groups that
/// the process is in (a container's), and by its own limits (`ulimit -v`, `ulimit -d`). `None` where the system does
/// not say.
#[cfg(target_os = "linux")]
pub fn available_bytes() -> Option<u64> {
    limits::available(&|path| std::fs::read_to_string(path).ok())
}

/// Bytes that new allocations can use without swapping; `None` where the system does not say.
#[cfg(not(target_os = "linux"))]
pub fn available_bytes() -> Option<u64> {
    None
}

/// The most bytes that the process may ever have, by the machine and the same limits. `None` where the system does not
/// say.
#[cfg(target_os = "linux")]
pub fn limit_bytes() -> Option<u64> {
    limits::most(&|path| std::fs::read_to_string(path).ok())
}

/// The most bytes that the process may ever have; `None` where the system does not say.
#[cfg(not(target_os = "linux"))]
pub fn limit_bytes() -> Option<u64> {
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
            assert!(available_bytes() <= limit_bytes());
        }
    }
}

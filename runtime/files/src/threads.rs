//! Threads that compute: as many as are wanted, or as many as the system gives (`ulimit -u`, a container's pids.max).

use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// Threads of an attempt that failed are counted until they have ended.
const WAIT: Duration = Duration::from_millis(10);

/// A pool of `wanted` threads, or of as many as the process may use; of fewer if the system does not give so many.
/// Nothing in loam depends on their number but the time.
///
/// # Errors
/// [`Error::Threads`] if there is not even one. Work that has no pool must not run in rayon's global one, which panics
/// then.
pub fn pool(wanted: Option<usize>) -> Result<ThreadPool> {
    let mut threads = wanted.unwrap_or_else(available).max(1);
    loop {
        let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("loam-{index}"));
        let built = builder.build().map_err(|error| error.to_string());
        match built.and_then(|pool| spare().map(|()| pool).map_err(|error| error.to_string())) {
            Ok(pool) => return Ok(pool),
            Err(error) if threads == 1 => return Err(Error::Threads(error)),
            Err(_) => threads /= 2,
        }
        std::thread::sleep(WAIT);
    }
}

/// Whether one more thread can be had: a clock starts its own later, and panics without.
fn spare() -> std::io::Result<()> {
    let started = std::thread::Builder::new().spawn(|| ())?;
    // It does nothing, so that it cannot have panicked.
    let _ = started.join();
    Ok(())
}

/// Threads that the process may use at once.
pub fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_the_threads_that_are_wanted() {
        assert_eq!(pool(Some(3)).unwrap().current_num_threads(), 3);
        assert_eq!(pool(None).unwrap().current_num_threads(), available());
    }
}

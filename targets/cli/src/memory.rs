//! Peak memory of this process, and what keeps it close to what the program has on its heap.

/// Allocations of so many bytes get pages of their own, which the system has back when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_PAGES: libc::c_int = 1 << 20;

/// From now on large allocations leave no holes: otherwise glibc keeps up to 32 MB of each for later ones.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_tight() {
    // SAFETY: sets a number of glibc's allocator, which takes any.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES) };
}

/// Gives what was freed back to the system: loading tokenizers and data leaves a third of them as holes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() {
    // SAFETY: may be called at any time.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators return pages by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_tight() {}

/// Other allocators return pages by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}

/// Largest resident set so far in bytes; `None` where the system does not say.
#[cfg(target_os = "linux")]
pub fn peak_host_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Largest resident set so far in bytes; `None` where the system does not say.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn peak_host_bytes() -> Option<u64> {
    // SAFETY: all-zero is a valid `rusage`: it consists of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for one `rusage`, which the call fills.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) } != 0 {
        return None;
    }
    let count = u64::try_from(usage.ru_maxrss).ok()?;
    // Apple counts bytes, the others kibibytes.
    if cfg!(target_vendor = "apple") { Some(count) } else { count.checked_mul(1024) }
}

/// Largest resident set so far in bytes; `None` where the system does not say.
#[cfg(not(unix))]
pub fn peak_host_bytes() -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    #[test]
    fn a_test_process_uses_between_a_mebibyte_and_a_tebibyte() {
        let peak = super::peak_host_bytes().expect("known on unix");
        assert!((1 << 20..1 << 40).contains(&peak), "{peak}");
    }
}

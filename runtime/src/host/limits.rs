//! What Linux says about memory, read from its text files: the machine's, that of control groups of both versions, and
//! the limits of the process.

/// Reads a text file of the system, if it is there and may be read.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The memory of one control group, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    limit: u64,
    used: u64,
    /// Of what is used: files that are in memory and can leave it.
    cached: u64,
}

/// How one version of control groups names things.
struct Version {
    limit: &'static str,
    used: &'static str,
    /// Lines of `memory.stat` that count files in memory, those of groups in it too.
    cached: [&'static str; 2],
}

const V2: Version = Version { limit: "memory.max", used: "memory.current", cached: ["inactive_file", "active_file"] };
const V1: Version = Version {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: ["total_inactive_file", "total_active_file"],
};

/// Bytes that new allocations can use.
pub(super) fn available(read: Read<'_>) -> Option<u64> {
    let machine = read("/proc/meminfo").and_then(|text| kibibytes(&text, "MemAvailable:"));
    let groups = groups(read).into_iter().map(|group| {
        let held = group.used.saturating_sub(group.cached);
        group.limit.saturating_sub(held)
    });
    let own = own(read).into_iter().map(|(limit, used)| limit.saturating_sub(used));
    machine.into_iter().chain(groups).chain(own).min()
}

/// The most bytes that the process may have.
pub(super) fn most(read: Read<'_>) -> Option<u64> {
    let machine = read("/proc/meminfo").and_then(|text| kibibytes(&text, "MemTotal:"));
    let groups = groups(read).into_iter().map(|group| group.limit);
    let own = own(read).into_iter().map(|(limit, _)| limit);
    machine.into_iter().chain(groups).chain(own).min()
}

/// The number of the line that begins with `name`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let count: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    count.checked_mul(1024)
}

/// The process's own limits of address space and of data, where it has any, and what it uses of them.
fn own(read: Read<'_>) -> Vec<(u64, u64)> {
    let (Some(limits), Some(status)) = (read("/proc/self/limits"), read("/proc/self/status")) else {
        return Vec::new();
    };
    let of = |limit: &str, used: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit))?;
        // The soft limit, which is "unlimited" where there is none.
        let limit = line.split_whitespace().next()?.parse().ok()?;
        Some((limit, kibibytes(&status, used)?))
    };
    [of("Max address space", "VmSize:"), of("Max data size", "VmData:")].into_iter().flatten().collect()
}

/// The control groups with a limit that the process is in, with all above them.
fn groups(read: Read<'_>) -> Vec<Group> {
    let (Some(own), Some(mounts)) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo")) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for line in own.lines() {
        // hierarchy:controllers:path
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (version, kind) = match controllers {
            "" => (V2, "cgroup2"),
            _ if controllers.split(',').any(|name| name == "memory") => (V1, "cgroup"),
            _ => continue,
        };
        for mount in mounts.lines().filter_map(|line| Mount::of(line, kind)) {
            all.extend(mount.above(path).iter().filter_map(|folder| version.group(read, folder)));
        }
    }
    all
}

/// Where control groups are in the file system.
struct Mount<'a> {
    /// The group that is at its top.
    root: &'a str,
    place: String,
}

impl<'a> Mount<'a> {
    /// A line of mountinfo: `id parent device root place options .. - kind source options`.
    fn of(line: &'a str, kind: &str) -> Option<Mount<'a>> {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let (found, options) = (system.next()?, system.nth(1)?);
        let is_memory = kind == "cgroup2" || options.split(',').any(|option| option == "memory");
        let mut mount = mount.split(' ').skip(3);
        let (root, place) = (mount.next()?, mount.next()?);
        (found == kind && is_memory).then(|| Mount { root, place: place.replace("\\040", " ") })
    }

    /// The folders of the group `path` and of all above it. A group that is not below the mount's own is that one: the
    /// process sees its container only.
    fn above(&self, path: &str) -> Vec<String> {
        let below = path.strip_prefix(self.root.trim_end_matches('/')).unwrap_or("");
        let mut folders = vec![self.place.clone()];
        for name in below.split('/').filter(|name| !name.is_empty() && *name != "..") {
            folders.push(format!("{}/{name}", folders[folders.len() - 1]));
        }
        folders
    }
}

impl Version {
    /// The group in `folder`, if it has a limit.
    fn group(&self, read: Read<'_>, folder: &str) -> Option<Group> {
        // "max" is no number; version 1 says "no limit" with a number close to 2^63, which is none to the machine.
        let limit = read(&format!("{folder}/{}", self.limit))?.trim().parse().ok()?;
        let used = read(&format!("{folder}/{}", self.used))?.trim().parse().ok()?;
        let stat = read(&format!("{folder}/memory.stat")).unwrap_or_default();
        let count = |name: &str| -> u64 {
            let lines = stat.lines().filter_map(|line| line.split_once(' '));
            lines.filter(|(found, _)| *found == name).find_map(|(_, count)| count.trim().parse().ok()).unwrap_or(0)
        };
        let cached = self.cached.iter().map(|name| count(name)).fold(0, u64::saturating_add);
        Some(Group { limit, used, cached })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const GIB: u64 = 1 << 30;
    const MACHINE: [(&str, &str); 3] = [
        ("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n"),
        ("/proc/self/status", "Name:\tloam\nVmSize:\t 1048576 kB\nVmData:\t  524288 kB\n"),
        (
            "/proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max data size             unlimited            unlimited            bytes     \n\
             Max address space         unlimited            unlimited            bytes     \n",
        ),
    ];

    /// (available, most) in bytes, as `files` say over those of the machine.
    fn told(files: &[(&str, &str)]) -> (Option<u64>, Option<u64>) {
        let all: HashMap<&str, &str> = MACHINE.iter().chain(files).copied().collect();
        let read = |path: &str| all.get(path).map(|text| (*text).to_owned());
        (available(&read), most(&read))
    }

    #[test]
    fn a_machine_without_limits_is_asked_alone() {
        assert_eq!(told(&[]), (Some(8 * GIB), Some(16 * GIB)));
        assert_eq!(available(&|_| None), None);
    }

    #[test]
    fn a_container_of_version_2_counts_with_all_groups_above() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let files = [
            ("/proc/self/cgroup", "0::/kubepods/pod1/c1\n"),
            ("/proc/self/mountinfo", mounts),
            ("/sys/fs/cgroup/kubepods/memory.max", "max\n"),
            ("/sys/fs/cgroup/kubepods/memory.current", "99\n"),
            ("/sys/fs/cgroup/kubepods/pod1/memory.max", "2147483648\n"),
            ("/sys/fs/cgroup/kubepods/pod1/memory.current", "1610612736\n"),
            ("/sys/fs/cgroup/kubepods/pod1/memory.stat", "anon 1\ninactive_file 268435456\nactive_file 268435456\n"),
            ("/sys/fs/cgroup/kubepods/pod1/c1/memory.max", "4294967296\n"),
            ("/sys/fs/cgroup/kubepods/pod1/c1/memory.current", "1073741824\n"),
        ];
        // 2 GiB without the 1.5 GiB that are used, of which half a GiB can leave.
        assert_eq!(told(&files), (Some(GIB), Some(2 * GIB)));
        // As a container sees itself.
        let files = [
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", mounts),
            ("/sys/fs/cgroup/memory.max", "1073741824\n"),
            ("/sys/fs/cgroup/memory.current", "2147483648\n"),
        ];
        assert_eq!(told(&files), (Some(0), Some(GIB)));
    }

    #[test]
    fn a_container_of_version_1_counts_by_its_mount() {
        let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      36 31 0:33 /docker/abc /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n";
        let own = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n";
        let files = [
            ("/proc/self/cgroup", own),
            ("/proc/self/mountinfo", mounts),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "3221225472\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "2147483648\n"),
            ("/sys/fs/cgroup/memory/memory.stat", "cache 7\ntotal_inactive_file 1073741824\n"),
        ];
        assert_eq!(told(&files), (Some(2 * GIB), Some(3 * GIB)));
        let unlimited = [files[0], files[1], (files[2].0, "9223372036854771712\n"), files[3], files[4]];
        assert_eq!(told(&unlimited), (Some(8 * GIB), Some(16 * GIB)));
    }

    #[test]
    fn limits_of_the_process_count() {
        let limits = |data: &str, space: &str| {
            format!("Max data size  {data}  unlimited  bytes\nMax address space  {space}  unlimited  bytes\n")
        };
        let space = limits("unlimited", "2147483648");
        assert_eq!(told(&[("/proc/self/limits", &space)]), (Some(GIB), Some(2 * GIB)));
        let data = limits("1073741824", "unlimited");
        assert_eq!(told(&[("/proc/self/limits", &data)]), (Some(GIB / 2), Some(GIB)));
    }

    #[test]
    fn texts_that_are_none_are_no_limits() {
        let files = [
            ("/proc/self/cgroup", "x\n0:memory\n4:memory:/a/../b\n"),
            ("/proc/self/mountinfo", "1\n1 2 3 - cgroup\n35 31 0:32 / /m rw - cgroup cgroup rw,memory\n"),
            ("/m/memory.limit_in_bytes", "many\n"),
            ("/proc/self/limits", "Max address space\n"),
        ];
        assert_eq!(told(&files), (Some(8 * GIB), Some(16 * GIB)));
    }
}

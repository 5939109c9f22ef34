//! What the kernel says of the machine and of processes. Linux only: elsewhere the report leaves it out.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Ticks in `/proc` a second: `USER_HZ`, the same on every Linux whatever its kernel's own rate.
const TICKS: u64 = 100;

/// The processor time that a process has used, in user and kernel mode; by ticks of 10 ms.
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces; what follows its last parenthesis does not.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(1_000) / TICKS))
}

/// A process's resident memory, in octets.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.saturating_mul(1024))
}

/// The processor's name and how many there are.
pub(crate) fn processor() -> (String, usize) {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':'));
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    (name.map(|(_, n)| n.trim().to_owned()).unwrap_or_default(), count)
}

/// Memory of the machine, in octets.
pub(crate) fn memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.saturating_mul(1024))
}

/// How many processes wanted to run in the last minute: what else went on while it was measured.
pub(crate) fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default().to_owned()
}

/// The kernel's version.
pub(crate) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// The file system below a path: its mount point and kind.
pub(crate) fn file_system(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        path.starts_with(point).then(|| (point.len(), format!("{kind} at {point}")))
    });
    below.max_by_key(|(len, _)| *len).map(|(_, what)| what).unwrap_or_default()
}

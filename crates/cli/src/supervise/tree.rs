//! All that descends from the command: found in `/proc`, since processes leave groups and sessions, but not their
//! ancestors while a subreaper is one.

use std::collections::BTreeMap;

use rustix::process::{
    Pid, Signal, getpgid, getpid, kill_process, kill_process_group, test_kill_process_group,
};

/// The command, its group where it leads one, and its descendants.
#[derive(Debug)]
pub(super) struct Tree {
    command: Pid,
    leads: bool,
}

impl Tree {
    pub(super) const fn of(command: Pid, leads: bool) -> Self {
        Self { command, leads }
    }

    /// Sends a signal to each of its processes, once.
    pub(super) fn signal(&self, signal: Signal) {
        if self.leads {
            let _ = kill_process_group(self.command, signal);
        }
        let all = descendants().unwrap_or_else(|| vec![self.command]);
        for pid in all {
            let told = self.leads && getpgid(Some(pid)).is_ok_and(|group| group == self.command);
            if !told {
                // It may have ended by itself.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Whether nothing of it runs any more. To be asked only once the command itself was waited for.
    pub(super) fn is_gone(&self) -> bool {
        match descendants() {
            Some(left) => left.is_empty(),
            None => !self.leads || test_kill_process_group(self.command).is_err(),
        }
    }
}

/// The living descendants of this process; none where `/proc` does not tell, or tells of another namespace.
fn descendants() -> Option<Vec<Pid>> {
    let us = getpid().as_raw_pid();
    if std::fs::read_link("/proc/self").ok()?.to_str()?.parse() != Ok(us) {
        return None;
    }
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // One that ended meanwhile has no file any more.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((state, parent)) = state_and_parent(&stat) {
            parents.insert(pid, (state, parent));
        }
    }
    let is_ours = |pid: &i32| {
        // A chain of parents is never longer than there are processes.
        let mut at = *pid;
        for _ in 0..parents.len() {
            match parents.get(&at) {
                Some((_, parent)) if *parent == us => return true,
                Some((_, parent)) => at = *parent,
                None => return false,
            }
        }
        false
    };
    let alive = parents.iter().filter(|(_, (state, _))| !matches!(state, 'Z' | 'X' | 'x'));
    Some(alive.map(|(pid, _)| pid).filter(|pid| is_ours(pid)).filter_map(|pid| Pid::from_raw(*pid)).collect())
}

/// State and parent in `/proc/PID/stat`; the name before them may hold anything.
fn state_and_parent(stat: &str) -> Option<(char, i32)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_hides_nothing() {
        for (stat, want) in [
            ("7 (sh) S 1 7 7 0", Some(('S', 1))),
            ("7 (a) Z 9) (b) R 42 7", Some(('R', 42))),
            ("7 (sh", None),
            ("", None),
        ] {
            assert_eq!(state_and_parent(stat), want, "{stat}");
        }
    }
}

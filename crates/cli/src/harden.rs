//! What the process does for the secrets in its memory before it has any.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dumps, and no debugger of the same user may look into the process.
///
/// Where the system refuses, the command still runs: it holds what its caller already has.
pub(crate) fn process() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_core_dump_is_impossible() {
        super::process();
        assert_eq!(rustix::process::getrlimit(rustix::process::Resource::Core).current, Some(0));
    }
}

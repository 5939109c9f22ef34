//! Tasks: what a workload is doing, and for how long it may.

use crate::text::{Invalid, text_type, visible};

fn task_id(word: &'static str, input: &str) -> Result<(), Invalid> {
    visible(word, input, 128)?;
    if !input.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:/@".contains(&b)) {
        return Err(Invalid::new(word, input, "may hold letters, digits and `-._:/@` only"));
    }
    if input.split(['/', ':']).any(|part| part == ".." || part == ".") {
        return Err(Invalid::new(word, input, "has a relative part"));
    }
    Ok(())
}

text_type!(
    /// A task's id, made by a trust rule's template from verified claims (`gh-123-1`).
    ///
    /// INVARIANT: 1 to 128 octets of `[A-Za-z0-9._:/@-]`, no part `.` or `..`.
    TaskId, "task", task_id
);

fn reason(word: &'static str, input: &str) -> Result<(), Invalid> {
    visible(word, input, 512)
}

text_type!(
    /// Words for people: why a task runs, why somebody revoked. Kept for audit, never policy input.
    ///
    /// INVARIANT: 1 to 512 octets without control, invisible or bidirectional characters.
    TaskReason, "reason", reason
);

//! Signing by a module: it may take as long as a network call, and must not hold up the other calls of its thread.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work`; where it `blocks`, the other tasks of this thread go on at another one meanwhile.
pub fn blocking<T>(blocks: bool, work: impl FnOnce() -> T) -> T {
    let others = Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
    if blocks && others { tokio::task::block_in_place(work) } else { work() }
}

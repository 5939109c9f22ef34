//! A task that ends with the code that does it.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::{Intent, Secret, TaskReason, Ttl};
use mayfly_proto::v1 as pb;

use crate::failure::Failure;
use crate::workload::{Started, WorkloadClient};

/// How long completing may take when the guard is dropped.
const ON_DROP: Duration = Duration::from_secs(5);

/// Completes its task when it is dropped, and with it everything that was minted for the task.
///
/// Only whoever opened a task completes it: a guard that joined an open one, or one whose rule shares it, leaves it
/// alone and the leases go by their own end.
///
/// `Drop` can't wait. It hands the call to the runtime for at most 5 s, and a process that ends before is cut off;
/// the task's window then ends what is left. Code that can wait calls [`TaskGuard::complete`].
#[derive(Debug)]
pub struct TaskGuard {
    client: Option<Arc<WorkloadClient>>,
    /// The task.
    pub task: pb::Task,
    /// Whether this opened it.
    pub opened: bool,
    /// The handle that can complete it elsewhere, where one was asked for.
    pub handle: Option<Secret<String>>,
}

impl TaskGuard {
    /// Opens the task that the client's evidence names, or joins it; with `handle` also a handle that can complete
    /// it.
    ///
    /// # Errors
    /// The refusal.
    pub async fn start(
        client: Arc<WorkloadClient>,
        intent: Option<&Intent>,
        reason: Option<&TaskReason>,
        window: Option<Ttl>,
        handle: bool,
    ) -> Result<Self, Failure> {
        let Started { task, joined, handle, .. } = client.start_task(intent, reason, window, handle).await?;
        Ok(Self { client: Some(client), opened: !joined && !task.shared, task, handle })
    }

    /// Completes the task now; without effect where another opened it.
    ///
    /// # Errors
    /// The refusal; it is not tried again on drop.
    pub async fn complete(mut self) -> Result<(), Failure> {
        match self.client.take() {
            Some(client) if self.opened => client.complete_task().await.map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Leaves the task open: whoever holds its handle, or its window, ends it.
    pub fn leave(mut self) {
        self.client = None;
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let Some(client) = self.client.take().filter(|_| self.opened) else { return };
        let task = std::mem::take(&mut self.task.id);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            tracing::warn!(%task, "the task was not completed: there is no runtime any more");
            return;
        };
        runtime.spawn(async move {
            match tokio::time::timeout(ON_DROP, client.complete_task()).await {
                Ok(Ok(_)) => {}
                Ok(Err(failed)) => tracing::warn!(%task, reason = %failed.code, "the task was not completed"),
                Err(_) => tracing::warn!(%task, "the task was not completed in time"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use mayfly_domain::SystemClock;
    use mayfly_proto::rpc;

    use super::*;
    use crate::evidence::Source;
    use crate::fixture::broker::World;

    async fn guard(world: &World) -> TaskGuard {
        let source = Source::File(world.token.clone());
        let clock = Arc::new(SystemClock);
        let client = WorkloadClient::connect(&world.target, source, &world.home, clock).await.unwrap();
        TaskGuard::start(Arc::new(client), None, None, None, true).await.unwrap()
    }

    fn completed(world: &World) -> usize {
        world.broker.script().calls.iter().filter(|(name, _)| *name == rpc::COMPLETE_TASK).count()
    }

    #[tokio::test]
    async fn a_task_ends_once_with_its_guard() {
        let world = World::new().await;
        let first = guard(&world).await;
        assert!(first.handle.is_some() && !format!("{first:?}").contains("mfc_secret"));
        drop(first);
        while completed(&world) == 0 {
            tokio::task::yield_now().await;
        }
        guard(&world).await.complete().await.unwrap();
        assert_eq!(completed(&world), 2, "not again on drop");
        guard(&world).await.leave();
        world.broker.script().joined_tasks = true;
        let joined = guard(&world).await;
        assert!(!joined.opened);
        joined.complete().await.unwrap();
        drop(guard(&world).await);
        // A call that comes after whatever a drop could have sent.
        guard(&world).await.leave();
        assert_eq!(completed(&world), 2, "another's task is left alone");
    }
}

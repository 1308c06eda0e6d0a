//! A few threads for system calls that block. Threads are started when there is work and no idle thread, and stay until
//! the pool is dropped; jobs already queued are done even then. Results come back to the caller's runtime as a wake-up.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::LocalFuture;

/// As many operations as can be in flight at once; a device gains little beyond it, and each costs a stack.
const MAX_THREADS: usize = 16;

/// Jobs are system calls: their frames are small.
const STACK_BYTES: usize = 256 << 10;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug, Default)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    thread_count: usize,
    idle_count: usize,
    closed: bool,
}

impl Pool {
    /// Starts `job`, whether or not the future is polled or kept.
    pub(super) fn run<'a, T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> LocalFuture<'a, T> {
        let (reply, answer) = oneshot::channel();
        self.push(Box::new(move || {
            // A caller that has gone away does not want the result.
            let _ = reply.send(job());
        }));
        Box::pin(async move { answer.await.expect("the pool does every job, and no job panics") })
    }

    fn push(&self, job: Job) {
        let mut queue = self.shared.lock();
        queue.jobs.push_back(job);
        if queue.jobs.len() <= queue.idle_count {
            drop(queue);
            self.shared.work.notify_one();
        } else if queue.thread_count < MAX_THREADS {
            queue.thread_count += 1;
            drop(queue);
            self.start_thread();
        }
    }

    fn start_thread(&self) {
        let shared = Arc::clone(&self.shared);
        let builder = std::thread::Builder::new().name("levada-disk".to_owned()).stack_size(STACK_BYTES);
        if let Err(error) = builder.spawn(move || shared.work()) {
            let mut queue = self.shared.lock();
            queue.thread_count -= 1;
            tracing::warn!(%error, threads = queue.thread_count, "no further thread for disk operations");
            if queue.thread_count == 0 {
                // Slow is better than never.
                let jobs = std::mem::take(&mut queue.jobs);
                drop(queue);
                jobs.into_iter().for_each(|job| job());
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No job runs under the lock, so the queue is consistent even if a thread died.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                job();
                queue = self.lock();
            } else if queue.closed {
                return;
            } else {
                queue.idle_count += 1;
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.idle_count -= 1;
            }
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("threads", &self.lock().thread_count).finish_non_exhaustive()
    }
}

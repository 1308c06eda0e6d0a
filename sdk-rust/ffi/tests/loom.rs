//! Every interleaving of the completion queue's core: no event is stranded without a wake, and closing is final.

#[path = "../src/queue/core.rs"]
mod core;

mod sync {
    pub(super) use loom::sync::{Mutex, MutexGuard};
}

use core::Core;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

/// A queue whose wake raises a flag, as a descriptor does: emptying lowers it.
struct Flagged {
    core: Core<u32>,
    raised: Arc<AtomicBool>,
}

impl Flagged {
    fn new() -> Arc<Flagged> {
        let raised = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&raised);
        Arc::new(Flagged { core: Core::new(Box::new(move || flag.store(true, Ordering::SeqCst))), raised })
    }

    fn push(&self, event: u32) {
        if self.core.push(event) {
            self.core.wake();
        }
    }

    fn take(&self, max: usize) -> Vec<u32> {
        self.core.take(max, || self.raised.store(false, Ordering::SeqCst))
    }
}

#[test]
fn no_event_waits_without_the_flag_being_raised() {
    loom::model(|| {
        let queue = Flagged::new();
        let pushers: Vec<_> = [1, 2]
            .into_iter()
            .map(|event| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || queue.push(event))
            })
            .collect();
        let early = queue.take(1).len();
        for pusher in pushers {
            pusher.join().unwrap();
        }
        let is_raised = queue.raised.load(Ordering::SeqCst);
        let late = queue.take(usize::MAX).len();
        assert_eq!(early + late, 2);
        assert!(is_raised || late == 0, "{late} events wait and nobody was told");
    });
}

#[test]
fn each_event_is_taken_once() {
    loom::model(|| {
        let queue = Flagged::new();
        queue.push(1);
        queue.push(2);
        let other = Arc::clone(&queue);
        let taker = thread::spawn(move || other.take(1));
        let mut taken = queue.take(1);
        taken.extend(taker.join().unwrap());
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
    });
}

#[test]
fn after_close_there_is_neither_wake_nor_event() {
    loom::model(|| {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let wake = move || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let core: Arc<Core<u32>> = Arc::new(Core::new(Box::new(wake)));
        let other = Arc::clone(&core);
        let pusher = thread::spawn(move || {
            if other.push(1) {
                other.wake();
            }
        });
        drop(core.close());
        let at_close = wakes.load(Ordering::SeqCst);
        pusher.join().unwrap();
        assert_eq!(wakes.load(Ordering::SeqCst), at_close, "a wake came after close");
        assert!(core.take(1, || {}).is_empty());
        assert!(!core.lock().is_idle());
    });
}

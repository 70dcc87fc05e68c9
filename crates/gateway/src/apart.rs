//! Long work of the processor, away from the threads that serve connections: a body of megabytes is read and judged
//! while other calls go on. Short work is done where it is, which is cheaper.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Bodies from this size on are worked on apart: judging this much takes about 2 ms, and handing it over some 20 µs.
const APART_BYTES_MIN: usize = 256 * 1024;

/// Whether work on so many bytes is long.
pub(crate) fn is_long(bytes: usize) -> bool {
    bytes >= APART_BYTES_MIN
}

/// Where long work is done.
#[derive(Debug)]
pub(crate) struct Apart {
    /// As many at once as there are processors: more would only take time from one another, and memory.
    slots: Arc<Semaphore>,
}

impl Apart {
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { slots: Arc::new(Semaphore::new(processors)) }
    }

    /// Does work on so many bytes. Dropping it does not stop work that was begun.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if is_long(bytes) { Box::pin(self.away(work)).await } else { work() }
    }

    async fn away<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // It is never closed.
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(slot);
            done
        });
        match done.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(done) => done,
            // As if it had been done here.
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime is ending, and whoever waits with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn long_work_leaves_the_thread_to_others() {
        let apart = Apart::new();
        let here = thread::current().id();
        assert_eq!(apart.run(APART_BYTES_MIN - 1, || thread::current().id()).await, here);
        let (sender, receiver) = mpsc::channel();
        // Waits for what only this thread can say: done here, it would never end.
        let long = apart.run(APART_BYTES_MIN, move || (receiver.recv().unwrap(), thread::current().id()));
        let other = async { sender.send(7).unwrap() };
        let ((got, there), ()) = tokio::join!(long, other);
        assert_eq!(got, 7);
        assert_ne!(there, here);
    }

    #[tokio::test]
    async fn no_more_is_done_at_once_than_there_are_places() {
        const PLACES: usize = 2;
        let apart = Arc::new(Apart { slots: Arc::new(Semaphore::new(PLACES)) });
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut all = JoinSet::new();
        for _ in 0..64 {
            let (apart, running, most) = (Arc::clone(&apart), Arc::clone(&running), Arc::clone(&most));
            all.spawn(async move {
                let work = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    (0..100).for_each(|_| thread::yield_now());
                    running.fetch_sub(1, Ordering::SeqCst);
                };
                apart.run(APART_BYTES_MIN, work).await;
            });
        }
        all.join_all().await;
        assert!((1..=PLACES).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    #[should_panic(expected = "as it was")]
    async fn a_panic_is_passed_on() {
        Apart::new().run(APART_BYTES_MIN, || panic!("as it was")).await;
    }
}

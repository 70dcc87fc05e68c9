//! How those who wait for a commit hear that it is durable. The writer is not a thread of their runtime: waking each of them
//! from there costs a system call apiece. It hands all of a commit over to one task instead, which wakes them at home.

use std::sync::OnceLock;

use audit::log::AppendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Who waits for a record.
pub(crate) type Waiter = oneshot::Sender<Result<(), AppendError>>;

/// The writer's side.
#[derive(Debug, Default)]
pub(crate) struct Answers(OnceLock<UnboundedSender<Vec<Waiter>>>);

impl Answers {
    /// Tells all of them, in this order, that their records are durable.
    pub(crate) fn durable(&self, waiters: Vec<Waiter>) {
        if waiters.is_empty() {
            return;
        }
        let untold = match self.0.get() {
            Some(task) => task.send(waiters).err().map(|undone| undone.0),
            None => Some(waiters),
        };
        tell(untold.unwrap_or_default());
    }

    /// The task's side; the first that asks has it.
    pub(crate) fn listen(&self) -> Option<Answering> {
        let (sender, receiver) = unbounded_channel();
        self.0.set(sender).ok().map(|()| Answering(receiver))
    }
}

/// The task's side. Whoever was handed over is told even where the task is dropped.
#[derive(Debug)]
pub(crate) struct Answering(UnboundedReceiver<Vec<Waiter>>);

impl Answering {
    /// Until it is dropped.
    pub(crate) async fn run(mut self) {
        while let Some(waiters) = self.0.recv().await {
            tell(waiters);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.close();
        while let Ok(waiters) = self.0.try_recv() {
            tell(waiters);
        }
    }
}

fn tell(waiters: Vec<Waiter>) {
    for waiter in waiters {
        // Whoever no longer waits does not want to know.
        let _ = waiter.send(Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_is_told_with_a_task_and_without() {
        let answers = Answers::default();
        let (early, heard_early) = oneshot::channel();
        answers.durable(vec![early]);
        heard_early.await.unwrap().unwrap();

        let listener = answers.listen().unwrap();
        assert!(answers.listen().is_none());
        let (sender, heard) = oneshot::channel();
        answers.durable(vec![sender]);
        tokio::select! {
            () = listener.run() => panic!("it runs until it is dropped"),
            heard = heard => heard.unwrap().unwrap(),
        }

        // The task is gone.
        let (late, heard_late) = oneshot::channel();
        answers.durable(vec![late]);
        heard_late.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_task_that_is_dropped_tells_those_it_was_handed() {
        let answers = Answers::default();
        let listener = answers.listen().unwrap();
        let (sender, heard) = oneshot::channel();
        answers.durable(vec![sender]);
        drop(listener);
        heard.await.unwrap().unwrap();
    }
}

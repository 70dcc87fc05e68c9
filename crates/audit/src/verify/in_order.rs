//! Work on all cores whose results are taken in the order in which it was given out.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

/// Does `work` on each job and gives each result to `take`, in the order of the jobs. A few jobs for each core are in memory
/// at a time. Jobs are made and results taken on the calling thread.
///
/// # Errors
/// The first of a job that could not be made or a result that was not taken.
pub fn in_order<J: Send, R: Send, E>(
    jobs: impl Iterator<Item = Result<J, E>>,
    work: impl Fn(J) -> R + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (give, given) = mpsc::sync_channel::<(J, SyncSender<R>)>(workers);
    let (given, work) = (&Mutex::new(given), &work);
    // The closure owns `give`: whichever way it is left, the workers see the end of their work.
    std::thread::scope(move |scope| {
        for _ in 0..workers {
            scope.spawn(move || run(given, work));
        }
        let mut waiting: VecDeque<Receiver<R>> = VecDeque::new();
        for job in jobs {
            let (reply, answer) = mpsc::sync_channel(1);
            if give.send((job?, reply)).is_err() {
                break;
            }
            waiting.push_back(answer);
            if waiting.len() > 2 * workers
                && let Some(Ok(result)) = waiting.pop_front().map(|answer| answer.recv())
            {
                take(result)?;
            }
        }
        for answer in waiting {
            // A worker that panicked makes the scope panic.
            let Ok(result) = answer.recv() else { break };
            take(result)?;
        }
        Ok(())
    })
}

fn run<J, R>(given: &Mutex<Receiver<(J, SyncSender<R>)>>, work: &impl Fn(J) -> R) {
    loop {
        let next = given.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((job, reply)) = next else { return };
        // Nobody waits any more where the caller has stopped at an error.
        let _ = reply.send(work(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let mut taken = Vec::new();
        let work = |number: u64| {
            // Jobs of very different length.
            (0..(number * 7919 % 64) * 1000).fold(number, |number, step| {
                std::hint::black_box(step);
                number
            })
        };
        in_order((0..500).map(Ok::<_, ()>), work, |number| {
            taken.push(number);
            Ok(())
        })
        .unwrap();
        assert!(taken.into_iter().eq(0..500));
    }

    #[test]
    fn the_first_error_ends_it() {
        let jobs = || (0..100).map(|number| if number == 60 { Err("job") } else { Ok(number) });
        let take = |number| if number == 40 { Err("taken") } else { Ok(()) };
        assert_eq!(in_order(jobs(), |number| number, take), Err("taken"));
        assert_eq!(in_order(jobs(), |number| number, |_| Ok(())), Err("job"));
        assert_eq!(in_order(std::iter::empty::<Result<(), ()>>(), |()| (), |()| Err(())), Ok(()));
    }
}

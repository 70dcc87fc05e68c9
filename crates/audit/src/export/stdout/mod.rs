//! The standard output, as JSON lines: for whoever collects what containers print. What counts as delivered is what the
//! reader at the other end of the pipe has been given; whether it keeps it is out of sight.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use policy::problems::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::body::Body;
use super::lines::{self, LineEncoder};
use super::{ExportError, Kind};
use crate::delivery::{Destination, Limits, Parcel, SendOutcome};
use crate::secret::{SecretError, SecretSource};

/// Events in one write.
const BATCH_EVENTS: usize = 500;
/// Bytes in one write.
const BATCH_BYTES: usize = 1_000_000;
/// A line should show soon.
const LINGER: Duration = Duration::from_millis(50);
/// A reader that stops reading stops the writer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The value of `destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StdoutName {
    /// `stdout`.
    #[serde(rename = "stdout")]
    Stdout,
}

/// A destination of kind `stdout`, as written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStdout {
    /// Always `stdout`.
    pub destination: StdoutName,
}

/// A `stdout` destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stdout;

impl Kind for Stdout {
    const NAME: &'static str = "stdout";
    type Raw = RawStdout;
    type Sender = StdoutDestination;

    fn read(_raw: &RawStdout, _path_prefix: &str) -> Result<Self, Vec<Problem>> {
        Ok(Self)
    }

    fn endpoint(&self) -> &str {
        "stdout"
    }

    fn limits(&self) -> Limits {
        Limits {
            batch_events_max: BATCH_EVENTS,
            batch_bytes_max: BATCH_BYTES,
            linger: LINGER,
            // Lines in the order of the log.
            concurrency: 1,
            timeout: TIMEOUT,
            rate: None,
        }
    }

    fn secrets(&self) -> Vec<(&'static str, &SecretSource)> {
        Vec::new()
    }

    fn sender(&self) -> Result<StdoutDestination, ExportError> {
        // The descriptor itself: the process's own handle may be locked by whoever prints, for as long as they like.
        let out = io::stdout().as_fd().try_clone_to_owned().map(std::fs::File::from);
        out.and_then(StdoutDestination::new).map_err(|error| ExportError::Client(error.to_string()))
    }
}

/// A body, and where to say that it is written.
type Order = (Bytes, oneshot::Sender<io::Result<()>>);

/// Hands lines to a thread of its own: a reader that stops reading stops that, and neither the gateway nor its end.
pub struct StdoutDestination {
    orders: SyncSender<Order>,
}

impl StdoutDestination {
    /// Writes lines to this.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn new(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (orders, ordered) = sync_channel(1);
        std::thread::Builder::new()
            .name("stdout-export".to_owned())
            .spawn(move || write_all(to, &ordered))?;
        Ok(Self { orders })
    }
}

fn write_all(mut to: impl Write, ordered: &Receiver<Order>) {
    let mut torn = false;
    for (body, reply) in ordered {
        let before: &[u8] = if torn { b"\n" } else { b"" };
        let written = to.write_all(before).and_then(|()| to.write_all(&body)).and_then(|()| to.flush());
        // What comes next starts a line of its own.
        torn = written.is_err();
        // Whoever no longer waits sends it again.
        let _ = reply.send(written);
    }
}

impl Destination for StdoutDestination {
    type Builder = Body<LineEncoder>;

    fn begin(&self, now_ms: i64) -> Result<Body<LineEncoder>, String> {
        lines::body(&Stdout.limits(), now_ms)
    }

    async fn send(&self, parcel: Parcel) -> SendOutcome {
        let retry = |why: &str| SendOutcome::Retry { after: None, why: why.to_owned() };
        let (reply, answer) = oneshot::channel();
        match self.orders.try_send((parcel.body, reply)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return retry("nobody reads the standard output: it is full"),
            Err(TrySendError::Disconnected(_)) => return retry("the standard output's thread has ended"),
        }
        match answer.await {
            Ok(Ok(())) => SendOutcome::Delivered,
            Ok(Err(error)) => {
                retry(&format!("the standard output cannot be written to ({error}): who reads it has gone"))
            }
            Err(_) => retry("the standard output's thread has ended"),
        }
    }

    async fn reload_secrets(&self) -> Result<(), SecretError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::delivery::{BodyBuilder, Push};
    use crate::testing::{NOW_MS, example_event, stored};

    fn parcel(destination: &StdoutDestination, seqs: std::ops::Range<u64>) -> Parcel {
        let mut body = destination.begin(NOW_MS).unwrap();
        for seq in seqs.clone() {
            assert_eq!(body.push(&stored(example_event(), seq)), Push::Taken);
        }
        let (first, last) = (seqs.start, seqs.end - 1);
        let body = body.finish().unwrap().body;
        Parcel { body, note: String::new(), seqs: seqs.collect(), first, last, attempts: 1, now_ms: NOW_MS }
    }

    #[tokio::test]
    async fn each_event_is_a_line_as_the_log_has_it() {
        let (far, near) = io::pipe().unwrap();
        let destination = StdoutDestination::new(near).unwrap();
        assert_eq!(destination.send(parcel(&destination, 1..4)).await, SendOutcome::Delivered);
        assert_eq!(destination.send(parcel(&destination, 4..5)).await, SendOutcome::Delivered);
        drop(destination);
        let lines: Vec<String> = BufReader::new(far).lines().map(Result::unwrap).collect();
        let expected =
            (1..5).map(|seq| String::from_utf8(stored(example_event(), seq).text.to_vec()).unwrap());
        assert_eq!(lines, expected.collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_reader_that_stops_reading_is_said_and_nothing_piles_up() {
        let (far, near) = io::pipe().unwrap();
        let destination = StdoutDestination::new(near).unwrap();
        // Far more than a pipe holds.
        let large = parcel(&destination, 1..400);
        let wait = Duration::from_millis(20);
        assert!(tokio::time::timeout(wait, destination.send(large.clone())).await.is_err(), "nobody reads");
        let mut full = false;
        for _ in 0..3 {
            let sent = tokio::time::timeout(wait, destination.send(large.clone())).await;
            full |= matches!(sent, Ok(SendOutcome::Retry { why, .. }) if why.contains("nobody reads"));
        }
        assert!(full);
        // Once somebody reads, every line is whole.
        drop(destination);
        let lines = BufReader::new(far).lines().map(Result::unwrap);
        assert!(lines.into_iter().all(|line| serde_json::from_str::<serde_json::Value>(&line).is_ok()));
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_is_said() {
        let (far, near) = io::pipe().unwrap();
        drop(far);
        let destination = StdoutDestination::new(near).unwrap();
        let outcome = destination.send(parcel(&destination, 1..2)).await;
        assert!(
            matches!(&outcome, SendOutcome::Retry { why, .. } if why.contains("has gone")),
            "{outcome:?}"
        );
    }
}

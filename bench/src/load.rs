//! The load: a closed loop for throughput, an open loop for latency, streams for the cost of a frame. Each is
//! bounded in time and count.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::corpus;
use crate::wire::{self, Reader};

/// Connections kept open, as the issue's table has it.
pub(crate) const CONNECTIONS: usize = 64;

/// Requests of one phase at most, whatever the time.
const REQUESTS_MAX: u64 = 5_000_000;

/// How long an answer, or a frame of a stream, may take before the run is given up.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// Where requests go, and how.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The proxy, or the upstream itself.
    pub addr: SocketAddr,
    /// Bearer key.
    pub key: String,
}

impl Target {
    fn request(&self, stream: bool) -> Arc<[u8]> {
        wire::request("/v1/chat/completions", &self.key, &corpus::request_body(stream)).into()
    }
}

/// What a closed loop did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    /// Requests answered 200.
    pub requests: u64,
    /// Time taken.
    pub elapsed: Duration,
}

/// As many requests as [`CONNECTIONS`] can do, one at a time each, for `time`.
///
/// # Errors
/// On the first answer that is not a 200, or none.
pub(crate) async fn closed(target: &Target, time: Duration) -> Result<Closed> {
    let request = target.request(false);
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let request = Arc::clone(&request);
        let mut connection = Connection::open(target.addr).await?;
        workers.spawn(async move {
            let mut done = 0u64;
            while start.elapsed() < time && done < REQUESTS_MAX / CONNECTIONS as u64 {
                connection.exchange(&request).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut requests = 0;
    while let Some(done) = workers.join_next().await {
        requests += done??;
    }
    Ok(Closed { requests, elapsed: start.elapsed() })
}

/// Requests that come at a fixed rate whether or not earlier ones were answered. A request's latency counts
/// from when it was due, so that a stall shows in all that it delayed (no coordinated omission). Sorted.
///
/// # Errors
/// As [`closed`].
pub(crate) async fn open(target: &Target, per_second: u32, time: Duration) -> Result<Vec<Duration>> {
    let request = target.request(false);
    let queue = Arc::new(Queue::default());
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let request = Arc::clone(&request);
        let queue = Arc::clone(&queue);
        let mut connection = Connection::open(target.addr).await?;
        workers.spawn(async move {
            let mut latencies = Vec::new();
            while let Some(due) = queue.next().await {
                connection.exchange(&request).await?;
                latencies.push(due.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let interval = Duration::from_secs(1) / per_second;
    let start = Instant::now();
    let mut due = start;
    while due.duration_since(start) < time {
        // Timers are good to a millisecond. Yielding goes round the event loop without sleeping, which is good
        // to the microseconds that are to be measured.
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        queue.push(due);
        due += interval;
    }
    queue.close();
    let mut latencies = Vec::new();
    while let Some(of_worker) = workers.join_next().await {
        latencies.extend(of_worker??);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// Requests that are due.
#[derive(Default)]
struct Queue {
    due: Mutex<(VecDeque<Instant>, bool)>,
    came: Notify,
}

impl Queue {
    fn push(&self, due: Instant) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).0.push_back(due);
        self.came.notify_one();
    }

    fn close(&self) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.came.notify_waiters();
    }

    async fn next(&self) -> Option<Instant> {
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            came.as_mut().enable();
            {
                let mut guard = self.due.lock().unwrap_or_else(PoisonError::into_inner);
                match (guard.0.pop_front(), guard.1) {
                    (Some(due), _) => return Some(due),
                    (None, true) => return None,
                    (None, false) => {}
                }
            }
            came.await;
        }
    }
}

/// What streams did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streamed {
    /// Frames that arrived, `[DONE]` included.
    pub frames: u64,
    /// Reads that brought them: fewer than frames where some came together.
    pub reads: u64,
    /// From each request to the first frame of its answer, sorted.
    pub first: Vec<Duration>,
}

/// Between the first requests of two connections: what is measured is a stream that begins among others, not the crowd
/// at a start.
const STAGGER: Duration = Duration::from_millis(1);

/// `rounds` streams over each of [`CONNECTIONS`].
///
/// # Errors
/// As [`closed`].
pub(crate) async fn streams(target: &Target, rounds: u32) -> Result<Streamed> {
    let request = target.request(true);
    let mut workers = JoinSet::new();
    for number in 0..CONNECTIONS {
        let request = Arc::clone(&request);
        let mut connection = Connection::open(target.addr).await?;
        workers.spawn(async move {
            tokio::time::sleep(STAGGER * number as u32).await;
            let mut total = Streamed::default();
            for _ in 0..rounds {
                total.add(connection.stream(&request).await?);
            }
            anyhow::Ok(total)
        });
    }
    let mut total = Streamed::default();
    while let Some(one) = workers.join_next().await {
        total.add(one??);
    }
    total.first.sort_unstable();
    Ok(total)
}

impl Streamed {
    fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.reads += other.reads;
        self.first.extend(other.first);
    }
}

/// A kept-open connection.
struct Connection {
    stream: TcpStream,
    reader: Reader,
    checked: bool,
}

impl Connection {
    async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.with_context(|| format!("connect to {addr}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, reader: Reader::default(), checked: false })
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        let answer = self.reader.message(&mut self.stream).await.context("no answer")?;
        // A refusal would be cheap, and a 200 as well: each connection's first answer is looked into.
        let good =
            wire::is_ok(answer.head) && (self.checked || wire::find(answer.body, FINISH_MARK).is_some());
        if !good {
            bail!("{}{}", String::from_utf8_lossy(answer.head), String::from_utf8_lossy(answer.body));
        }
        self.checked = true;
        Ok(())
    }

    async fn stream(&mut self, request: &[u8]) -> Result<Streamed> {
        let asked = Instant::now();
        self.stream.write_all(request).await?;
        let head = within(self.reader.head(&mut self.stream)).await?;
        if !wire::is_ok(head) {
            bail!("{}", String::from_utf8_lossy(head));
        }
        let mut streamed = Streamed::default();
        // The end of what was read so far: a mark may be cut by a read.
        let mut tail: Vec<u8> = Vec::new();
        let mut finished = false;
        loop {
            let bytes = within(self.reader.some(&mut self.stream)).await?;
            streamed.reads += 1;
            let kept = tail.len();
            tail.extend_from_slice(bytes);
            streamed.frames += count_new(&tail, kept, FRAME_MARK);
            if streamed.first.is_empty() && streamed.frames > 0 {
                streamed.first.push(asked.elapsed());
            }
            finished |= wire::find(&tail, FINISH_MARK).is_some();
            if tail.ends_with(STREAM_END) {
                if !finished || streamed.frames < FRAMES_MIN {
                    bail!(
                        "a stream of {} frames, finished: {finished}: …{}",
                        streamed.frames,
                        String::from_utf8_lossy(&tail)
                    );
                }
                return Ok(streamed);
            }
            keep_tail(&mut tail);
        }
    }
}

/// How each frame begins.
const FRAME_MARK: &[u8] = b"data: ";

/// How an answer ends that was given in full.
const FINISH_MARK: &[u8] = br#""finish_reason":"stop""#;

/// Frames of a stream that was passed on and not put together or replaced.
const FRAMES_MIN: u64 = corpus::STREAM_FRAMES as u64 / 2;

/// The last chunk of a body.
const STREAM_END: &[u8] = b"\r\n0\r\n\r\n";

async fn within<T>(read: impl Future<Output = io::Result<T>>) -> Result<T> {
    Ok(tokio::time::timeout(ANSWER_TIME_MAX, read).await.context("stream stalled")??)
}

/// Leaves as much as a mark that goes on in the next read may need.
fn keep_tail(tail: &mut Vec<u8>) {
    let longest = FINISH_MARK.len().max(STREAM_END.len()).max(FRAME_MARK.len());
    tail.drain(..tail.len().saturating_sub(longest - 1));
}

/// How often `mark` ends past the first `old` bytes.
fn count_new(bytes: &[u8], old: usize, mark: &[u8]) -> u64 {
    let mut count = 0;
    let mut from = 0;
    while let Some(at) = bytes.get(from..).and_then(|rest| wire::find(rest, mark)) {
        from += at + mark.len();
        count += u64::from(from > old);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_cut_by_a_read_count_once() {
        let text = b"data: a\n\ndata: b\n\n";
        for cut in 0..text.len() {
            let mut frames = 0;
            let mut tail: Vec<u8> = Vec::new();
            for piece in [&text[..cut], &text[cut..]] {
                let kept = tail.len();
                tail.extend_from_slice(piece);
                frames += count_new(&tail, kept, FRAME_MARK);
                keep_tail(&mut tail);
            }
            assert_eq!(frames, 2, "cut at {cut}");
        }
    }
}

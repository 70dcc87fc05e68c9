//! The HTTP/1.1 server under both counterparts: it accepts, bounds and ends connections, and lets a
//! service cut one off on purpose. Routes and answers are the services' own.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::reply::{Cut, Frames};

/// Connections served at a time; more wait in the listener's backlog. Well over what a load test opens.
const CONNECTIONS_MAX: usize = 4_096;

/// How long a client may take over a request's head. Longer than any slow-client test waits.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// Pause after a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A wait that did not see what it waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The time was up. `seen` says what there was instead.
    #[error("not within {}s; seen: {seen}", within.as_secs_f64())]
    Timeout {
        /// How long the wait was.
        within: Duration,
        /// The state at the end of it.
        seen: String,
    },
    /// The server was shut down.
    #[error("the server stopped; seen: {seen}")]
    Stopped {
        /// The state at the end of it.
        seen: String,
    },
}

/// What answers the requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request, or cuts its connection without an answer.
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Frames>, Cut>> + Send;
}

/// A running server. Dropping it ends it too, without waiting.
#[derive(Debug)]
pub(crate) struct Server {
    addr: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Binds `listen` (port 0 picks a free one) and serves until shutdown.
    pub(crate) async fn start<S: Service>(listen: SocketAddr, service: Arc<S>) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let server =
            Self { addr: listener.local_addr()?, stop: CancellationToken::new(), tasks: TaskTracker::new() };
        server.tasks.spawn(accept(listener, service, server.stop.clone(), server.tasks.clone()));
        Ok(server)
    }

    /// The bound address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Drops every connection and returns once all of their tasks have ended.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits until `check` holds. It is run once at once, then after each change that `changes` reports.
    pub(crate) async fn wait_until(
        &self,
        within: Duration,
        changes: watch::Receiver<u64>,
        check: impl FnMut() -> bool,
        describe: impl Fn() -> String,
    ) -> Result<(), WaitError> {
        tokio::select! {
            () = until(changes, check) => Ok(()),
            () = self.stop.cancelled() => Err(WaitError::Stopped { seen: describe() }),
            () = tokio::time::sleep(within) => Err(WaitError::Timeout { within, seen: describe() }),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Returns once `check` holds, looking again after each change; never if the changes end before that.
pub(crate) async fn until(mut changes: watch::Receiver<u64>, mut check: impl FnMut() -> bool) {
    loop {
        changes.borrow_and_update();
        if check() {
            return;
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn accept<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (listener.accept().await, slot)
        };
        let (stream, slot) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accepted => accepted,
        };
        match stream {
            Ok((stream, _)) => {
                let connection = serve(stream, Arc::clone(&service));
                let stop = stop.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection => {}
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve<S: Service>(stream: TcpStream, service: Arc<S>) {
    // Frames of a stream must arrive as they are written.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay not set");
    }
    let service = service_fn(move |request| Arc::clone(&service).call(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection ended");
    }
}

/// Why a body could not be had.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// Over the limit. The rest was read and thrown away, so that the sender gets to see the answer.
    TooLarge,
    /// The sender went away.
    Broken,
}

/// Bytes past the limit that are still read, so that a sender that writes before it reads sees the answer
/// and not a reset connection.
const DRAIN_BYTES_MAX: usize = 64 << 20;

/// Reads a whole body of at most `bytes_max` bytes.
pub(crate) async fn read_body(mut body: Incoming, bytes_max: usize) -> Result<Bytes, BodyError> {
    let mut first: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    let mut seen = 0usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        if seen > bytes_max {
            joined = BytesMut::new();
            first = None;
            if seen > DRAIN_BYTES_MAX {
                return Err(BodyError::TooLarge);
            }
            continue;
        }
        // Most bodies come in one piece: no copy for those.
        match first.take() {
            None if joined.is_empty() => first = Some(data),
            Some(head) => {
                joined.extend_from_slice(&head);
                joined.extend_from_slice(&data);
            }
            None => joined.extend_from_slice(&data),
        }
    }
    if seen > bytes_max {
        return Err(BodyError::TooLarge);
    }
    Ok(first.unwrap_or_else(|| joined.freeze()))
}

//! The mock upstream: answers every request at once from memory, or streams frames at a set pace, one write
//! each. It runs in the load's process, on the load's core.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::corpus;
use crate::wire::{self, Reader};

/// Answers, made once.
struct Answers {
    whole: Vec<u8>,
    stream_head: &'static [u8],
    frames: Vec<Vec<u8>>,
    frame_interval: Duration,
}

/// `X-Accel-Buffering` has nginx pass frames on as they come, as the gateway does.
const STREAM_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
    X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Starts it in `tasks`; gives its address.
///
/// # Errors
/// Where no port can be bound.
pub(crate) async fn start(tasks: &mut JoinSet<()>, frame_interval: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let addr = listener.local_addr()?;
    let body = corpus::answer_body();
    let mut whole = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    whole.extend_from_slice(&body);
    let frames = corpus::stream_frames().iter().map(|frame| chunk(frame)).collect();
    let answers = Arc::new(Answers { whole, stream_head: STREAM_HEAD, frames, frame_interval });
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let answers = Arc::clone(&answers);
            connections.spawn(async move {
                // A connection ends when its proxy closes it: nothing to report.
                let _ = serve(stream, &answers).await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(addr)
}

fn chunk(data: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

async fn serve(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = Reader::default();
    loop {
        let request = reader.message(&mut stream).await?;
        if wire::find(request.body, br#""stream":true"#).is_some() {
            stream.write_all(answers.stream_head).await?;
            write_frames(&mut stream, answers).await?;
        } else {
            stream.write_all(&answers.whole).await?;
        }
    }
}

async fn write_frames(stream: &mut TcpStream, answers: &Answers) -> io::Result<()> {
    let mut ticks = tokio::time::interval_at(Instant::now(), answers.frame_interval);
    // Late frames are not made up for in a burst: bursts coalesce, and what is measured are single frames.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for frame in &answers.frames {
        ticks.tick().await;
        stream.write_all(frame).await?;
    }
    stream.write_all(b"0\r\n\r\n").await
}

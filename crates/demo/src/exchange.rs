//! For the tests: one HTTP exchange over a bare socket, so that what is checked are the bytes themselves. It
//! shares nothing with the servers under test.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 where the connection ended before a status line.
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
    /// Sizes of the chunks the body came in; empty where it came with a length.
    pub(crate) chunks: Vec<usize>,
    /// Whether the body ended as announced.
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The payloads of an event stream, `[DONE]` included.
    pub(crate) fn events(&self) -> Vec<String> {
        self.text()
            .replace("\r\n", "\n")
            .split("\n\n")
            .filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")))
            .map(str::to_owned)
            .collect()
    }
}

/// Sends a request and opens the connection to its answer.
pub(crate) async fn open(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> TcpStream {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n");
    head.push_str(&format!("content-length: {}\r\n", body.len()));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that cuts before reading may be gone by now: what it answered is what counts.
    let _ = stream.write_all(body).await;
    stream
}

/// Sends a request and reads its answer to the end of the connection.
pub(crate) async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = open(addr, method, path, headers, body).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    read(&bytes)
}

fn read(bytes: &[u8]) -> Answer {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Answer {
            status: 0,
            head: String::new(),
            body: Vec::new(),
            chunks: Vec::new(),
            complete: false,
        };
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let rest = &bytes[end + 4..];
    let mut answer = Answer { status, head, body: Vec::new(), chunks: Vec::new(), complete: false };
    if answer.header("transfer-encoding") == Some("chunked") {
        dechunk(&mut answer, rest);
    } else {
        let length: usize = answer.header("content-length").unwrap_or("0").parse().unwrap();
        answer.complete = rest.len() == length;
        answer.body = rest.to_vec();
    }
    answer
}

fn dechunk(answer: &mut Answer, mut rest: &[u8]) {
    while let Some(line_end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line_end]).unwrap(), 16).unwrap();
        rest = &rest[line_end + 2..];
        if size == 0 {
            answer.complete = rest == b"\r\n";
            return;
        }
        if rest.len() < size + 2 {
            return;
        }
        answer.body.extend_from_slice(&rest[..size]);
        answer.chunks.push(size);
        rest = &rest[size + 2..];
    }
}

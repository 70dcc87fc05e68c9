//! As much HTTP/1.1 as a load generator needs, on bare sockets: a request head, and where a message ends.
//! No client library, so that what is measured is the proxy.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Largest message taken; more is an error and not a wait for memory.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A message read whole.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// First line and headers.
    pub head: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// A connection's bytes: those handed out last, then those not yet read.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    handed_out: usize,
}

impl Reader {
    /// Reads one message with a `Content-Length` (none: an empty body).
    ///
    /// # Errors
    /// `UnexpectedEof` where the connection ends, `InvalidData` where the message is not understood.
    pub(crate) async fn message(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Message<'_>> {
        let head_end = self.head_end(stream).await?;
        let length = body_length(self.buffer.get(..head_end).unwrap_or_default())?;
        while self.buffer.len() < head_end + length {
            self.more(stream).await?;
        }
        self.handed_out = head_end + length;
        let (head, rest) = self.buffer.split_at(head_end);
        Ok(Message { head, body: rest.get(..length).unwrap_or_default() })
    }

    /// Reads a message's head; its body stays unread.
    ///
    /// # Errors
    /// As [`Reader::message`].
    pub(crate) async fn head(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<&[u8]> {
        let head_end = self.head_end(stream).await?;
        self.handed_out = head_end;
        Ok(self.buffer.get(..head_end).unwrap_or_default())
    }

    /// What is there, after waiting for something where nothing is. Counts as one read.
    ///
    /// # Errors
    /// `UnexpectedEof` where the connection ends.
    pub(crate) async fn some(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<&[u8]> {
        self.forget_handed_out();
        if self.buffer.is_empty() {
            self.more(stream).await?;
        }
        self.handed_out = self.buffer.len();
        Ok(&self.buffer)
    }

    async fn head_end(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.forget_handed_out();
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(at + 4);
            }
            self.more(stream).await?;
        }
    }

    async fn more(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        if self.buffer.len() > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "message too large"));
        }
        self.buffer.reserve(16 << 10);
        match stream.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn forget_handed_out(&mut self) {
        let handed_out = std::mem::take(&mut self.handed_out).min(self.buffer.len());
        self.buffer.drain(..handed_out);
    }
}

fn body_length(head: &[u8]) -> io::Result<usize> {
    let invalid = |what| io::Error::new(ErrorKind::InvalidData, what);
    if header(head, b"transfer-encoding").is_some() {
        return Err(invalid("a body without a length"));
    }
    let Some(value) = header(head, b"content-length") else { return Ok(0) };
    let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    match length {
        Some(length) if length <= MESSAGE_BYTES_MAX => Ok(length),
        _ => Err(invalid("a length that is none, or too large")),
    }
}

/// Whether a head is that of a 200 answer.
pub(crate) fn is_ok(head: &[u8]) -> bool {
    head.starts_with(b"HTTP/1.1 200 ")
}

/// Where `needle` first is.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(rest) = haystack.get(from..) {
        let at = from + rest.iter().position(|byte| *byte == first)?;
        if haystack.get(at..).is_some_and(|tail| tail.starts_with(needle)) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// The value of a header; `name` in lower case.
fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (key, value) = line.split_at(colon);
        key.eq_ignore_ascii_case(name).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// A POST of a JSON body over a connection that stays open.
pub(crate) fn request(path: &str, key: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nUser-Agent: bench\r\n\
         Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_end_where_they_say() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-length:  3\r\nX: y\r\n\r\nabcHTTP/1.1 204 No\r\n\r\n";
        let mut reader = Reader::default();
        let mut input = &bytes[..];
        let first = reader.message(&mut input).await.unwrap();
        assert!(is_ok(first.head));
        assert_eq!(first.body, b"abc");
        let second = reader.message(&mut input).await.unwrap();
        assert!(!is_ok(second.head) && second.body.is_empty());
        let end = reader.message(&mut input).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn needles_are_found_past_false_starts() {
        assert_eq!(find(b"\r\r\n\r\n", b"\r\n\r\n"), Some(1));
        assert_eq!(find(b"\r\n\r", b"\r\n\r\n"), None);
    }
}

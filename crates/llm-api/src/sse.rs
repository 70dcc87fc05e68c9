//! Server-sent events, as the WHATWG HTML standard §9.2 frames them: bytes in whatever pieces they come, events
//! out. Only what LLM streams use is kept: `event`, joined `data`, and the event's own bytes. Nothing is decoded further.

use bytes::{Bytes, BytesMut};

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The event as it came, blank line included.
    pub raw: Bytes,
    /// Its `data:` lines joined by line feeds; `None` for comments and other fields alone.
    pub data: Option<Bytes>,
    /// Its `event:` line.
    pub event: Option<Bytes>,
}

/// An event longer than the decoder's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {0} bytes")]
pub struct EventTooLong(pub usize);

/// Cuts a byte stream into events.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// Bytes of the buffer known to hold no end of an event.
    searched: usize,
    event_bytes_max: usize,
}

impl Decoder {
    /// `event_bytes_max`: longest single event, blank line included.
    pub fn new(event_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, event_bytes_max }
    }

    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete event.
    ///
    /// # Errors
    /// [`EventTooLong`] where the next event is over the limit, complete or not.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, EventTooLong> {
        let Some(end) = self.find_end() else {
            return if self.buffer.len() > self.event_bytes_max {
                Err(EventTooLong(self.event_bytes_max))
            } else {
                Ok(None)
            };
        };
        if end > self.event_bytes_max {
            return Err(EventTooLong(self.event_bytes_max));
        }
        self.searched = 0;
        let raw = self.buffer.split_to(end).freeze();
        Ok(Some(read_frame(raw)))
    }

    /// What is left at the end of the stream: an event whose blank line never came. The standard drops it; a
    /// gateway has to judge it.
    pub fn finish(&mut self) -> Option<Frame> {
        self.searched = 0;
        let raw = self.buffer.split().freeze();
        if raw.iter().all(|byte| matches!(byte, b'\r' | b'\n')) { None } else { Some(read_frame(raw)) }
    }

    /// End of the first event: after the blank line that closes it. Line ends are LF, CRLF or CR.
    fn find_end(&mut self) -> Option<usize> {
        let bytes = &self.buffer[..];
        let mut at = self.searched;
        while let Some(found) = memchr::memchr2(b'\n', b'\r', bytes.get(at..)?) {
            let line_end = at + found;
            let after = after_line_end(bytes, line_end)?;
            match bytes.get(after) {
                Some(b'\n' | b'\r') => return after_line_end(bytes, after),
                Some(_) if line_end == 0 => return Some(after),
                Some(_) => at = after,
                None if line_end == 0 => return Some(after),
                None => {
                    self.searched = line_end;
                    return None;
                }
            }
        }
        self.searched = bytes.len();
        None
    }
}

/// The place after the line end at `at`; `None` where a CR is the last byte so far and an LF may follow.
fn after_line_end(bytes: &[u8], at: usize) -> Option<usize> {
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b'\r'), None) => None,
        (Some(b'\r'), Some(b'\n')) => Some(at + 2),
        _ => Some(at + 1),
    }
}

fn read_frame(raw: Bytes) -> Frame {
    let mut data: Option<Bytes> = None;
    let mut event = None;
    let bytes = raw.as_ref();
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let line_bytes = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = at..at + line_bytes;
        at = line.end + 1;
        let Some(value) = field_value(bytes.get(line.clone()).unwrap_or_default()) else { continue };
        let value_range = line.end - value.1..line.end;
        match value.0 {
            b"data" => {
                let more = raw.slice(value_range);
                data = Some(match data {
                    None => more,
                    Some(first) => [first.as_ref(), b"\n", more.as_ref()].concat().into(),
                });
            }
            b"event" => event = Some(raw.slice(value_range)),
            _ => {}
        }
    }
    Frame { raw, data, event }
}

/// Name of the field and the number of bytes of its value, one leading blank taken off.
fn field_value(line: &[u8]) -> Option<(&[u8], usize)> {
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
    let colon = memchr::memchr(b':', line).unwrap_or(line.len());
    let name = line.get(..colon)?;
    let value = line.get(colon + 1..).unwrap_or_default();
    let value = value.strip_prefix(b" ").unwrap_or(value);
    if name.is_empty() { None } else { Some((name, value.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An event's name and data.
    type Read = (Option<Vec<u8>>, Option<Vec<u8>>);

    fn decode(chunks: &[&[u8]]) -> Vec<Read> {
        let mut decoder = Decoder::new(1 << 20);
        let mut frames = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push((frame.event.map(|e| e.to_vec()), frame.data.map(|d| d.to_vec())));
            }
        }
        frames.extend(decoder.finish().map(|f| (f.event.map(|e| e.to_vec()), f.data.map(|d| d.to_vec()))));
        frames.retain(|frame| frame != &(None, None));
        frames
    }

    const STREAM: &[u8] = "data: {\"a\":1}\n\n: keep-alive\n\ndata:x\r\n\r\nevent: e\ndata: é\ndata: 2\n\n\rdata: cr\r\rid: 7\n\ndata: tail".as_bytes();

    #[test]
    fn frames_of_every_line_end() {
        let expected: Vec<Read> = vec![
            (None, Some(b"{\"a\":1}".to_vec())),
            (None, Some(b"x".to_vec())),
            (Some(b"e".to_vec()), Some("é\n2".as_bytes().to_vec())),
            (None, Some(b"cr".to_vec())),
            (None, Some(b"tail".to_vec())),
        ];
        assert_eq!(decode(&[STREAM]), expected);
        for at in 0..STREAM.len() {
            assert_eq!(decode(&[&STREAM[..at], &STREAM[at..]]), expected, "cut at {at}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut decoder = Decoder::new(16);
        decoder.push(b"data: 0123456789abcdef");
        assert_eq!(decoder.next_frame(), Err(EventTooLong(16)));
    }

    #[test]
    fn a_million_events_leave_nothing_behind() {
        let mut decoder = Decoder::new(1024);
        let piece = "data: x\n\n".repeat(1000);
        let mut events = 0;
        for _ in 0..1000 {
            decoder.push(piece.as_bytes());
            while let Some(frame) = decoder.next_frame().unwrap() {
                assert_eq!(frame.data.as_deref(), Some(&b"x"[..]));
                events += 1;
            }
            assert!(decoder.buffer.is_empty());
        }
        assert_eq!(events, 1_000_000);
    }

    #[test]
    fn an_event_in_as_many_pieces_as_bytes_is_searched_once() {
        const BYTES: usize = 1 << 20;
        let mut decoder = Decoder::new(2 * BYTES);
        for _ in 0..BYTES {
            decoder.push(b"x");
            assert_eq!(decoder.next_frame(), Ok(None));
        }
        decoder.push(b"\n\n");
        assert_eq!(decoder.next_frame().unwrap().map(|frame| frame.raw.len()), Some(BYTES + 2));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in proptest::collection::vec(0..STREAM.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut at = 0;
            for cut in cuts {
                chunks.push(&STREAM[at..cut]);
                at = cut;
            }
            chunks.push(&STREAM[at..]);
            prop_assert_eq!(decode(&chunks), decode(&[STREAM]));
        }

        #[test]
        fn no_bytes_are_lost(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b'd'), any::<u8>()], 0..64)) {
            let mut decoder = Decoder::new(1 << 20);
            let mut seen = Vec::new();
            for byte in &bytes {
                decoder.push(&[*byte]);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.extend_from_slice(&frame.raw);
                }
            }
            let rest = decoder.finish().map(|frame| frame.raw.to_vec()).unwrap_or_default();
            seen.extend_from_slice(&rest);
            prop_assert!(bytes.starts_with(&seen));
            prop_assert!(bytes[seen.len()..].iter().all(|b| matches!(b, b'\r' | b'\n')));
        }
    }
}

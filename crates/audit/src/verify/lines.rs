//! Texts cut into events: files of lines, and the rows of a store. Cut coarsely where they are read, finely where there
//! are cores to spare.

use std::io::{self, Read};

use super::Examined;
use super::problem::Problem;

/// Read and handed out at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// Longest line. Events are some kilobytes; a mistaken file should not fill memory.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// Whole lines of a reader, about a MiB at a time.
#[derive(Debug)]
pub struct Blocks<R> {
    reader: R,
    rest: Vec<u8>,
    is_over: bool,
}

impl<R: Read> Blocks<R> {
    /// Of this reader, which needs no buffer of its own.
    pub fn new(reader: R) -> Self {
        Self { reader, rest: Vec::new(), is_over: false }
    }

    fn read_block(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut block = std::mem::take(&mut self.rest);
        loop {
            let before = block.len();
            let wanted = u64::try_from(BLOCK_BYTES).unwrap_or(u64::MAX);
            let read = self.reader.by_ref().take(wanted).read_to_end(&mut block)?;
            if read == 0 {
                self.is_over = true;
                return Ok((!block.is_empty()).then_some(block));
            }
            let added = block.get(before..).unwrap_or_default();
            if let Some(at) = memchr::memrchr(b'\n', added) {
                self.rest = block.split_off(before + at + 1);
                return Ok(Some(block));
            }
            if block.len() > LINE_BYTES_MAX {
                let message = format!("a line is over {} MiB: these are no events", LINE_BYTES_MAX >> 20);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
    }
}

impl<R: Read> Iterator for Blocks<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let block = self.read_block();
        self.is_over |= block.is_err();
        block.transpose()
    }
}

/// Looks at each line of a block; empty ones are left out.
pub fn examine_lines(block: &[u8], examine: impl Fn(&[u8]) -> Examined) -> Vec<Examined> {
    let lines = block.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty()).map(examine).collect()
}

/// Looks at each event of a row of the store: `count` of them in a JSON array, one a line.
pub fn examine_row(body: &[u8], count: u64) -> Vec<Examined> {
    let inner = body.strip_prefix(b"[").and_then(|body| body.strip_suffix(b"]"));
    let mut events = Vec::new();
    let mut start = 0;
    let inner = inner.unwrap_or_default();
    for end in memchr::memmem::find_iter(inner, b",\n").chain([inner.len()]) {
        events.push(Examined::stored(inner.get(start..end).unwrap_or_default()));
        start = end + 2;
    }
    if events.len() as u64 == count {
        return events;
    }
    vec![Examined::bad(Problem::NotAnEvent("the row that holds it is not what was written".to_owned()))]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A reader that gives a few bytes at a time.
    struct Trickle<'t>(&'t [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(buffer.len());
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    proptest! {
        #[test]
        fn blocks_are_whole_lines_and_all_of_them(lines in prop::collection::vec("[a-z]{0,40}", 0..200), by in 1_usize..5000) {
            let text = lines.join("\n").repeat(300);
            let blocks: Vec<Vec<u8>> = Blocks::new(Trickle(text.as_bytes(), by)).map(Result::unwrap).collect();
            prop_assert_eq!(blocks.concat(), text.as_bytes());
            for block in blocks.iter().rev().skip(1) {
                prop_assert_eq!(block.last(), Some(&b'\n'));
            }
        }
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_memory() {
        let mut blocks = Blocks::new(io::repeat(b'x'));
        assert!(blocks.next().unwrap().unwrap_err().to_string().contains("no events"));
        assert!(blocks.next().is_none());
    }
}

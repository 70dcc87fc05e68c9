//! A file of lines cut into blocks of whole lines, for several workers: reading is under a lock and short, the rest is
//! each worker's own. Memory is a few blocks a worker, whatever the size of the file.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Bytes read at once. Large enough that the lock does not matter, small enough for a core's cache.
const BLOCK_BYTES: usize = 1024 * 1024;
/// Longest line. A request of a gateway is smaller; a mistaken file should not fill memory.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Some whole lines of a file.
pub(super) struct Block {
    /// The lines, with their ends.
    pub(super) text: Bytes,
    /// Number of the first, from 1.
    first: u64,
}

impl Block {
    /// The lines without their ends, and their numbers.
    pub(super) fn lines(&self) -> impl Iterator<Item = (u64, Bytes)> {
        let mut at = 0;
        let ends = memchr::memchr_iter(b'\n', &self.text);
        let last = self.text.len();
        let ends = ends.chain((!self.text.ends_with(b"\n")).then_some(last));
        (self.first..).zip(ends).map(move |(number, end)| {
            let line = self.text.slice(at..end);
            at = end + 1;
            (number, line)
        })
    }
}

/// The file.
pub(super) struct Blocks(Mutex<Reading>);

struct Reading {
    input: Box<dyn Read + Send>,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    next_line: u64,
    block_bytes: usize,
    is_over: bool,
}

impl Blocks {
    /// The blocks of an input.
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self::with(input, BLOCK_BYTES)
    }

    fn with(input: Box<dyn Read + Send>, block_bytes: usize) -> Self {
        Self(Mutex::new(Reading { input, rest: Vec::new(), next_line: 1, block_bytes, is_over: false }))
    }

    /// The next block, none at the end.
    ///
    /// # Errors
    /// What reading says, and a line that is too long.
    pub(super) fn next(&self) -> io::Result<Option<Block>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

impl Reading {
    fn next(&mut self) -> io::Result<Option<Block>> {
        let mut text = std::mem::take(&mut self.rest);
        loop {
            let searched = text.len();
            self.is_over |= self.fill(&mut text)? == 0;
            if self.is_over {
                break;
            }
            if let Some(end) = text.get(searched..).and_then(|new| memchr::memrchr(b'\n', new)) {
                let mut rest = Vec::with_capacity(self.block_bytes + 4096);
                rest.extend_from_slice(text.get(searched + end + 1..).unwrap_or_default());
                text.truncate(searched + end + 1);
                self.rest = rest;
                break;
            }
            if text.len() > LINE_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("line {} is over 64 MiB: is it the right file?", self.next_line),
                ));
            }
        }
        if text.is_empty() {
            return Ok(None);
        }
        let first = self.next_line;
        self.next_line += memchr::memchr_iter(b'\n', &text).count() as u64;
        Ok(Some(Block { text: text.into(), first }))
    }

    /// Reads until the block is full or the input over; how many bytes came.
    fn fill(&mut self, text: &mut Vec<u8>) -> io::Result<u64> {
        let wanted = self.block_bytes as u64;
        self.input.by_ref().take(wanted).read_to_end(text).map(|read| read as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str, block_bytes: usize) -> Vec<(u64, String)> {
        let blocks = Blocks::with(Box::new(text.as_bytes()), block_bytes);
        let mut lines = Vec::new();
        while let Some(block) = blocks.next().unwrap() {
            let text = |line: Bytes| String::from_utf8(line.to_vec()).unwrap();
            lines.extend(block.lines().map(|(number, line)| (number, text(line))));
        }
        lines
    }

    #[test]
    fn every_line_comes_once_with_its_number_whatever_the_size_of_a_block() {
        for text in ["", "\n", "a", "a\n", "a\n\nbcd\ne", "abcdefghij\nk\n\n\nlm\n"] {
            let expected: Vec<(u64, String)> = (1..).zip(text.lines().map(str::to_owned)).collect();
            for block_bytes in 1..=text.len() + 1 {
                assert_eq!(read(text, block_bytes), expected, "{text:?} by {block_bytes}");
            }
        }
    }
}

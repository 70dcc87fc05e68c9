//! What commands print on stdout: lines, JSON and tables. Text from outside is shown, never obeyed: control characters
//! do not reach a terminal.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

/// Stdout, buffered and locked for one command.
pub(crate) struct Output(BufWriter<Stdout>);

/// Whoever read our output had enough (`audit query | head`).
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct ReaderGone;

/// Tells a broken pipe of ours from one to a server, which is an error like any other.
struct Stdout(StdoutLock<'static>);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(mark)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(mark)
    }
}

fn mark(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        _ => error,
    }
}

impl Output {
    /// Takes stdout.
    pub(crate) fn stdout() -> Self {
        Self(BufWriter::new(Stdout(io::stdout().lock())))
    }

    /// One line.
    ///
    /// # Errors
    /// As [`Write::write_all`], like all below.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.bytes(text.as_bytes())
    }

    /// One line of bytes as they are.
    pub(crate) fn bytes(&mut self, text: &[u8]) -> io::Result<()> {
        self.0.write_all(text)?;
        self.0.write_all(b"\n")
    }

    /// Text that ends its lines itself.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())
    }

    /// JSON for people and programs: indented.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.0, value)?;
        self.0.write_all(b"\n")
    }

    /// A table with aligned columns.
    pub(crate) fn table(&mut self, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
        let widths: Vec<usize> = header
            .iter()
            .enumerate()
            .map(|(column, title)| {
                let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
                cells.max().unwrap_or(0).max(title.chars().count())
            })
            .collect();
        let titles: Vec<String> = header.iter().map(|title| title.to_uppercase()).collect();
        for row in std::iter::once(&titles).chain(&rows) {
            let mut text = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
            self.line(text.trim_end())?;
        }
        Ok(())
    }

    /// Everything written so far, out.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The text with control characters made visible.
pub(crate) fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Whether the error is that nobody reads stdout any more.
pub(crate) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<ReaderGone>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(printable("plain ü"), "plain ü");
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\\u{1b}[31mb\\nc");
    }

    #[test]
    fn only_our_own_reader_may_go_unpunished() {
        let io = |error: io::Error| anyhow::Error::new(error).context("while doing something");
        assert!(is_reader_gone(&io(mark(io::ErrorKind::BrokenPipe.into()))));
        assert!(!is_reader_gone(&io(io::ErrorKind::BrokenPipe.into())));
        assert!(!is_reader_gone(&io(mark(io::ErrorKind::StorageFull.into()))));
    }
}

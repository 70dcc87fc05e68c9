//! What commands print on stdout: lines, JSON and tables. Text from outside is shown, never obeyed: control characters
//! do not reach a terminal.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

/// Stdout, buffered and locked for one command.
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    /// Takes stdout.
    pub(crate) fn stdout() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
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

/// Whether the error is that nobody reads any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
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
}

//! Printing whose decisions change: what `policy diff` and `rollout report` have in common.

use std::io;

use judge::flips::FlipReport;

use crate::output::Output;

/// Prints the report for people.
///
/// # Errors
/// Where stdout cannot be written.
pub(crate) fn print(output: &mut Output, report: &FlipReport) -> io::Result<()> {
    output.line(&report.summary())?;
    if !report.changes.is_empty() {
        output.line("")?;
        let row = |change: &judge::flips::Outcomes| {
            vec![change.from.as_str().to_owned(), change.to.as_str().to_owned(), change.requests.to_string()]
        };
        let rows: Vec<Vec<String>> = report.changes.iter().map(row).collect();
        output.table(&["before", "after", "requests"], &rows)?;
    }
    for (title, table) in report.tables() {
        output.line("")?;
        let rows: Vec<Vec<String>> = table.rows.iter().map(|row| row.cells().into()).collect();
        output.table(&[title, "stricter", "milder", "redaction", "users"], &rows)?;
        if let Some(note) = table.note() {
            output.line(&note)?;
        }
    }
    Ok(())
}

//! The description of everything that a gateway serves (OpenAPI), from the tables that the two planes route by.

use control::openapi::{DataPath, document};
use gateway::{SERVED, Served};

/// The document as it is served and printed. Its version is that of the API, not of this program, so that a release
/// changes it only where the API changes.
pub(crate) fn text() -> String {
    let data: Vec<DataPath> = SERVED.iter().map(path).collect();
    let mut text = serde_json::to_string_pretty(&document(&data, "1")).unwrap_or_default();
    text.push('\n');
    text
}

fn path(served: &Served) -> DataPath {
    let method = if served.method == "POST" { "post" } else { "get" };
    DataPath { method, path: served.path, summary: served.summary, keyed: served.keyed }
}

#[cfg(test)]
mod tests {
    /// `policy-gateway openapi > docs/openapi.json` writes it anew.
    #[test]
    fn the_checked_in_description_is_this_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let written = std::fs::read_to_string(file).unwrap();
        assert!(written == super::text(), "run `policy-gateway openapi > docs/openapi.json`");
    }
}

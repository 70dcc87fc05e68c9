//! Checkpoints: what a signed note says of a log, in the form of C2SP's tlog-checkpoint
//! (<https://c2sp.org/tlog-checkpoint>), and how it is found again in whatever a destination made of the event.
//!
//! ```text
//! policy-gateway/<chain>
//! <size, decimal>
//! <root of the Merkle tree over the first `size` events' hashes, base64>
//! head <hash of the event with that seq, hex>
//! key <public key that signs from now on>       (where a key takes over from another)
//!
//! — <key name> <signature>
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use uuid::Uuid;

use crate::event::{Hash, hex, unhex};
use crate::note::{Note, PublicKey};

const ORIGIN: &str = "policy-gateway/";

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The log.
    pub chain: Uuid,
    /// Events that it is about, 1 or more: those with a `seq` from 1 to this.
    pub size: u64,
    /// Root of the Merkle tree over their hashes.
    pub root: Hash,
    /// Hash of the last of them.
    pub head: Hash,
    /// The key that signs the next ones, where another did before. This one has signatures of both.
    pub next_key: Option<PublicKey>,
}

impl Statement {
    /// The text that is signed.
    pub fn text(&self) -> String {
        let Self { chain, size, root, head, next_key } = self;
        let mut text = format!("{ORIGIN}{chain}\n{size}\n{}\nhead {}\n", STANDARD.encode(root), hex(head));
        if let Some(key) = next_key {
            text.push_str(&format!("key {key}\n"));
        }
        text
    }

    /// Reads exactly what [`Statement::text`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let chain = Uuid::try_parse(lines.next()?.strip_prefix(ORIGIN)?).ok()?;
        let size = lines.next()?.parse().ok()?;
        let root = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
        let head = unhex(lines.next()?.strip_prefix("head ")?.as_bytes())?;
        let next_key = match lines.next() {
            Some(line) => Some(line.strip_prefix("key ")?.parse().ok()?),
            None => None,
        };
        let read = Self { chain, size, root, head, next_key };
        (size > 0 && read.text() == text).then_some(read)
    }
}

/// A note together with what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The note.
    pub note: Note,
    /// What it says.
    pub statement: Statement,
}

impl Checkpoint {
    /// Reads a signed note about a log; `None` where the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let note = Note::parse(text)?;
        let statement = Statement::parse(note.text())?;
        Some(Self { note, statement })
    }
}

/// Every checkpoint in a text: a signed note itself, or JSON (one value, or one a line) that holds notes wherever a
/// destination put them.
pub fn find_checkpoints(text: &str) -> Vec<Checkpoint> {
    // Mail and editors take line ends away from files, and put in others.
    let plain = format!("{}\n", text.replace("\r\n", "\n").trim_end());
    if let Some(checkpoint) = Checkpoint::parse(&plain) {
        return vec![checkpoint];
    }
    let mut found = Vec::new();
    match serde_json::from_str::<Value>(text) {
        Ok(value) => search(&value, &mut found),
        Err(_) => {
            for line in text.lines().filter(|line| line.contains(ORIGIN)) {
                if let Ok(value) = serde_json::from_str::<Value>(line) {
                    search(&value, &mut found);
                }
            }
        }
    }
    found
}

/// serde_json bounds the depth.
fn search(value: &Value, found: &mut Vec<Checkpoint>) {
    match value {
        Value::String(text) if text.starts_with(ORIGIN) => found.extend(Checkpoint::parse(text)),
        // A field of text that is JSON itself: raw messages of some destinations.
        Value::String(text) if text.starts_with('{') && text.contains(ORIGIN) => {
            if let Ok(inner) = serde_json::from_str::<Value>(text) {
                search(&inner, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| search(value, found)),
        Value::Object(members) => members.values().for_each(|value| search(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::note::SigningKey;

    fn statement() -> Statement {
        let (next, _) = SigningKey::generate("next", &[9; 32]).unwrap();
        Statement {
            chain: Uuid::from_u128(7),
            size: 12_345,
            root: [1; 32],
            head: [2; 32],
            next_key: Some(next.public().clone()),
        }
    }

    #[test]
    fn a_statement_is_read_as_it_was_written_and_in_no_other_way() {
        let with_key = statement();
        let plain = Statement { next_key: None, ..statement() };
        for one in [&with_key, &plain] {
            assert_eq!(Statement::parse(&one.text()).as_ref(), Some(one));
        }
        let text = plain.text();
        for bad in [
            text.replace("12345", "012345"),
            text.replace("12345", "0"),
            text.replace("12345", "+12345"),
            text.trim_end().to_owned(),
            format!("{text}more\n"),
            text.replace("head 0", "head 0A"),
            text.replace(ORIGIN, "another-log/"),
        ] {
            assert_eq!(Statement::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn notes_are_found_wherever_a_destination_put_them() {
        let (key, _) = SigningKey::generate("prod", &[1; 32]).unwrap();
        let note = Note::sign(statement().text(), &[&key]).to_string();
        let event = json!({"event": {"checkpoint": {"size": 12_345, "note": note}}});
        let raw = json!({"_raw": event.to_string()});
        for text in [
            note.clone(),
            note.trim_end().to_owned(),
            note.replace('\n', "\r\n"),
            event.to_string(),
            json!([{"a": 1}, {"attributes": {"attributes": event}}]).to_string(),
            format!("{}\n{event}\n{{\"other\": 1}}\n", json!({"first": "line"})),
            raw.to_string(),
        ] {
            let found = find_checkpoints(&text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0].statement, statement());
        }
        assert_eq!(find_checkpoints("{}"), []);
        assert_eq!(find_checkpoints("nothing of the kind"), []);
    }
}

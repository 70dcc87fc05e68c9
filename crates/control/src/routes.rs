//! The routes of the management API, one file per thing they are about, and what they read requests with.

pub(crate) mod exports;
pub(crate) mod history;

use policy::problems::read_all;
use serde::de::DeserializeOwned;

use crate::reply::Failure;

/// Reads a JSON body. `hint` says what to send.
///
/// # Errors
/// [`Failure`] with every problem of its shape, by path.
pub(crate) fn read_body<T: DeserializeOwned>(body: &[u8], hint: &str) -> Result<T, Failure> {
    let value = serde_json::from_slice(body).map_err(|error| {
        // The place only: the message of a JSON error may quote what was sent.
        let place = format!("line {}, column {}", error.line(), error.column());
        Failure::bad_request(format!("the body is not JSON (at {place}): {hint}"))
    })?;
    read_all(&value, "").map_err(|problems| Failure::problems(problems, hint))
}

/// A segment of a path as it is meant; none where its escapes are none.
pub(crate) fn percent_decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_once() {
        for (segment, meant) in [
            ("plain-id_1.2:3", Some("plain-id_1.2:3")),
            ("team%2Fpolicy", Some("team/policy")),
            ("a%252Fb", Some("a%2Fb")),
            ("%C3%A4", Some("ä")),
            ("%", None),
            ("%2", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(percent_decoded(segment).as_deref(), meant, "{segment}");
        }
    }
}

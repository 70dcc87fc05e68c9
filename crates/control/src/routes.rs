//! The routes of the management API, one file per thing they are about, and what they read requests with.

mod difference;
pub(crate) mod escalations;
pub(crate) mod exports;
pub(crate) mod history;
pub(crate) mod policies;
pub(crate) mod projects;
pub(crate) mod simulate;
pub(crate) mod usage;

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

/// The query of a URL whose parameters are known.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads it.
    ///
    /// # Errors
    /// [`Failure`] where there is a parameter that is not `known`.
    pub(crate) fn read(query: Option<&str>, known: &[&str]) -> Result<Self, Failure> {
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                let message = format!("there is no parameter `{name}`; there is {}", known.join(", "));
                Err(Failure::bad_request(message))
            }
            None => Ok(Self(pairs)),
        }
    }

    /// The last value of that name.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().rposition(|(other, _)| other == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// The same as a number.
    ///
    /// # Errors
    /// [`Failure`] where it is none.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        let number = self.take(name).map(|text| text.parse());
        number.transpose().map_err(|_| Failure::bad_request(format!("`{name}` must be a whole number")))
    }
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

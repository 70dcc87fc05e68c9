//! The routes of the management API, one file per thing they are about, and what they read requests with.

pub(crate) mod checkpoints;
mod difference;
pub(crate) mod escalations;
pub(crate) mod exports;
pub(crate) mod history;
pub(crate) mod policies;
pub(crate) mod projects;
pub(crate) mod simulate;
pub(crate) mod usage;

use audit::event::AuditEvent;
use audit::log::{AuditLog, Record};
use http::HeaderMap;
use http::header::IF_MATCH;
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

/// As [`read_body`], for a body that may be left out.
///
/// # Errors
/// As [`read_body`].
pub(crate) fn read_optional<T: Default + DeserializeOwned>(body: &[u8], hint: &str) -> Result<T, Failure> {
    if body.trim_ascii().is_empty() { Ok(T::default()) } else { read_body(body, hint) }
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

/// A page that nobody sized.
const LIMIT: usize = 100;
/// An entry is about a kilobyte: the largest page stays around one megabyte.
const LIMIT_MAX: usize = 1000;

/// Which part of a list is asked for.
pub(crate) struct Page {
    limit: usize,
    /// The last entry of the page before.
    cursor: Option<String>,
}

impl Page {
    /// Takes `limit` and `cursor` of a query.
    ///
    /// # Errors
    /// [`Failure`] where a page of that size is not given.
    pub(crate) fn read(query: &mut Query) -> Result<Self, Failure> {
        let wrong = || Failure::bad_request(format!("`limit` must be a whole number from 1 to {LIMIT_MAX}"));
        let limit = query.take("limit").map_or(Ok(LIMIT), |text| text.parse().map_err(|_| wrong()))?;
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(wrong());
        }
        Ok(Self { limit, cursor: query.take("cursor") })
    }

    /// The entries of the page among those that `fit`, and the cursor of the next one. `all` are in order; `id` tells them
    /// apart.
    ///
    /// # Errors
    /// [`Failure`] where the cursor is none of theirs.
    pub(crate) fn cut<T>(
        self,
        all: Vec<T>,
        id: impl Fn(&T) -> String,
        fits: impl Fn(&T) -> bool,
    ) -> Result<(Vec<T>, Option<String>), Failure> {
        let skipped = match &self.cursor {
            None => 0,
            Some(cursor) => match all.iter().position(|entry| id(entry) == *cursor) {
                Some(at) => at + 1,
                None => {
                    let message =
                        "`cursor` must be what `next` of the page before said: begin again without it";
                    return Err(Failure::bad_request(message));
                }
            },
        };
        let mut rest = all.into_iter().skip(skipped).filter(fits);
        let entries: Vec<T> = rest.by_ref().take(self.limit).collect();
        let next = rest.next().and(entries.last()).map(id);
        Ok((entries, next))
    }
}

/// One of these words, as a filter.
///
/// # Errors
/// [`Failure`] where it is none of them.
pub(crate) fn one_of(
    query: &mut Query,
    name: &str,
    words: &[&'static str],
) -> Result<Option<&'static str>, Failure> {
    let Some(given) = query.take(name) else { return Ok(None) };
    let found = words.iter().find(|word| **word == given).copied();
    let wrong = || Failure::bad_request(format!("`{name}` must be one of {}", words.join(", ")));
    found.map(Some).ok_or_else(wrong)
}

/// The state that the caller had seen, by the `ETag` it came with; none where any will do.
///
/// # Errors
/// [`Failure`] where the header is not one tag.
pub(crate) fn expected_tag(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match tag.filter(|tag| !tag.is_empty() && !tag.contains('"')) {
        Some(tag) => Ok(Some(tag.to_owned())),
        None => Err(Failure::bad_request("`If-Match` is the `ETag` that was seen, in its quotes")),
    }
}

/// Notes something that is done and changes nothing that is kept, before it is done.
///
/// # Errors
/// [`Failure`] where it cannot be noted: then it is not done.
pub(crate) async fn note(log: &dyn AuditLog, event: &AuditEvent) -> Result<(), Failure> {
    let noted = match log.append(Record::event(event)) {
        Ok(durable) => durable.await,
        Err(error) => Err(error),
    };
    noted
        .map_err(|error| Failure::unavailable(format!("nothing was done: it could not be recorded: {error}")))
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
    fn pages_lead_through_a_list_once() {
        for limit in 1..8 {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page = Page { limit, cursor: cursor.take() };
                let (part, next) =
                    page.cut((0..7).collect(), |one: &i32| one.to_string(), |one| *one != 3).unwrap();
                assert!(part.len() <= limit);
                seen.extend(part);
                match next {
                    Some(next) => cursor = Some(next),
                    None => break,
                }
            }
            assert_eq!(seen, [0, 1, 2, 4, 5, 6], "{limit}");
        }
        let lost = Page { limit: 1, cursor: Some("9".to_owned()) };
        assert!(lost.cut(vec![1], |one: &i32| one.to_string(), |_| true).is_err());
    }

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

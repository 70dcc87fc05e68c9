//! `$NAME` and `${NAME}` in the values of a configuration, read from the environment. Secret fields stay as written,
//! so that whoever uses the secret can read its source again; policy documents never come here.

use audit::export::SECRET_FIELDS;
use policy::problems::Problem;
use serde_json::Value;

use crate::config::text::{element, member};

/// Paths of the fields that hold secrets, those of destinations apart; `*` stands for one key or index. They reach their owners as written.
const SECRETS: &[&str] = &[
    "upstreams.*.api_key",
    "projects.*.keys.*",
    "projects.*.keys.*.key",
    "admin_tokens.*.token",
    "secrets_key",
    "audit.signing_key",
    "audit.previous_signing_key",
    "smtp.password",
    "escalations.webhook_secret",
    "moderation.api_key",
    // Names of variables, not references to them.
    "egress.env.*",
];

/// A value that came from the environment, kept so that it can be taken out of messages.
pub(crate) struct Substitution {
    /// Where it stands.
    pub(crate) path: String,
    /// The same place as a JSON pointer (RFC 6901).
    pub(crate) pointer: String,
    /// Whether it is all that stands there.
    pub(crate) alone: bool,
    /// How it was written, for example `$NAME`.
    pub(crate) written: String,
    /// What took its place.
    pub(crate) value: String,
}

/// Replaces references in every text of `value` but the secret fields; `$$` stands for one `$`. References that
/// nothing answers are problems.
pub(crate) fn substitute(
    value: &mut Value,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> (Vec<Substitution>, Vec<Problem>) {
    let mut walk = Walk { lookup, substitutions: Vec::new(), missing: Vec::new() };
    walk.value(value, "", &mut Vec::new());
    (walk.substitutions, walk.missing)
}

struct Walk<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    substitutions: Vec<Substitution>,
    missing: Vec<Problem>,
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value, path: &str, segments: &mut Vec<String>) {
        match value {
            Value::String(text) if text.contains('$') && !is_secret(segments) => {
                self.text(text, path, segments);
            }
            Value::Array(values) => {
                for (at, value) in values.iter_mut().enumerate() {
                    segments.push(at.to_string());
                    self.value(value, &element(path, at), segments);
                    segments.pop();
                }
            }
            Value::Object(members) => {
                for (key, value) in members {
                    segments.push(key.clone());
                    self.value(value, &member(path, key), segments);
                    segments.pop();
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &mut String, path: &str, segments: &[String]) {
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = match reference(after) {
                Reference::Dollar(after) => {
                    out.push('$');
                    after
                }
                Reference::Name(name, after) => {
                    match (self.lookup)(name) {
                        Some(value) => {
                            out.push_str(&value);
                            self.substitutions.push(Substitution {
                                path: path.to_owned(),
                                pointer: pointer(segments),
                                alone: before.is_empty() && after.is_empty() && out.len() == value.len(),
                                written: format!("${name}"),
                                value,
                            });
                        }
                        None => self.missing(
                            path,
                            format!("the environment variable `{name}` is not set: set it, or write `$$` for a plain `$`"),
                        ),
                    }
                    after
                }
                Reference::Broken(after) => {
                    self.missing(
                        path,
                        "`$` must be followed by a name, as in `$NAME` or `${NAME}`: write `$$` for a plain `$`".into(),
                    );
                    after
                }
            };
        }
        out.push_str(rest);
        *text = out;
    }

    fn missing(&mut self, path: &str, message: String) {
        self.missing.push(Problem::new(path, message));
    }
}

fn pointer(segments: &[String]) -> String {
    segments.iter().map(|segment| format!("/{}", segment.replace('~', "~0").replace('/', "~1"))).collect()
}

enum Reference<'a> {
    Dollar(&'a str),
    Name(&'a str, &'a str),
    Broken(&'a str),
}

/// What follows a `$`, and the text after it.
fn reference(after: &str) -> Reference<'_> {
    if let Some(after) = after.strip_prefix('$') {
        return Reference::Dollar(after);
    }
    let braced = after.strip_prefix('{');
    let text = braced.unwrap_or(after);
    let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let length = text.bytes().take_while(|byte| part(*byte)).count();
    let (name, after) = text.split_at(length);
    let named = !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit());
    match (braced.is_some(), after.strip_prefix('}')) {
        (false, _) if named => Reference::Name(name, after),
        (true, Some(after)) if named => Reference::Name(name, after),
        _ => Reference::Broken(after),
    }
}

fn is_secret(segments: &[String]) -> bool {
    let matches = |pattern: &str| {
        let mut parts = pattern.split('.');
        let same =
            segments.iter().all(|segment| parts.next().is_some_and(|part| part == "*" || part == segment));
        same && parts.next().is_none()
    };
    SECRETS.iter().any(|pattern| matches(pattern))
        || SECRET_FIELDS.iter().any(|field| matches(&format!("exports.*.{field}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8080".to_owned()),
            "_H1" => Some("$PORT".to_owned()),
            _ => None,
        }
    }

    fn substituted(text: &str) -> (String, Vec<String>) {
        let mut value = json!({ "listen": text });
        let (_, missing) = substitute(&mut value, &lookup);
        assert!(missing.iter().all(|missing| missing.path == "listen"));
        (
            value["listen"].as_str().unwrap().to_owned(),
            missing.into_iter().map(|missing| missing.message).collect(),
        )
    }

    #[test]
    fn both_forms_and_the_escape_are_read_and_values_are_not_read_again() {
        for (text, expected) in [
            ("127.0.0.1:$PORT", "127.0.0.1:8080"),
            ("${PORT}0", "80800"),
            ("$PORT$PORT", "80808080"),
            ("$_H1-x", "$PORT-x"),
            ("$$PORT costs $$5", "$PORT costs $5"),
            ("plain", "plain"),
        ] {
            assert_eq!(substituted(text), (expected.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_broken_is_said() {
        let (_, missing) = substituted("$NOPE and ${ALSO_NOPE}");
        assert_eq!(missing.len(), 2);
        assert!(missing[0].contains("`NOPE`") && missing[1].contains("`ALSO_NOPE`"), "{missing:?}");
        for broken in ["5$", "$ 5", "${PORT", "${}", "$1", "${PORT-x}"] {
            assert_eq!(substituted(broken).1.len(), 1, "{broken}");
        }
    }

    #[test]
    fn secret_fields_stay_as_written() {
        let written = json!({
            "upstreams": [{ "api_key": "$NOPE" }],
            "projects": [{ "keys": ["$NOPE", { "key": "${NOPE}" }] }],
            "admin_tokens": [{ "token": "$NOPE" }],
            "exports": [{ "api_key": "$NOPE", "headers": { "authorization": "$NOPE" } }],
            "secrets_key": "$NOPE",
            "moderation": { "api_key": "pa$$word" },
        });
        let mut value = written.clone();
        let (substitutions, missing) = substitute(&mut value, &lookup);
        assert_eq!(value, written);
        assert!(substitutions.is_empty() && missing.is_empty());
    }

    #[test]
    fn substitutions_say_where_and_what() {
        let mut value = json!({ "exports": [{ "tags": ["env:${PORT}"], "service": "a" }] });
        let (substitutions, _) = substitute(&mut value, &lookup);
        assert_eq!(substitutions.len(), 1);
        let only = &substitutions[0];
        assert_eq!(
            (only.path.as_str(), only.written.as_str(), only.value.as_str()),
            ("exports[0].tags[0]", "$PORT", "8080")
        );
    }
}

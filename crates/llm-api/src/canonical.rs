//! One form of a JSON value, whatever way it was written: members by name, strings with the shortest escapes, no white
//! space. Two values with the same form mean the same to every reader; numbers stay as they were spelled.

use crate::json::{Kind, Value, encode_str};

/// Appends the canonical form of a value. A string that does not decode is taken as it is written.
pub fn canonical(value: Value<'_>, out: &mut Vec<u8>) {
    match value.kind() {
        Kind::Object => {
            let mut members: Vec<_> =
                value.members().map(|(key, member)| (key.as_str().unwrap_or_default(), member)).collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            out.push(b'{');
            for (at, (key, member)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&encode_str(&key));
                out.push(b':');
                canonical(member, out);
            }
            out.push(b'}');
        }
        Kind::Array => {
            out.push(b'[');
            for (at, item) in value.items().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                canonical(item, out);
            }
            out.push(b']');
        }
        _ => match value.as_str() {
            Some(text) => out.extend_from_slice(&encode_str(&text)),
            None => out.extend_from_slice(value.raw().as_bytes()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Tape;

    fn of(text: &str) -> String {
        let mut out = Vec::new();
        canonical(Tape::parse(text).unwrap().root(text), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn spelling_does_not_count_and_content_does() {
        let one = of(r#"{"b": [1.50, true, null, "é\n"], "a": {"y": "", "x": -0}}"#);
        assert_eq!(one, "{\"a\":{\"x\":-0,\"y\":\"\"},\"b\":[1.50,true,null,\"é\\n\"]}");
        assert_eq!(
            one,
            of("{\"a\":{\"x\":-0,\"y\":\"\"},\n\"\\u0062\":[1.50,true,null,\"\\u00e9\\u000a\"]}")
        );
        assert_ne!(one, of(r#"{"b": [1.50, true, null, "e\n"], "a": {"y": "", "x": -0}}"#));
    }

    #[test]
    fn it_is_json_and_its_own_canonical_form() {
        for text in [r#""\ud83d\ude00 \" \\ \/""#, "[]", "{}", "[[{\"a\":[]}]]", "-1.5e3", "false"] {
            let once = of(text);
            assert_eq!(of(&once), once);
        }
    }
}

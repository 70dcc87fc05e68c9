//! What lies between two JSON documents: each value that differs by its pointer (RFC 6901), and a unified diff. Pure.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 3;

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Changed {
    /// JSON pointer, as in `/rules/denylist/2`.
    pub(crate) path: String,
    /// What was there; absent where there was nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<Value>,
    /// What is there now; absent where there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<Value>,
}

/// Every difference, in the order of the documents. Of lists, what both begin and end with is left out, so that one more
/// term is one change wherever it stands.
pub(crate) fn changes(before: &Value, after: &Value) -> Vec<Changed> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

/// Both documents, pretty, as a unified diff.
pub(crate) fn unified(before: &Value, after: &Value, from: &str, to: &str) -> String {
    let pretty = |value: &Value| format!("{value:#}\n");
    let (before, after) = (pretty(before), pretty(after));
    let diff = TextDiff::from_lines(&before, &after);
    diff.unified_diff().context_radius(CONTEXT_LINES).header(from, to).to_string()
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Changed>) {
    match (before, after) {
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            for (name, value) in left {
                compare(&join(path, name), Some(value), right.get(name), found);
            }
            for (name, value) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
                compare(&join(path, name), None, Some(value), found);
            }
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) => compare_lists(path, left, right, found),
        (before, after) if before == after => {}
        (before, after) => {
            found.push(Changed { path: path.to_owned(), before: before.cloned(), after: after.cloned() });
        }
    }
}

fn compare_lists(path: &str, left: &[Value], right: &[Value], found: &mut Vec<Changed>) {
    let same = |pair: &(&Value, &Value)| pair.0 == pair.1;
    let head = left.iter().zip(right).take_while(same).count();
    let (left_rest, right_rest) = (left.iter().skip(head), right.iter().skip(head));
    let tail = left_rest.rev().zip(right_rest.rev()).take_while(same).count();
    let (left_end, right_end) = (left.len() - tail, right.len() - tail);
    for index in head..left_end.max(right_end) {
        let before = left.get(index).filter(|_| index < left_end);
        let after = right.get(index).filter(|_| index < right_end);
        compare(&join(path, &index.to_string()), before, after, found);
    }
}

fn join(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(before: &Value, after: &Value) -> Vec<(String, Option<Value>, Option<Value>)> {
        changes(before, after).into_iter().map(|one| (one.path, one.before, one.after)).collect()
    }

    #[test]
    fn each_difference_has_its_pointer() {
        let before = json!({"a": {"b/c": 1, "same": [1, 2]}, "gone": null});
        let after = json!({"a": {"b/c": 2, "same": [1, 2]}, "new~": true});
        assert_eq!(
            told(&before, &after),
            [
                ("/a/b~1c".to_owned(), Some(json!(1)), Some(json!(2))),
                ("/gone".to_owned(), Some(Value::Null), None),
                ("/new~0".to_owned(), None, Some(json!(true))),
            ]
        );
        assert_eq!(told(&before, &before), []);
    }

    #[test]
    fn one_more_term_is_one_change_wherever_it_stands() {
        let list = json!({"denylist": ["a", "b", "c"]});
        for (at, longer) in
            [["x", "a", "b", "c"], ["a", "x", "b", "c"], ["a", "b", "c", "x"]].iter().enumerate()
        {
            let expected = (format!("/denylist/{}", [0, 1, 3][at]), None, Some(json!("x")));
            assert_eq!(told(&list, &json!({"denylist": longer})), [expected]);
        }
        assert_eq!(
            told(&list, &json!({"denylist": ["a", "c"]})),
            [("/denylist/1".to_owned(), Some(json!("b")), None)]
        );
        // The same value twice in a row must not be counted from both ends.
        assert_eq!(told(&json!(["a", "a"]), &json!(["a"])), [("/1".to_owned(), Some(json!("a")), None)]);
    }

    #[test]
    fn the_text_shows_lines_with_their_surroundings() {
        let text =
            unified(&json!({"a": 1, "b": 2}), &json!({"a": 1, "b": 3}), "p revision 1", "p revision 2");
        assert_eq!(
            text,
            "--- p revision 1\n+++ p revision 2\n@@ -1,4 +1,4 @@\n {\n   \"a\": 1,\n-  \"b\": 2\n+  \"b\": 3\n }\n"
        );
        assert_eq!(unified(&json!({}), &json!({}), "a", "b"), "");
    }
}

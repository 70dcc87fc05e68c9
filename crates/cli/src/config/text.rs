//! YAML and JSON text into JSON values that remember their lines. JSON is read by the same parser, being a subset of
//! YAML 1.2; `yes` and `no` are text, as YAML 1.2 has it. What a value means is not known here.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// What it says.
    pub(crate) value: Value,
    /// Where it says so.
    pub(crate) lines: Lines,
}

/// Line numbers, from 1, by path (`projects[0].policy_id`).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lines(HashMap<String, u64>);

/// A text that cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct SyntaxError {
    /// Where, from 1; none where the parser does not say.
    pub(crate) line: Option<u64>,
    /// What is wrong. Never holds a scalar of the text.
    pub(crate) message: String,
}

/// Reads the documents of a text; a JSON text is one. Documents without content are left out.
///
/// # Errors
/// The first [`SyntaxError`], a key that is given twice in one mapping included.
pub(crate) fn parse(text: &str) -> Result<Vec<Document>, SyntaxError> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let documents: Vec<Spanned<Node>> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| syntax_error(&error, text))?;
    Ok(documents.into_iter().map(document).filter(|document| !document.value.is_null()).collect())
}

impl Lines {
    /// The line of the value at `path`, or of the nearest value around it.
    pub(crate) fn of(&self, path: &str) -> Option<u64> {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            if path.is_empty() {
                return None;
            }
            path = path.rfind(['.', '[']).and_then(|end| path.get(..end)).unwrap_or("");
        }
    }
}

/// The path of a mapping's value.
pub(crate) fn member(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The path of a sequence's value.
pub(crate) fn element(path: &str, at: usize) -> String {
    format!("{path}[{at}]")
}

fn syntax_error(error: &serde_saphyr::Error, text: &str) -> SyntaxError {
    let error = error.without_snippet();
    let line = error.location().map(|at| at.line());
    let mut message = match error {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("`{key}` is given twice in one mapping: keep one"),
            None => "a key is given twice in one mapping: keep one".to_owned(),
        },
        other => {
            let said = other.to_string();
            let end = said.rfind(" at line ").unwrap_or(said.len());
            said.get(..end).unwrap_or_default().to_owned()
        }
    };
    let at = line
        .and_then(|line| usize::try_from(line).ok())
        .and_then(|line| text.lines().nth(line.saturating_sub(1)));
    if at.is_some_and(|at| at.contains("${")) {
        message.push_str(" (inside `{ }` and `[ ]`, `${NAME}` must stand in quotes)");
    }
    SyntaxError { line, message }
}

fn document(root: Spanned<Node>) -> Document {
    let mut lines = Lines::default();
    let value = place(root, "", &mut lines);
    Document { value, lines }
}

fn place(node: Spanned<Node>, path: &str, lines: &mut Lines) -> Value {
    // A mapping's entries are entered at the line of their key (the deeper `insert` does not replace it).
    lines.0.entry(path.to_owned()).or_insert_with(|| node.referenced.line());
    match node.value {
        Node::Scalar(value) => value,
        Node::Sequence(nodes) => {
            nodes.into_iter().enumerate().map(|(at, node)| place(node, &element(path, at), lines)).collect()
        }
        Node::Mapping(entries) => {
            let mut object = Map::with_capacity(entries.len());
            for (key, node) in entries {
                let path = member(path, &key.value.0);
                lines.0.insert(path.clone(), key.referenced.line());
                let value = place(node, &path, lines);
                object.insert(key.value.0, value);
            }
            Value::Object(object)
        }
    }
}

enum Node {
    Scalar(Value),
    Sequence(Vec<Spanned<Node>>),
    Mapping(Vec<(Spanned<Key>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = sequence.next_element()? {
            nodes.push(node);
        }
        Ok(Node::Sequence(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = mapping.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Mapping(entries))
    }
}

/// A mapping's key. Numbers and booleans are taken as their text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Node::deserialize(deserializer)? {
            Node::Scalar(Value::String(text)) => Ok(Self(text)),
            Node::Scalar(value) if !value.is_null() => Ok(Self(value.to_string())),
            _ => Err(D::Error::custom("a key must be text: put it in quotes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Document {
        let mut documents = parse(text).unwrap();
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = one("a: [1, 2.5, yes, true, ~]\nb: {c: \"5\", 6: |-\n  x\n  y\n  }\n"
            .replace("|-\n  x\n  y\n  ", "x")
            .as_str());
        let json =
            one("{\n\t\"a\": [1, 2.5, \"yes\", true, null],\n\t\"b\": {\"c\": \"5\", \"6\": \"x\"}\n}\n");
        assert_eq!(yaml.value, json!({"a": [1, 2.5, "yes", true, null], "b": {"c": "5", "6": "x"}}));
        assert_eq!(yaml.value, json.value);
    }

    #[test]
    fn lines_are_those_of_keys_and_elements_and_fall_back_to_what_is_around() {
        let document = one("# comment\na: 1\nprojects:\n  - id: x\n    keys:\n      - k1\n\n      - k2\n");
        let lines =
            ["", "a", "projects", "projects[0]", "projects[0].keys[1]", "projects[0].policy_id", "no.such"]
                .map(|path| document.lines.of(path));
        assert_eq!(lines, [Some(2), Some(2), Some(3), Some(4), Some(8), Some(4), Some(2)]);
    }

    #[test]
    fn documents_of_one_file_keep_their_own_lines() {
        let documents = parse("---\na: 1\n---\n# nothing\n---\na: 2\n").unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1].value, json!({"a": 2}));
        assert_eq!(documents[1].lines.of("a"), Some(6));
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn a_key_given_twice_is_an_error_at_any_depth() {
        let error = parse("a:\n  b: 1\n  c: 2\n  b: 3\n").unwrap_err();
        assert_eq!(error.line, Some(4));
        assert_eq!(error.message, "`b` is given twice in one mapping: keep one");
        assert_eq!(parse("{\"a\": 1,\n \"a\": 2}").unwrap_err().line, Some(2));
    }

    #[test]
    fn a_broken_text_is_an_error_with_its_line_and_without_its_content() {
        let error = parse("a: hushhush\n b: 3\n").unwrap_err();
        assert_eq!(error.line, Some(2));
        assert!(!error.message.contains("hushhush"), "{}", error.message);
        assert!(!error.message.contains("line"), "{}", error.message);
    }

    #[test]
    fn aliases_and_merges_are_read_and_bombs_are_not() {
        let document = one("x: &a {k: 1}\ny: *a\nz:\n  <<: *a\n  m: 2\n");
        assert_eq!(document.value["y"], json!({"k": 1}));
        assert_eq!(document.value["z"], json!({"k": 1, "m": 2}));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(parse(&bomb).is_err());
    }
}

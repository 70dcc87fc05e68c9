//! Reading untrusted JSON into typed documents with every problem reported at once, each with its path
//! and the fix. What a document means, and whether its values make sense together, is not decided here.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

/// Problems after which reading stops: a file this wrong is not a policy or a configuration at all.
const PROBLEMS_MAX: usize = 100;

/// Values tried, in this order, in place of a missing field, so that what follows it is still read.
const STAND_INS: [fn() -> Value; 6] = [
    || Value::String(String::new()),
    || Value::Object(serde_json::Map::new()),
    || Value::Array(Vec::new()),
    || Value::from(1),
    || Value::Bool(false),
    || Value::Null,
];

/// One thing wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where, for example `rules.overrides[0].term`; empty for the document as a whole.
    pub path: String,
    /// What is wrong and how to fix it: lowercase, names in backticks.
    pub message: String,
}

impl Problem {
    /// A problem at a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Reads `value` as a `T`, or says everything that is wrong with its shape. `prefix` is put before each
/// path: `policies[2]`, or empty.
///
/// # Errors
/// Every unknown field, wrong type, missing field and bad enum value, in document order as far as serde
/// tells. No message repeats the text of a string that may be a secret.
pub fn read_all<T: DeserializeOwned>(value: &Value, prefix: &str) -> Result<T, Vec<Problem>> {
    let read = read_partly(value);
    match read.document {
        Some(document) if read.problems.is_empty() => Ok(document),
        _ => Err(read.problems.into_iter().map(|problem| problem.under(prefix)).collect()),
    }
}

/// What could be read of a document.
pub(crate) struct PartlyRead<T> {
    /// The document without the parts in error, where that leaves enough to build one.
    pub(crate) document: Option<T>,
    /// What is wrong, with paths into the original.
    pub(crate) problems: Vec<Problem>,
    removed: Removed,
}

impl<T> PartlyRead<T> {
    /// Adds problems that were found in the partly read document, but for those that only follow from the
    /// parts left out.
    pub(crate) fn add(&mut self, found: Vec<Problem>) {
        let shape: Vec<String> = self.problems.iter().map(|problem| problem.path.clone()).collect();
        for mut problem in found {
            problem.path = self.removed.original(&problem.path);
            if !shape.iter().any(|path| encloses(path, &problem.path) || encloses(&problem.path, path)) {
                self.problems.push(problem);
            }
        }
    }
}

/// Reads as much of `value` as makes sense: on each error the node in question is left out, or stood in
/// for, and reading starts over.
pub(crate) fn read_partly<T: DeserializeOwned>(value: &Value) -> PartlyRead<T> {
    let mut rest = value.clone();
    let mut read = PartlyRead { document: None, problems: Vec::new(), removed: Removed::default() };
    let mut stood_in: Vec<(Vec<Step>, usize)> = Vec::new();
    // Each round reports a new problem, or moves a stand-in on; both are bounded.
    for _ in 0..PROBLEMS_MAX * STAND_INS.len() {
        let error = match serde_path_to_error::deserialize::<_, T>(&rest) {
            Ok(document) => {
                read.document = Some(document);
                break;
            }
            Err(error) => error,
        };
        let mut at = steps(error.path());
        let text = error.inner().to_string();
        let missing = quoted_after(&text, "missing field ");
        if let Some(field) = missing {
            at.push(Step::Key(field.to_owned()));
        }
        // An error at or below a stand-in is of our own making: try the next one there.
        if let Some((path, tried)) = stood_in.iter_mut().find(|(path, _)| at.starts_with(path)) {
            let nested = missing.is_some() && at.len() > path.len();
            if nested {
                let path = at.clone();
                set(&mut rest, &path, stand_in(0));
                stood_in.insert(0, (path, 0));
                continue;
            }
            *tried += 1;
            if *tried < STAND_INS.len() {
                let (path, tried) = (path.clone(), *tried);
                set(&mut rest, &path, stand_in(tried));
                continue;
            }
            let enclosing: Vec<Step> = path.iter().take(path.len().saturating_sub(1)).cloned().collect();
            if enclosing.is_empty() || !remove(&mut rest, &enclosing, &mut read.removed) {
                break;
            }
            stood_in.retain(|(path, _)| !path.starts_with(&enclosing));
            continue;
        }
        let found = node(&rest, &at).cloned();
        let path = read.removed.original(&render(&at));
        let known = read.problems.iter().any(|problem| problem.path == path);
        if !known {
            read.problems.push(Problem::new(path, explain(&text, found.as_ref(), &at)));
        }
        if read.problems.len() >= PROBLEMS_MAX {
            break;
        }
        if missing.is_some() {
            set(&mut rest, &at, stand_in(0));
            stood_in.push((at, 0));
        } else if at.is_empty() || !remove(&mut rest, &at, &mut read.removed) {
            break;
        }
    }
    read
}

impl Problem {
    fn under(mut self, prefix: &str) -> Self {
        if !prefix.is_empty() {
            let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
            self.path = format!("{prefix}{dot}{}", self.path);
        }
        self
    }
}

fn stand_in(index: usize) -> Value {
    STAND_INS.get(index).map_or(Value::Null, |make| make())
}

/// One step of a path into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Array elements left out so far: array path as rendered for the original → original indices, sorted.
#[derive(Default)]
struct Removed(BTreeMap<String, Vec<usize>>);

impl Removed {
    /// The path in the original document of a path in what is left of it.
    fn original(&self, path: &str) -> String {
        let mut out = String::with_capacity(path.len());
        let mut rest = path;
        while let Some((before, after)) = rest.split_once('[') {
            out.push_str(before);
            let Some((index, tail)) = after.split_once(']') else { break };
            let mut original = index.parse::<usize>().unwrap_or(0);
            for gone in self.0.get(&out).into_iter().flatten() {
                if *gone <= original {
                    original += 1;
                }
            }
            out.push_str(&format!("[{original}]"));
            rest = tail;
        }
        out.push_str(rest);
        out
    }
}

fn steps(path: &Path) -> Vec<Step> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

fn render(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Index(index) => out.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
        }
    }
    out
}

/// Whether `path` is `outer` or lies within it.
fn encloses(outer: &str, path: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn node<'v>(value: &'v Value, at: &[Step]) -> Option<&'v Value> {
    at.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

fn node_mut<'v>(value: &'v mut Value, at: &[Step]) -> Option<&'v mut Value> {
    at.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    })
}

fn set(value: &mut Value, at: &[Step], new: Value) {
    if let Some((Step::Key(key), parent)) = at.split_last()
        && let Some(Value::Object(map)) = node_mut(value, parent)
    {
        map.insert(key.clone(), new);
    }
}

/// Takes a node out; false when it was not there.
fn remove(value: &mut Value, at: &[Step], removed: &mut Removed) -> bool {
    let Some((last, parent)) = at.split_last() else { return false };
    match (node_mut(value, parent), last) {
        (Some(Value::Object(map)), Step::Key(key)) => map.shift_remove(key).is_some(),
        (Some(Value::Array(list)), Step::Index(index)) if *index < list.len() => {
            list.remove(*index);
            let array = removed.original(&render(parent));
            let gone = removed.original(&render(at));
            let original =
                gone.rsplit_once('[').and_then(|(_, index)| index.trim_end_matches(']').parse().ok());
            let indices = removed.0.entry(array).or_default();
            indices.push(original.unwrap_or(*index));
            indices.sort_unstable();
            true
        }
        _ => false,
    }
}

fn quoted_after<'t>(text: &'t str, marker: &str) -> Option<&'t str> {
    let rest = text.strip_prefix(marker)?.strip_prefix('`')?;
    rest.split_once('`').map(|(name, _)| name)
}

/// Serde's message as one for the reader of a policy: says what to write, hides Rust's names, and does not
/// repeat the text of a string.
fn explain(text: &str, found: Option<&Value>, at: &[Step]) -> String {
    if let Some(field) = quoted_after(text, "missing field ") {
        return format!("required field `{field}` is missing: add it");
    }
    if let Some(field) = quoted_after(text, "unknown field ") {
        return unknown("field", field, text);
    }
    if let Some(variant) = quoted_after(text, "unknown variant ") {
        return unknown("value", variant, text);
    }
    if text.starts_with("invalid type: ") || text.starts_with("invalid value: ") {
        let expected = text.rsplit_once("expected ").map_or("", |(_, expected)| expected);
        let found = found.map_or("something else", kind);
        return format!("expected {}, found {found}", plain(expected, at));
    }
    text.to_owned()
}

fn unknown(what: &str, name: &str, text: &str) -> String {
    let listed = text.rsplit_once("expected ").map_or("", |(_, listed)| listed);
    let allowed: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
    let hint = closest(name, &allowed).map_or(String::new(), |near| format!(": did you mean `{near}`?"));
    let list = allowed.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match (hint.is_empty(), allowed.is_empty()) {
        (_, true) => format!("unknown {what} `{name}`: remove it"),
        (true, false) => format!("unknown {what} `{name}`: use one of {list}"),
        (false, false) => format!("unknown {what} `{name}`{hint} allowed: {list}"),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing (null): give a value or leave the field out",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_u64() => "a whole number",
        Value::Number(number) if number.is_i64() => "a negative number",
        Value::Number(_) => "a number with a fraction",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn plain(expected: &str, at: &[Step]) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more, within range".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number within range".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "string or map" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        other if other.starts_with("struct ") => match at.is_empty() {
            true => "an object with named fields".to_owned(),
            false => "an object".to_owned(),
        },
        other if other.contains("variant") || other.starts_with("enum ") => {
            "one of the allowed names".to_owned()
        }
        other => other.to_owned(),
    }
}

/// The allowed name nearest to what was written, if near enough to be what was meant.
fn closest<'n>(name: &str, allowed: &[&'n str]) -> Option<&'n str> {
    let reach = (name.chars().count() / 3).max(1);
    allowed
        .iter()
        .map(|candidate| (distance(&name.to_lowercase(), &candidate.to_lowercase()), *candidate))
        .filter(|(distance, _)| *distance <= reach)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        let mut next = Vec::with_capacity(row.len());
        next.push(before);
        for (b, above) in right.iter().zip(row.iter().skip(1)) {
            before = (before + 1).min(above + 1).min(diagonal + usize::from(a != *b));
            diagonal = *above;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
        Green,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        name: String,
        size: u64,
        #[serde(default)]
        on: bool,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        id: String,
        inner: Inner,
        #[serde(default)]
        colours: Vec<Colour>,
        #[serde(default)]
        list: Vec<Inner>,
    }

    fn problems(value: Value) -> Vec<String> {
        read_all::<Outer>(&value, "").unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_document_is_read() {
        let value = json!({"id": "a", "inner": {"name": "n", "size": 3}, "colours": ["red"]});
        let outer: Outer = read_all(&value, "").unwrap();
        assert_eq!(outer.colours, [Colour::Red]);
    }

    #[test]
    fn every_problem_is_reported_with_its_original_path() {
        let found = problems(json!({
            "idd": "a",
            "inner": {"nam": "n", "size": "three", "on": 1},
            "colours": ["red", "gren", "blue", 4, "green"],
            "list": [{"name": "a", "size": 1}, 7, {"name": "b", "size": -1}, {"name": "c"}],
        }));
        let starts = [
            "idd: unknown field `idd`",
            "id: required field `id`",
            "inner.nam: unknown field `nam`: did you mean `name`? allowed: `name`, `size`, `on`",
            "inner.name: required field `name`",
            "inner.size: expected a whole number, 0 or more, within range, found text",
            "inner.on: expected true or false, found a whole number",
            "colours[1]: unknown value `gren`: did you mean `green`? allowed: `red`, `green`",
            "colours[2]: unknown value `blue`: use one of `red`, `green`",
            "colours[3]: expected ",
            "list[1]: expected an object, found a whole number",
            "list[2].size: expected a whole number, 0 or more, within range, found a negative number",
            "list[3].size: required field `size`",
        ];
        for start in starts {
            assert!(found.iter().any(|line| line.starts_with(start)), "{start}: not in {found:#?}");
        }
        assert_eq!(found.len(), starts.len(), "{found:#?}");
    }

    #[test]
    fn a_string_is_not_repeated_and_the_prefix_is_put_before() {
        let value = json!({"id": "a", "inner": {"name": "n", "size": "hunter2"}});
        let found = read_all::<Outer>(&value, "policies[3]").unwrap_err();
        assert_eq!(found.first().unwrap().path, "policies[3].inner.size");
        assert!(!format!("{found:?}").contains("hunter2"));
        let found = read_all::<Outer>(&json!("hunter2"), "policies[3]").unwrap_err();
        assert_eq!(found.first().unwrap().path, "policies[3]");
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn a_missing_block_is_one_problem() {
        assert_eq!(problems(json!({"id": "a"})), ["inner: required field `inner` is missing: add it"]);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("denylst", "denylist"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

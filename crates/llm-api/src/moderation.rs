//! OpenAI's moderation API (<https://platform.openai.com/docs/api-reference/moderations>): the request in each of its
//! forms, and the answer. How a text scores is the caller's business.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::chat::request::{Metadata, RequestError};

/// Texts that one request may have: more are better sent in several.
const INPUTS_MAX: usize = 1024;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModerationRequest {
    /// The model asked for, if any.
    pub model: Option<String>,
    /// Ours and OpenAI's metadata fields.
    pub metadata: Metadata,
    /// One for each result of the answer.
    pub inputs: Vec<Input>,
}

/// What one result is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// Its texts.
    pub texts: Vec<String>,
    /// How many images there are beside them.
    pub images: u64,
}

impl ModerationRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// [`RequestError`] with the field at fault.
    pub fn parse(body: &Bytes) -> Result<Self, RequestError> {
        let root = match serde_json::from_slice(body) {
            Ok(Value::Object(root)) => root,
            Ok(_) => return Err(wrong(None, "the body is not a JSON object; send {\"input\": …}")),
            // The error's own text could quote the body.
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let message = format!(
                    "the body is not valid JSON at line {line}, column {column}; send {{\"input\": …}}"
                );
                return Err(wrong(None, &message));
            }
        };
        let text = |name: &str| match root.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(_) => Err(wrong(Some(name), &format!("`{name}` must be a string"))),
        };
        let lenient = |name: &str| root.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            model: text("model")?,
            metadata: Metadata {
                policy_user: text("policy_user")?.or(text("policy_user_id")?),
                project_id: text("policy_project_id")?.or(text("policy_project")?),
                target: text("policy_target")?,
                policy_id: text("policy_id")?,
                fallback_user: lenient("safety_identifier").or_else(|| lenient("user")),
            },
            inputs: inputs(&root)?,
        })
    }
}

fn inputs(root: &Map<String, Value>) -> Result<Vec<Input>, RequestError> {
    let forms = "a string, an array of strings, or an array of {\"type\": \"text\" | \"image_url\", …}";
    let at = Some("input");
    let items = match root.get("input") {
        None | Some(Value::Null) => return Err(wrong(at, &format!("`input` is missing: send {forms}"))),
        Some(Value::String(text)) => return Ok(vec![Input { texts: vec![text.clone()], images: 0 }]),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(wrong(at, &format!("`input` must be {forms}"))),
    };
    if items.is_empty() {
        return Err(wrong(at, &format!("`input` is empty: send {forms}")));
    }
    if items.len() > INPUTS_MAX {
        return Err(wrong(at, &format!("`input` has more than {INPUTS_MAX} items: send several requests")));
    }
    if items.iter().all(Value::is_string) {
        let texts = items.iter().filter_map(Value::as_str);
        return Ok(texts.map(|text| Input { texts: vec![text.to_owned()], images: 0 }).collect());
    }
    let mut input = Input::default();
    for (index, item) in items.iter().enumerate() {
        let part = |name: &str| item.get(name);
        match part("type").and_then(Value::as_str) {
            Some("text") => match part("text") {
                Some(Value::String(text)) => input.texts.push(text.clone()),
                _ => {
                    let path = format!("input[{index}].text");
                    return Err(wrong(Some(&path), &format!("`{path}` must be a string")));
                }
            },
            Some("image_url") => input.images += 1,
            _ => {
                let path = format!("input[{index}]");
                return Err(wrong(Some(&path), &format!("`{path}` does not fit: `input` must be {forms}")));
            }
        }
    }
    Ok(vec![input])
}

fn wrong(param: Option<&str>, message: &str) -> RequestError {
    RequestError { message: message.to_owned(), param: param.map(str::to_owned) }
}

/// What one result says of a category.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CategoryResult {
    /// OpenAI's name.
    pub name: &'static str,
    /// Whether it is flagged.
    pub flagged: bool,
    /// 0 to 1.
    pub score: f32,
}

/// One result.
#[derive(Clone, Debug, PartialEq)]
pub struct InputResult {
    /// Every category.
    pub categories: Vec<CategoryResult>,
    /// Whether there was a text; images are not scored, and the result says so by leaving them out of its input types.
    pub has_text: bool,
}

/// The answer's body.
pub fn reply(id: &str, model: &str, results: &[InputResult]) -> Vec<u8> {
    let results: Vec<Value> = results.iter().map(result).collect();
    json!({ "id": id, "model": model, "results": results }).to_string().into_bytes()
}

fn result(result: &InputResult) -> Value {
    let member = |of: &dyn Fn(&CategoryResult) -> Value| -> Value {
        result
            .categories
            .iter()
            .map(|category| (category.name.to_owned(), of(category)))
            .collect::<Map<String, Value>>()
            .into()
    };
    let types: &[&str] = if result.has_text { &["text"] } else { &[] };
    json!({
        "flagged": result.categories.iter().any(|category| category.flagged),
        "categories": member(&|category| category.flagged.into()),
        "category_scores": member(&|category| rounded(category.score).into()),
        "category_applied_input_types": member(&|_| json!(types)),
    })
}

/// A score as JSON has it: six digits are more than it is worth.
fn rounded(score: f32) -> f64 {
    (f64::from(score) * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<ModerationRequest, RequestError> {
        ModerationRequest::parse(&Bytes::from(body.to_string()))
    }

    fn texts(body: Value) -> Vec<Vec<String>> {
        parse(body).unwrap().inputs.into_iter().map(|input| input.texts).collect()
    }

    #[test]
    fn an_input_has_three_forms() {
        assert_eq!(texts(json!({"input": "a"})), [["a"]]);
        assert_eq!(texts(json!({"input": ""})), [[""]]);
        assert_eq!(texts(json!({"input": ["a", "b"], "model": "omni-moderation-latest"})), [["a"], ["b"]]);
        let parts = json!([{"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, {"type": "text", "text": "b"}]);
        let request = parse(json!({"input": parts, "user": "u", "policy_target": "t"})).unwrap();
        assert_eq!(request.inputs, [Input { texts: vec!["a".into(), "b".into()], images: 1 }]);
        assert_eq!(request.metadata.fallback_user.as_deref(), Some("u"));
        assert_eq!(request.metadata.target.as_deref(), Some("t"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let many = json!({"input": vec!["a"; INPUTS_MAX + 1]});
        for (body, param) in [
            (json!({}), Some("input")),
            (json!({"input": null}), Some("input")),
            (json!({"input": []}), Some("input")),
            (json!({"input": 1}), Some("input")),
            (json!({"input": ["a", 1]}), Some("input[0]")),
            (json!({"input": [[1, 2]]}), Some("input[0]")),
            (json!({"input": [{"type": "text"}]}), Some("input[0].text")),
            (json!({"input": [{"type": "audio"}]}), Some("input[0]")),
            (json!({"input": "a", "model": 1}), Some("model")),
            (json!("a"), None),
            (many, Some("input")),
        ] {
            assert_eq!(parse(body.clone()).unwrap_err().param.as_deref(), param, "{body}");
        }
        let error = ModerationRequest::parse(&Bytes::from_static(b"{\"input\": \"secret")).unwrap_err();
        assert!(!error.message.contains("secret"), "{error}");
        assert!(ModerationRequest::parse(&Bytes::from_static(b"\xff\xfe")).is_err());
    }

    #[test]
    fn an_answer_has_openais_shape() {
        let category = |name, flagged, score| CategoryResult { name, flagged, score };
        let of = |has_text| InputResult {
            categories: vec![category("hate", false, 0.1), category("self-harm/intent", true, 0.9)],
            has_text,
        };
        let text = String::from_utf8(reply("modr-1", "m", &[of(true), of(false)])).unwrap();
        insta::assert_snapshot!(text, @r#"{"id":"modr-1","model":"m","results":[{"flagged":true,"categories":{"hate":false,"self-harm/intent":true},"category_scores":{"hate":0.1,"self-harm/intent":0.9},"category_applied_input_types":{"hate":["text"],"self-harm/intent":["text"]}},{"flagged":true,"categories":{"hate":false,"self-harm/intent":true},"category_scores":{"hate":0.1,"self-harm/intent":0.9},"category_applied_input_types":{"hate":[],"self-harm/intent":[]}}]}"#);
    }
}

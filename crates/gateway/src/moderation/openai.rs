//! OpenAI's moderation endpoint as a provider, or one that speaks like it
//! (<https://platform.openai.com/docs/api-reference/moderations>).

use std::collections::HashMap;

use bytes::Bytes;
use policy::{Category, Scored};
use serde::Deserialize;
use serde_json::json;

/// After the base URL.
pub(super) const PATH: &str = "/moderations";
/// Texts in one request.
pub(super) const BATCH: usize = 32;

/// The request about some texts.
pub(super) fn body(model: &str, texts: &[&str]) -> Bytes {
    json!({ "model": model, "input": texts }).to_string().into()
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    /// A model that does not know a category says null.
    categories: HashMap<String, Option<bool>>,
    category_scores: HashMap<String, Option<f64>>,
}

/// What the answer says of each text; none where it is no answer about so many.
pub(super) fn read(answer: &[u8], texts: usize) -> Option<Vec<Scored>> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    if answer.results.len() != texts || answer.results.iter().any(|one| one.category_scores.is_empty()) {
        return None;
    }
    Some(answer.results.iter().map(scored).collect())
}

#[expect(clippy::cast_possible_truncation, reason = "a score is no more precise")]
fn scored(one: &Outcome) -> Scored {
    Scored::new(|category: Category| {
        let name = category.as_str();
        let score = one.category_scores.get(name).copied().flatten().unwrap_or_default();
        (score as f32, one.categories.get(name).copied().flatten().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_by_category() {
        let answer = json!({"id": "modr-1", "model": "m", "results": [
            {"flagged": true, "categories": {"violence": true, "illicit": null, "new/one": true},
             "category_scores": {"violence": 0.75, "illicit": null, "new/one": 1}},
            {"flagged": false, "categories": {}, "category_scores": {"hate": 2}},
        ]});
        let scored = read(answer.to_string().as_bytes(), 2).unwrap();
        assert!(scored[0].is_flagged(Category::Violence) && !scored[0].is_flagged(Category::Illicit));
        assert_eq!((scored[0].score(Category::Violence), scored[1].score(Category::Hate)), (0.75, 1.0));
        for (text, texts) in [
            (answer.to_string().as_str(), 1),
            ("{}", 0),
            ("I cannot say", 1),
            (r#"{"results":[{"categories":{},"category_scores":{}}]}"#, 1),
            (r#"{"results":[{"categories":{"hate":"no"},"category_scores":{"hate":0}}]}"#, 1),
        ] {
            assert!(read(text.as_bytes(), texts).is_none(), "{text}");
        }
    }

    #[test]
    fn texts_go_as_they_are() {
        let body = body("m", &["a \"quote\"", ""]);
        assert_eq!(body, r#"{"model":"m","input":["a \"quote\"",""]}"#);
    }
}

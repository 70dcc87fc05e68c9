//! OpenAI's error body, `{"error":{"message","type","param","code"}}`
//! (<https://platform.openai.com/docs/guides/error-codes>). Which status goes with it is the edge's business.

use serde::Serialize;

/// The `error` object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiError {
    /// What went wrong and how to fix it.
    pub message: String,
    /// OpenAI's coarse class, for example `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The request field at fault.
    pub param: Option<String>,
    /// A stable code.
    pub code: Option<String>,
}

impl ApiError {
    /// The body.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a ApiError,
        }
        // Strings alone: serialising cannot fail.
        serde_json::to_vec(&Body { error: self }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_all_four_members() {
        let error = ApiError {
            message: "say `model`".to_owned(),
            kind: "invalid_request_error",
            param: Some("model".to_owned()),
            code: None,
        };
        assert_eq!(
            String::from_utf8(error.to_json()).unwrap(),
            r#"{"error":{"message":"say `model`","type":"invalid_request_error","param":"model","code":null}}"#
        );
    }
}

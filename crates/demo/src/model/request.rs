//! What the model accepts: an OpenAI chat completion request, read strictly. Anything a gateway should have
//! kept for itself is refused here, so that a leak fails a test instead of passing unseen.

use http::HeaderMap;
use serde_json::{Map, Value};

use super::error::ApiError;

/// Largest `n` OpenAI takes.
const CHOICES_MAX: u64 = 128;

/// A request that passed.
#[derive(Clone, Debug)]
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) choices: usize,
    pub(crate) words_max: Option<usize>,
    pub(crate) logprobs: bool,
    /// Text of the last user message, text parts joined.
    pub(crate) user: String,
    /// Whether a system or developer message comes after it.
    pub(crate) instructed: bool,
    /// Whether an assistant's text comes after it.
    pub(crate) answered: bool,
    /// Text of the last tool result, where one comes after it.
    pub(crate) tool_result: Option<String>,
    /// Words in all messages.
    pub(crate) prompt_words: u64,
}

impl ChatRequest {
    /// Reads and checks a request.
    pub(crate) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, ApiError> {
        if let Some(name) = headers.keys().find(|name| name.as_str().starts_with("x-policy-")) {
            return Err(ApiError::invalid(format!("Header '{name}' must not reach a model."), None));
        }
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            return Err(ApiError::invalid(
                "We could not parse the JSON body of your request as an object.",
                None,
            ));
        };
        if let Some(name) = fields.keys().find(|name| *name == "policy" || name.starts_with("policy_")) {
            return Err(ApiError::unknown_argument(name));
        }
        let model = match fields.get("model") {
            Some(Value::String(model)) if !model.is_empty() => model.clone(),
            None => return Err(ApiError::invalid("you must provide a model parameter", Some("model"))),
            Some(_) => return Err(ApiError::wrong_type("model", "a string")),
        };
        let stream = flag(&fields, "stream")?;
        let include_usage = match fields.get("stream_options") {
            None | Some(Value::Null) => false,
            Some(_) if !stream => {
                return Err(ApiError::invalid(
                    "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                    Some("stream_options"),
                ));
            }
            Some(Value::Object(options)) => flag(options, "include_usage")?,
            Some(_) => return Err(ApiError::wrong_type("stream_options", "an object")),
        };
        let mut request = Self {
            model,
            stream,
            include_usage,
            choices: usize::try_from(number(&fields, "n", 1, CHOICES_MAX)?.unwrap_or(1)).unwrap_or(1),
            words_max: words_max(&fields)?,
            logprobs: flag(&fields, "logprobs")?,
            user: String::new(),
            instructed: false,
            answered: false,
            tool_result: None,
            prompt_words: 0,
        };
        check_tools(&fields)?;
        request.read_messages(&fields)?;
        Ok(request)
    }

    fn read_messages(&mut self, fields: &Map<String, Value>) -> Result<(), ApiError> {
        let messages = match fields.get("messages") {
            Some(Value::Array(messages)) => messages,
            None => {
                return Err(ApiError::invalid("Missing required parameter: 'messages'.", Some("messages")));
            }
            Some(_) => return Err(ApiError::wrong_type("messages", "an array of objects")),
        };
        if messages.is_empty() {
            return Err(ApiError::invalid(
                "Invalid 'messages': empty array. Expected an array with minimum length 1.",
                Some("messages"),
            ));
        }
        let mut open_calls: Vec<&str> = Vec::new();
        let mut user_seen = false;
        for (index, message) in messages.iter().enumerate() {
            let at = |name: &str| format!("messages[{index}].{name}");
            let Value::Object(message) = message else {
                return Err(ApiError::wrong_type(&format!("messages[{index}]"), "an object"));
            };
            let Some(Value::String(role)) = message.get("role") else {
                return Err(ApiError::wrong_type(&at("role"), "a string"));
            };
            let calls = tool_calls(message, &at)?;
            let beside = ["function_call", "refusal", "audio"];
            let may_lack = role == "assistant"
                && (!calls.is_empty()
                    || beside.iter().any(|name| message.get(*name).is_some_and(|v| !v.is_null())));
            let text = content(message, may_lack, &at)?;
            self.prompt_words += count_words(&text);
            match role.as_str() {
                "user" => {
                    user_seen = true;
                    self.user = text;
                    self.instructed = false;
                    self.answered = false;
                    self.tool_result = None;
                }
                "system" | "developer" => self.instructed = user_seen,
                "assistant" => {
                    self.answered = user_seen && calls.is_empty();
                    open_calls = calls;
                }
                "tool" => {
                    let id = message.get("tool_call_id").and_then(Value::as_str);
                    if !id.is_some_and(|id| open_calls.contains(&id)) {
                        return Err(ApiError::invalid(
                            "Invalid parameter: messages with role 'tool' must be a response to a preceding \
                             message with 'tool_calls'.",
                            Some(&at("role")),
                        ));
                    }
                    self.tool_result = Some(text);
                }
                "function" => self.tool_result = Some(text),
                other => {
                    return Err(ApiError::invalid(
                        format!(
                            "Invalid value: '{other}'. Supported values are: 'system', 'assistant', 'user', \
                             'function', 'tool', and 'developer'."
                        ),
                        Some(&at("role")),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Words, which stand in for tokens.
pub(crate) fn count_words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

fn flag(fields: &Map<String, Value>, name: &str) -> Result<bool, ApiError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(ApiError::wrong_type(name, "a boolean")),
    }
}

fn number(fields: &Map<String, Value>, name: &str, min: u64, max: u64) -> Result<Option<u64>, ApiError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(ApiError::wrong_type(name, &format!("an integer from {min} to {max}"))),
        },
    }
}

fn words_max(fields: &Map<String, Value>) -> Result<Option<usize>, ApiError> {
    let newer = number(fields, "max_completion_tokens", 1, u64::from(u32::MAX))?;
    let older = number(fields, "max_tokens", 1, u64::from(u32::MAX))?;
    Ok(newer.or(older).and_then(|words| usize::try_from(words).ok()))
}

fn check_tools(fields: &Map<String, Value>) -> Result<(), ApiError> {
    match fields.get("tools") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(tools))
            if tools.iter().all(|tool| tool.get("type").is_some_and(Value::is_string)) =>
        {
            Ok(())
        }
        Some(_) => Err(ApiError::wrong_type("tools", "an array of objects with a type")),
    }
}

/// Ids of the calls an assistant message made.
fn tool_calls<'a>(
    message: &'a Map<String, Value>,
    at: &dyn Fn(&str) -> String,
) -> Result<Vec<&'a str>, ApiError> {
    let calls = match message.get("tool_calls") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(calls)) if !calls.is_empty() => calls,
        Some(_) => return Err(ApiError::wrong_type(&at("tool_calls"), "an array with minimum length 1")),
    };
    let mut ids = Vec::new();
    for call in calls {
        let arguments = call.pointer("/function/arguments").or_else(|| call.pointer("/custom/input"));
        match (call.get("id").and_then(Value::as_str), arguments) {
            (Some(id), Some(Value::String(_))) => ids.push(id),
            _ => {
                return Err(ApiError::wrong_type(&at("tool_calls"), "calls with an id and string arguments"));
            }
        }
    }
    Ok(ids)
}

/// The text of a message: its string, or its text parts joined.
fn content(
    message: &Map<String, Value>,
    may_lack: bool,
    at: &dyn Fn(&str) -> String,
) -> Result<String, ApiError> {
    let parts = match message.get("content") {
        Some(Value::String(text)) => return Ok(text.clone()),
        Some(Value::Array(parts)) if !parts.is_empty() => parts,
        None | Some(Value::Null) if may_lack => return Ok(String::new()),
        _ => return Err(ApiError::wrong_type(&at("content"), "a string or an array of objects")),
    };
    let mut joined = String::new();
    for part in parts {
        let kind = part.get("type").and_then(Value::as_str);
        let text = match kind {
            Some("text") => part.get("text"),
            Some("refusal") => part.get("refusal"),
            Some("image_url" | "input_audio" | "file") => continue,
            _ => return Err(ApiError::wrong_type(&at("content"), "parts of a known type")),
        };
        let Some(Value::String(text)) = text else {
            return Err(ApiError::wrong_type(&at("content"), "text parts that hold a string"));
        };
        joined.push_str(text);
    }
    Ok(joined)
}

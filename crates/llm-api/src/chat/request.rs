//! A chat completions request: what the gateway must know of it, where its texts stand, and the body that goes to the
//! upstream. Fields that are not named here pass byte for byte.

use bytes::Bytes;

use crate::canonical::canonical;
use crate::json::{Kind, Splice, Tape, Value, encode_str};
use crate::walk::Walk;

/// Fields of ours in the body; none of them reaches the upstream.
const OWN_FIELDS: [&str; 6] =
    ["policy_user", "policy_user_id", "policy_project_id", "policy_project", "policy_target", "policy_id"];
/// Fields that are judged: an upstream that matches names without regard to case must not find another spelling.
const JUDGED_FIELDS: [&str; 4] = ["messages", "model", "stream", "stream_options"];
/// What an extra call goes without: it is not streamed, answers once and in text, and `prediction` quotes an answer.
const EXTRA_WITHOUT: [&str; 9] = [
    "stream",
    "stream_options",
    "n",
    "tool_choice",
    "function_call",
    "parallel_tool_calls",
    "prediction",
    "modalities",
    "audio",
];
/// OpenAI's names for the limit of an answer's tokens, today's first.
const TOKEN_LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];
const JUDGED_MESSAGE_FIELDS: [&str; 5] = ["role", "content", "name", "tool_calls", "function_call"];

/// Why a body is no chat completions request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// What is wrong and how to fix it.
    pub message: String,
    /// The field at fault, as in `messages[0].content`.
    pub param: Option<String>,
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `system`
    System,
    /// `developer`
    Developer,
    /// `user`
    User,
    /// `assistant`
    Assistant,
    /// `tool` or the older `function`
    Tool,
    /// A role that this page of the API does not know.
    Other,
}

/// What the request says about itself, beside its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `policy_user`, else `policy_user_id`.
    pub policy_user: Option<String>,
    /// `policy_project_id`.
    pub project_id: Option<String>,
    /// `policy_target`.
    pub target: Option<String>,
    /// `policy_id`.
    pub policy_id: Option<String>,
    /// OpenAI's `safety_identifier`, else `user`; both still go upstream.
    pub fallback_user: Option<String>,
}

/// A parsed request. Texts refer to the body, which it keeps.
#[derive(Debug)]
pub struct ChatRequest {
    body: Bytes,
    tape: Tape,
    /// The model asked for.
    pub model: String,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Whether the client asked for usage in the stream.
    pub include_usage: bool,
    /// Ours and OpenAI's metadata fields.
    pub metadata: Metadata,
    /// Roles by message.
    pub roles: Vec<Role>,
    has_own_fields: bool,
}

impl ChatRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// [`RequestError`] with the field at fault.
    pub fn parse(body: Bytes) -> Result<Self, RequestError> {
        let text = std::str::from_utf8(&body)
            .map_err(|error| wrong(None, format!("the body is not UTF-8 text: {error}")))?;
        let tape = Tape::parse(text).map_err(|error| {
            wrong(None, format!("the body is not valid JSON: {error}; send one JSON object"))
        })?;
        let root = tape.root(text);
        if root.kind() != Kind::Object {
            return Err(wrong(None, "the body is not a JSON object; send {\"model\": …, \"messages\": […]}"));
        }
        reject_ambiguous(root)?;
        let roles = read_messages(root)?;
        let model = match root.get("model") {
            Some(model) if model.is_string() => text_field(root, "model")?.unwrap_or_default(),
            Some(_) => return Err(wrong(Some("model"), "`model` must be a string, the name of a model")),
            None => String::new(),
        };
        if model.is_empty() {
            return Err(wrong(
                Some("model"),
                "`model` is missing; name the model, as listed by GET /v1/models",
            ));
        }
        let stream = flag(root, "stream")?;
        let include_usage = match root.get("stream_options") {
            None => false,
            Some(options) if options.is_null() => false,
            Some(options) if options.kind() == Kind::Object => flag(options, "include_usage")?,
            Some(_) => return Err(wrong(Some("stream_options"), "`stream_options` must be an object")),
        };
        let metadata = Metadata {
            policy_user: text_field(root, "policy_user")?.or(text_field(root, "policy_user_id")?),
            project_id: text_field(root, "policy_project_id")?.or(text_field(root, "policy_project")?),
            target: text_field(root, "policy_target")?,
            policy_id: text_field(root, "policy_id")?,
            fallback_user: lenient_text(root, "safety_identifier").or_else(|| lenient_text(root, "user")),
        };
        let has_own_fields = OWN_FIELDS.iter().any(|name| root.get(name).is_some());
        Ok(Self { model, stream, include_usage, metadata, roles, has_own_fields, tape, body })
    }

    fn root(&self) -> Value<'_> {
        // `parse` checked that the body is UTF-8.
        self.tape.root(std::str::from_utf8(&self.body).unwrap_or_default())
    }

    /// Bytes of the body.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// Every text of the messages. A unit's `owner` is the index of its message.
    ///
    /// # Errors
    /// [`RequestError`] where a string does not decode.
    pub fn texts(&self) -> Result<Walk<'_>, RequestError> {
        let mut walk = Walk::default();
        let messages = self.root().get("messages");
        for (index, message) in messages.into_iter().flat_map(Value::items).enumerate() {
            walk.message(index, message, &format!("messages[{index}]"))
                .map_err(|error| RequestError { message: error.to_string(), param: Some(error.path) })?;
        }
        Ok(walk)
    }

    /// The canonical form of the messages from those roles, as a JSON array: the same for every spelling of the same
    /// messages.
    pub fn canonical_messages(&self, is_in: impl Fn(Role) -> bool) -> Vec<u8> {
        let mut out = vec![b'['];
        let messages = self.root().get("messages");
        for (index, message) in messages.into_iter().flat_map(Value::items).enumerate() {
            if !is_in(self.roles.get(index).copied().unwrap_or(Role::Other)) {
                continue;
            }
            if out.len() > 1 {
                out.push(b',');
            }
            canonical(message, &mut out);
        }
        out.push(b']');
        out
    }

    /// The most tokens that its answers may have together, where it says so.
    pub fn answer_tokens_max(&self) -> Option<u64> {
        let root = self.root();
        let max = TOKEN_LIMITS.iter().find_map(|name| root.get(name).and_then(Value::as_u64))?;
        Some(max.saturating_mul(root.get("n").and_then(Value::as_u64).unwrap_or(1).max(1)))
    }

    /// What a model reads besides the messages, as JSON.
    pub fn tools_json(&self) -> impl Iterator<Item = &str> {
        let root = self.root();
        ["tools", "functions", "response_format"]
            .into_iter()
            .filter_map(move |name| root.get(name).map(Value::raw))
    }

    /// The body for the upstream: changed texts in place, our own fields gone, `instruction` as the last message
    /// (a system message), stream usage asked for. Where nothing changes it is the client's own bytes.
    pub fn upstream_body(&self, mut texts: Splice, instruction: Option<&str>) -> Bytes {
        let asks_usage = self.stream && !self.include_usage;
        if texts.is_empty() && instruction.is_none() && !self.has_own_fields && !asks_usage {
            return self.body.clone();
        }
        let root = self.root();
        if let (Some(instruction), Some(messages)) = (instruction, root.get("messages")) {
            let end = messages.span().end - 1;
            texts.replace(end..end, [b",".as_slice(), &message("system", instruction)].concat());
        }
        let added = asks_usage.then(|| ("stream_options", stream_options(root)));
        self.rebuild(root, texts, &[], added.as_slice())
    }

    /// The body of an extra call that asks for something in place of an answer: the same request, whole, with one choice
    /// in plain text, no tool to be called and at most `tokens_max` tokens, followed by the masked answer and `prompt` (a
    /// system message). `texts` are the changes that the first call went with.
    pub fn extra_body(&self, mut texts: Splice, masked_answer: &str, prompt: &str, tokens_max: u64) -> Bytes {
        let root = self.root();
        if let Some(messages) = root.get("messages") {
            let end = messages.span().end - 1;
            let said = message("assistant", masked_answer);
            texts.replace(end..end, [b",".as_slice(), &said, b",", &message("system", prompt)].concat());
        }
        let is_there = |name: &str| root.get(name).is_some_and(|value| !value.is_empty());
        let mut without = EXTRA_WITHOUT.to_vec();
        let mut added = Vec::new();
        // Upstreams refuse a history of calls without its tools, so the tools stay where there are any.
        for (tools, choice) in [("tools", "tool_choice"), ("functions", "function_call")] {
            match is_there(tools) {
                true => added.push((choice, b"\"none\"".to_vec())),
                false => without.push(tools),
            }
        }
        // The client's own limit holds too, by the name that its upstream knows.
        for name in TOKEN_LIMITS {
            if let Some(limit) = root.get(name).filter(|limit| !limit.is_null()) {
                let limit = limit.as_u64().map_or(tokens_max, |limit| limit.min(tokens_max));
                added.push((name, limit.to_string().into_bytes()));
            }
        }
        if !TOKEN_LIMITS.iter().any(|name| added.iter().any(|(added, _)| added == name)) {
            added.extend(TOKEN_LIMITS.first().map(|name| (*name, tokens_max.to_string().into_bytes())));
        }
        self.rebuild(root, texts, &without, &added)
    }

    fn rebuild(
        &self,
        root: Value<'_>,
        mut texts: Splice,
        without: &[&str],
        added: &[(&str, Vec<u8>)],
    ) -> Bytes {
        let mut out = Vec::with_capacity(self.body.len() + 128);
        out.push(b'{');
        for (key, value) in root.members() {
            let is_out = |names: &[&str]| names.iter().any(|name| key.key_is(name));
            if is_out(&OWN_FIELDS) || is_out(without) || added.iter().any(|(name, _)| key.key_is(name)) {
                continue;
            }
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(key.raw().as_bytes());
            out.push(b':');
            if key.key_is("messages") {
                out.extend_from_slice(&texts.apply_to(&self.body, value.span()));
            } else {
                out.extend_from_slice(value.raw().as_bytes());
            }
        }
        for (name, value) in added {
            out.extend_from_slice(format!(",\"{name}\":").as_bytes());
            out.extend_from_slice(value);
        }
        out.push(b'}');
        out.into()
    }
}

/// The client's `stream_options` with `include_usage: true`.
fn stream_options(root: Value<'_>) -> Vec<u8> {
    let mut out = b"{\"include_usage\":true".to_vec();
    for (key, value) in root.get("stream_options").into_iter().flat_map(Value::members) {
        if !key.key_is("include_usage") {
            out.push(b',');
            out.extend_from_slice(key.raw().as_bytes());
            out.push(b':');
            out.extend_from_slice(value.raw().as_bytes());
        }
    }
    out.push(b'}');
    out
}

fn message(role: &str, content: &str) -> Vec<u8> {
    let content = encode_str(content);
    [b"{\"role\":\"".as_slice(), role.as_bytes(), b"\",\"content\":", &content, b"}"].concat()
}

/// Readers differ in which of two like-named members they take, and some take any case: such a body could show the
/// judge one text and the model another.
fn reject_ambiguous(root: Value<'_>) -> Result<(), RequestError> {
    if let Some(name) = root.duplicate_member() {
        return Err(wrong(Some(&name), format!("`{name}` is there twice; send it once")));
    }
    for (key, _) in root.members() {
        let name = key.as_str().ok_or_else(|| wrong(None, "a field name is not valid Unicode"))?;
        reject_other_case(&name, &JUDGED_FIELDS, &name)?;
    }
    let Some(messages) = root.get("messages") else { return Ok(()) };
    if let Some(name) = messages.duplicate_key() {
        return Err(wrong(
            Some("messages"),
            format!("`{name}` is there twice in one object of `messages`; send it once"),
        ));
    }
    for (index, message) in messages.items().enumerate() {
        for (key, _) in message.members() {
            let name = key.as_str().unwrap_or_default();
            reject_other_case(&name, &JUDGED_MESSAGE_FIELDS, &format!("messages[{index}].{name}"))?;
        }
    }
    Ok(())
}

fn reject_other_case(name: &str, judged: &[&str], param: &str) -> Result<(), RequestError> {
    match judged.iter().find(|field| field.eq_ignore_ascii_case(name) && **field != name) {
        Some(field) => {
            Err(wrong(Some(param), format!("`{name}` is not a field of the API; write `{field}`")))
        }
        None => Ok(()),
    }
}

fn read_messages(root: Value<'_>) -> Result<Vec<Role>, RequestError> {
    let at = Some("messages");
    let Some(messages) = root.get("messages") else {
        return Err(wrong(at, "`messages` is missing; send an array of {\"role\", \"content\"}"));
    };
    if messages.kind() != Kind::Array {
        return Err(wrong(at, "`messages` must be an array of {\"role\", \"content\"}"));
    }
    if messages.is_empty() {
        return Err(wrong(at, "`messages` is empty; send at least one message"));
    }
    messages.items().enumerate().map(|(index, message)| read_message(index, message)).collect()
}

fn read_message(index: usize, message: Value<'_>) -> Result<Role, RequestError> {
    let wrong_at = |field: &str, message: String| wrong(Some(&format!("messages[{index}]{field}")), message);
    if message.kind() != Kind::Object {
        return Err(wrong_at("", format!("messages[{index}] must be an object {{\"role\", \"content\"}}")));
    }
    let Some(role) = message.get("role").and_then(Value::as_str) else {
        return Err(wrong_at(".role", format!("messages[{index}].role must be a string such as \"user\"")));
    };
    let role = match role.as_ref() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => Role::Other,
    };
    let calls =
        ["tool_calls", "function_call"].iter().any(|name| message.get(name).is_some_and(|v| !v.is_empty()));
    match message.get("content") {
        Some(content) if content.is_string() => Ok(role),
        Some(content) if content.kind() == Kind::Array => {
            match content.items().position(|part| part.kind() != Kind::Object && !part.is_string()) {
                None => Ok(role),
                Some(part) => Err(wrong_at(
                    &format!(".content[{part}]"),
                    format!(
                        "messages[{index}].content[{part}] must be an object such as {{\"type\": \"text\", \"text\": …}}"
                    ),
                )),
            }
        }
        None if calls => Ok(role),
        Some(content) if content.is_null() && calls => Ok(role),
        None => Err(wrong_at(".content", format!("messages[{index}].content is missing"))),
        Some(_) => Err(wrong_at(
            ".content",
            format!(
                "messages[{index}].content must be a string or an array of parts (null only beside `tool_calls`)"
            ),
        )),
    }
}

fn flag(object: Value<'_>, name: &str) -> Result<bool, RequestError> {
    match object.get(name) {
        None => Ok(false),
        Some(value) if value.is_null() => Ok(false),
        Some(value) => {
            value.as_bool().ok_or_else(|| wrong(Some(name), format!("`{name}` must be true or false")))
        }
    }
}

fn text_field(root: Value<'_>, name: &str) -> Result<Option<String>, RequestError> {
    match root.get(name) {
        None => Ok(None),
        Some(value) if value.is_null() => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text.into_owned()).filter(|text| !text.is_empty())),
            None => Err(wrong(Some(name), format!("`{name}` must be a string"))),
        },
    }
}

/// OpenAI's own fields: the upstream judges their shape.
fn lenient_text(root: Value<'_>, name: &str) -> Option<String> {
    root.get(name)?.as_str().map(std::borrow::Cow::into_owned).filter(|text| !text.is_empty())
}

fn wrong(param: Option<&str>, message: impl Into<String>) -> RequestError {
    RequestError { message: message.into(), param: param.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<ChatRequest, RequestError> {
        ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes()))
    }

    fn upstream(body: &str, instruction: Option<&str>) -> String {
        let request = parse(body).unwrap();
        String::from_utf8(request.upstream_body(Splice::default(), instruction).to_vec()).unwrap()
    }

    #[test]
    fn every_fault_names_its_field() {
        for (body, param) in [
            ("nope", None),
            ("[]", None),
            ("{}", Some("messages")),
            (r#"{"model":"m"}"#, Some("messages")),
            (r#"{"model":"m","messages":[]}"#, Some("messages")),
            (r#"{"model":"m","messages":{}}"#, Some("messages")),
            (r#"{"model":"m","messages":["x"]}"#, Some("messages[0]")),
            (r#"{"model":"m","messages":[{"content":"x"}]}"#, Some("messages[0].role")),
            (r#"{"model":"m","messages":[{"role":"user"}]}"#, Some("messages[0].content")),
            (r#"{"model":"m","messages":[{"role":"user","content":null}]}"#, Some("messages[0].content")),
            (r#"{"model":"m","messages":[{"role":"user","content":7}]}"#, Some("messages[0].content")),
            (r#"{"model":"m","messages":[{"role":"user","content":[7]}]}"#, Some("messages[0].content[0]")),
            (r#"{"messages":[{"role":"user","content":"x"}]}"#, Some("model")),
            (r#"{"model":"","messages":[{"role":"user","content":"x"}]}"#, Some("model")),
            (r#"{"model":1,"messages":[{"role":"user","content":"x"}]}"#, Some("model")),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":"yes"}"#, Some("stream")),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"policy_user":5}"#,
                Some("policy_user"),
            ),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"Messages":[]}"#, Some("Messages")),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"messages":[]}"#, Some("messages")),
            (r#"{"model":"m","messages":[{"role":"user","content":"x","content":"y"}]}"#, Some("messages")),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x","Content":"y"}]}"#,
                Some("messages[0].Content"),
            ),
        ] {
            assert_eq!(parse(body).unwrap_err().param.as_deref(), param, "{body}");
        }
        assert!(
            parse(r#"{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{}]}]}"#)
                .is_ok()
        );
        assert!(parse(r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{}]}]}"#).is_ok());
    }

    #[test]
    fn an_untouched_body_goes_as_it_came() {
        let body = " {\"messages\" : [{\"role\":\"user\",\"content\":\"\\u0061\"}],\n\"model\":\"m\", \"temperature\": 1.0e0, \"x\":[ ] } ";
        assert_eq!(upstream(body, None), body);
    }

    #[test]
    fn own_fields_never_go_upstream() {
        let body = r#"{"policy_user":"u","model":"m","policy_target":"t","messages":[{"role":"user","content":"x"}],"user":"v","policy_id":"p"}"#;
        assert_eq!(
            upstream(body, None),
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"user":"v"}"#
        );
        let metadata = parse(body).unwrap().metadata;
        assert_eq!(metadata.policy_user.as_deref(), Some("u"));
        assert_eq!(metadata.fallback_user.as_deref(), Some("v"));
    }

    #[test]
    fn streams_always_ask_for_usage() {
        let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":false,"k":1},"messages":[{"role":"user","content":"x"}]}"#;
        assert_eq!(
            upstream(body, None),
            r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":true,"k":1}}"#
        );
        assert!(!parse(body).unwrap().include_usage);
    }

    #[test]
    fn the_most_that_answers_may_have_counts_every_choice() {
        let max = |fields: &str| {
            let body = format!(r#"{{"model":"m",{fields}"messages":[{{"role":"user","content":"x"}}]}}"#);
            parse(&body).unwrap().answer_tokens_max()
        };
        assert_eq!(max(""), None);
        assert_eq!(max(r#""n":3,"#), None);
        assert_eq!(max(r#""max_tokens":5,"#), Some(5));
        assert_eq!(max(r#""max_tokens":5,"max_completion_tokens":7,"n":3,"#), Some(21));
        assert_eq!(max(r#""max_tokens":"many","#), None);
    }

    #[test]
    fn the_instruction_goes_last() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"x"} ],"seed":1}"#;
        assert_eq!(
            upstream(body, Some("be \"good\"")),
            r#"{"model":"m","messages":[{"role":"user","content":"x"} ,{"role":"system","content":"be \"good\""}],"seed":1}"#
        );
    }

    fn extra(body: &str) -> String {
        let body = parse(body).unwrap().extra_body(Splice::default(), "a ███", "again", 4096);
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn an_extra_call_asks_for_one_plain_answer() {
        insta::assert_snapshot!(extra(
            r#"{"model":"m","n":3,"stream":true,"tools":[],"stream_options":{"include_usage":true},"prediction":{"content":"p"},
                "modalities":["text","audio"],"audio":{"voice":"v"},"messages":[{"role":"user","content":"x"}],"policy_user":"u"}"#
        ), @r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"a ███"},{"role":"system","content":"again"}],"max_completion_tokens":4096}"#);
    }

    #[test]
    fn an_extra_call_keeps_tools_format_and_limits_of_the_request() {
        insta::assert_snapshot!(extra(
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}],"tool_choice":"required","parallel_tool_calls":true,"response_format":{"type":"json_object"},"max_tokens":7,"seed":1}"#
        ), @r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"a ███"},{"role":"system","content":"again"}],"tools":[{"type":"function"}],"response_format":{"type":"json_object"},"seed":1,"tool_choice":"none","max_tokens":7}"#);
        insta::assert_snapshot!(extra(
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"functions":[{"name":"f"}],"max_completion_tokens":100000,"max_tokens":null}"#
        ), @r#"{"model":"m","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"a ███"},{"role":"system","content":"again"}],"functions":[{"name":"f"}],"max_tokens":null,"function_call":"none","max_completion_tokens":4096}"#);
    }
}

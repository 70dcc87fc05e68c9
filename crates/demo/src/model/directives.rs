//! The script inside a user message: `demo:name` or `demo:name=value`. Parsing only; `answer` and `stream`
//! do what the directives say.

use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Longest pause a directive may ask for. A test that needs more wants `demo:hang`.
const DELAY_MAX: Duration = Duration::from_secs(600);

/// Longest answer `demo:words` may ask for: about 8 MB of text.
const WORDS_MAX: usize = 1_000_000;

/// Every directive, for `--help`.
pub const DIRECTIVES_HELP: &str = "\
Directives in the last user message script the answer. A text is a JSON string, so that \\u escapes can hide
it from whatever reads the prompt: demo:say=\"\\u0063at\" answers `cat`.

  demo:say=\"TEXT\"             answer this text; repeated: one for each of `n` choices
  demo:instructed=\"TEXT\"      answer this instead where a system message comes after the user's
  demo:again=\"SCRIPT\"         follow these directives instead where an answer comes after the user's message
  demo:words=N                answer N words
  demo:reasoning=\"TEXT\"       add `reasoning_content` before the answer
  demo:refusal=\"TEXT\"         refuse with this `message.refusal`
  demo:tool=NAME args=JSON    call a tool (repeatable); once its result is there, answer in text
  demo:extra=OBJECT           add these members to each message or delta
  demo:finish=REASON          finish reason to report
  demo:logprobs               report logprobs (as `\"logprobs\": true` does)
  demo:no_usage               report no usage
  demo:json=JSON              raw body of a 200 answer
  demo:malformed              break the JSON of the answer or of one frame
  demo:status=N               answer this HTTP status with an error body
  demo:retry_after=TEXT       … and this Retry-After
  demo:delay_ms=N             wait before the answer, and before each frame of a stream
  demo:hang                   never answer;  demo:hang=N: stop after N frames of a stream
  demo:cut                    drop the connection; demo:cut=N: after N frames (not streamed: half way)

  Streams only:
  demo:chunk=N[,N…]           characters per frame, cycling (default: word by word)
  demo:tear=N                 write N bytes at a time, across frame borders
  demo:crlf                   end lines with CR LF
  demo:comment                keep-alive comments between frames
  demo:no_done                leave out [DONE]
  demo:error_frame=N          after N frames send an error frame and end
  demo:frames=ARRAY           raw `data:` payloads (a string is sent as it is), then [DONE]";

/// A directive that cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DirectiveError {
    #[error("unknown directive `demo:{0}`")]
    Unknown(String),
    #[error("directive `demo:{name}` needs {needs}")]
    Value { name: String, needs: &'static str },
}

/// A call to a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// JSON text, as written.
    pub(crate) arguments: String,
}

/// What the directives of one message ask for. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Directives {
    pub(crate) says: Vec<String>,
    pub(crate) instructed: Option<String>,
    /// Directives, not parsed yet.
    pub(crate) again: Option<String>,
    pub(crate) words: Option<usize>,
    pub(crate) reasoning: Option<String>,
    pub(crate) refusal: Option<String>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) extra: Map<String, Value>,
    pub(crate) finish: Option<String>,
    pub(crate) logprobs: bool,
    pub(crate) no_usage: bool,
    pub(crate) json: Option<String>,
    pub(crate) malformed: bool,
    pub(crate) status: Option<u16>,
    pub(crate) retry_after: Option<String>,
    pub(crate) delay: Duration,
    pub(crate) hang: Option<usize>,
    pub(crate) cut: Option<usize>,
    pub(crate) chunk: Vec<usize>,
    pub(crate) tear: Option<usize>,
    pub(crate) crlf: bool,
    pub(crate) comment: bool,
    pub(crate) no_done: bool,
    pub(crate) error_frame: Option<usize>,
    pub(crate) frames: Option<Vec<Value>>,
}

impl Directives {
    /// Takes the directives out of `text`; returns them and what is left, trimmed.
    pub(crate) fn parse(text: &str) -> Result<(Self, String), DirectiveError> {
        let mut found = Self::default();
        let mut left = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("demo:") {
            left.push_str(before);
            let starts_word = !before.chars().next_back().or(left.chars().next_back()).is_some_and(is_word);
            let name_len = after.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(after.len());
            let (name, after_name) = after.split_at(name_len);
            if !starts_word || name.is_empty() {
                left.push_str("demo:");
                rest = after;
                continue;
            }
            let mut input = Input { name, rest: after_name };
            found.read(&mut input)?;
            rest = input.rest.strip_prefix(' ').unwrap_or(input.rest);
        }
        left.push_str(rest);
        Ok((found, left.trim().to_owned()))
    }

    fn read(&mut self, input: &mut Input<'_>) -> Result<(), DirectiveError> {
        match input.name {
            "say" => self.says.push(input.text()?),
            "instructed" => self.instructed = Some(input.text()?),
            "again" => self.again = Some(input.text()?),
            "words" => self.words = Some(input.number()?.min(WORDS_MAX)),
            "reasoning" => self.reasoning = Some(input.text()?),
            "refusal" => self.refusal = Some(input.text()?),
            "tool" => self.tools.push(input.tool()?),
            "extra" => self.extra.extend(input.object()?),
            "finish" => self.finish = Some(input.word()?.to_owned()),
            "logprobs" => self.logprobs = true,
            "no_usage" => self.no_usage = true,
            "json" => self.json = Some(input.raw()?),
            "malformed" => self.malformed = true,
            "status" => self.status = Some(input.status()?),
            "retry_after" => self.retry_after = Some(input.header()?),
            "delay_ms" => self.delay = Duration::from_millis(input.number()? as u64).min(DELAY_MAX),
            "hang" => self.hang = Some(input.number_or(0)?),
            "cut" => self.cut = Some(input.number_or(0)?),
            "chunk" => self.chunk = input.numbers()?,
            "tear" => self.tear = Some(input.number()?.max(1)),
            "crlf" => self.crlf = true,
            "comment" => self.comment = true,
            "no_done" => self.no_done = true,
            "error_frame" => self.error_frame = Some(input.number()?),
            "frames" => self.frames = Some(input.array()?),
            unknown => return Err(DirectiveError::Unknown(unknown.to_owned())),
        }
        Ok(())
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// A directive's name and what follows it.
struct Input<'a> {
    name: &'a str,
    rest: &'a str,
}

impl<'a> Input<'a> {
    fn needs(&self, needs: &'static str) -> DirectiveError {
        DirectiveError::Value { name: self.name.to_owned(), needs }
    }

    /// Everything up to the next white space.
    fn word(&mut self) -> Result<&'a str, DirectiveError> {
        let Some(value) = self.rest.strip_prefix('=') else { return Err(self.needs("a value")) };
        let end = value.find(char::is_whitespace).unwrap_or(value.len());
        let (word, rest) = value.split_at(end);
        if word.is_empty() {
            return Err(self.needs("a value"));
        }
        self.rest = rest;
        Ok(word)
    }

    fn number(&mut self) -> Result<usize, DirectiveError> {
        let word = self.word()?;
        word.parse().map_err(|_| self.needs("a whole number"))
    }

    fn number_or(&mut self, default: usize) -> Result<usize, DirectiveError> {
        if self.rest.starts_with('=') { self.number() } else { Ok(default) }
    }

    fn numbers(&mut self) -> Result<Vec<usize>, DirectiveError> {
        let word = self.word()?;
        let numbers: Result<Vec<usize>, _> = word.split(',').map(str::parse).collect();
        match numbers {
            Ok(numbers) if !numbers.contains(&0) => Ok(numbers),
            _ => Err(self.needs("whole numbers above 0, with commas between")),
        }
    }

    fn status(&mut self) -> Result<u16, DirectiveError> {
        let status = self.number()?;
        match u16::try_from(status) {
            Ok(status) if (200..=599).contains(&status) => Ok(status),
            _ => Err(self.needs("an HTTP status from 200 to 599")),
        }
    }

    /// A header value: a word, or a quoted text where it has blanks.
    fn header(&mut self) -> Result<String, DirectiveError> {
        let value = if self.rest.starts_with("=\"") { self.text()? } else { self.word()?.to_owned() };
        match http::HeaderValue::from_str(&value) {
            Ok(_) => Ok(value),
            Err(_) => Err(self.needs("a header value")),
        }
    }

    /// One JSON value, as written.
    fn raw(&mut self) -> Result<String, DirectiveError> {
        let Some(value) = self.rest.strip_prefix('=') else { return Err(self.needs("a JSON value")) };
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<Box<RawValue>>();
        let Some(Ok(raw)) = values.next() else { return Err(self.needs("a JSON value")) };
        self.rest = value.get(values.byte_offset()..).unwrap_or_default();
        Ok(raw.get().to_owned())
    }

    fn text(&mut self) -> Result<String, DirectiveError> {
        let raw = self.raw()?;
        serde_json::from_str(&raw).map_err(|_| self.needs("a JSON string"))
    }

    fn object(&mut self) -> Result<Map<String, Value>, DirectiveError> {
        let raw = self.raw()?;
        serde_json::from_str(&raw).map_err(|_| self.needs("a JSON object"))
    }

    fn array(&mut self) -> Result<Vec<Value>, DirectiveError> {
        let raw = self.raw()?;
        serde_json::from_str(&raw).map_err(|_| self.needs("a JSON array"))
    }

    fn tool(&mut self) -> Result<Tool, DirectiveError> {
        let name = self.word()?.to_owned();
        let mut arguments = "{}".to_owned();
        if let Some(rest) = self.rest.strip_prefix(" args")
            && rest.starts_with('=')
        {
            self.rest = rest;
            arguments = self.raw()?;
        }
        Ok(Tool { name, arguments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_leave_the_rest_of_the_text() {
        let (found, left) =
            Directives::parse(r#"Hello demo:say="a \u0063at" world demo:chunk=3,1 demo:crlf"#).unwrap();
        assert_eq!(left, "Hello world");
        assert_eq!(found.says, ["a cat"]);
        assert_eq!(found.chunk, [3, 1]);
        assert!(found.crlf);
    }

    #[test]
    fn a_tool_takes_its_arguments_as_written() {
        let (found, left) =
            Directives::parse(r#"demo:tool=find args={"q": "x", "n":1} demo:tool=stop and go"#).unwrap();
        assert_eq!(left, "and go");
        assert_eq!(
            found.tools,
            [
                Tool { name: "find".into(), arguments: r#"{"q": "x", "n":1}"#.into() },
                Tool { name: "stop".into(), arguments: "{}".into() },
            ]
        );
    }

    #[test]
    fn text_that_only_looks_like_a_directive_stays() {
        for text in ["a demo: of", "my-demo:cut", "demo:", "demo: demo:", "DEMO:say"] {
            assert_eq!(Directives::parse(text).unwrap(), (Directives::default(), text.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        for (text, message) in [
            ("demo:nope", "unknown directive `demo:nope`"),
            ("demo:say=bare", "directive `demo:say` needs a JSON value"),
            ("demo:say=1 ", "directive `demo:say` needs a JSON string"),
            ("demo:status=99", "directive `demo:status` needs an HTTP status from 200 to 599"),
            ("demo:chunk=0", "directive `demo:chunk` needs whole numbers above 0, with commas between"),
            ("demo:tear", "directive `demo:tear` needs a value"),
            ("demo:frames={}", "directive `demo:frames` needs a JSON array"),
        ] {
            assert_eq!(Directives::parse(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn help_names_every_directive_it_explains() {
        let documented = DIRECTIVES_HELP.lines().filter_map(|line| line.trim_start().strip_prefix("demo:"));
        for line in documented {
            let name: String = line.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let error = Directives::parse(&format!("demo:{name}=\u{1}")).err();
            assert!(!matches!(error, Some(DirectiveError::Unknown(_))), "demo:{name} is not known");
        }
    }
}

//! What an answer over OTLP means, for both transports: a pure function of status, headers and body. The rules are the
//! protocol's own (<https://opentelemetry.io/docs/specs/otlp/>, "Failures"), with one addition: nothing that the specification
//! forbids to retry is dropped. It is rejected, which the engine narrows down and keeps as dead letters, or held.

use std::time::Duration;

use super::body::unframe;
use super::proto::{self, PartialSuccess};
use crate::export::http::{Answer, advice};

/// What became of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it is taken.
    Taken,
    /// Some of it is not, the server does not say which, and it must not be sent again.
    PartlyRejected(PartialSuccess),
    /// See [`crate::delivery::SendOutcome`] for these.
    Retry(Option<Duration>, String),
    /// Too large.
    TooLarge(String),
    /// Not acceptable.
    Rejected(String),
    /// A person must mend something.
    Hold(String),
}

/// How texts from outside are made fit to be shown.
pub(super) type Show<'a> = &'a dyn Fn(&str) -> String;

/// What an HTTP answer means.
pub(super) fn http(answer: &Answer, origin: &str, show: Show<'_>) -> Verdict {
    if answer.is_success() {
        return taken(answer);
    }
    let status = answer.status;
    let said = answer.body.as_deref().and_then(proto::status).map(|status| status.message);
    let detail = said.as_deref().map(show).unwrap_or_default();
    let why = format!("the collector answers {status}{detail}: {}", http_advice(status, origin));
    match status {
        429 | 502..=504 => Verdict::Retry(answer.retry_after(), why),
        413 => Verdict::TooLarge(why),
        // The specification has 500 as permanent, like 400: then something in the body is at fault.
        400 | 500 => Verdict::Rejected(why),
        _ => Verdict::Hold(why),
    }
}

fn http_advice(status: u16, origin: &str) -> String {
    match status {
        401 | 403 => format!("it does not take the credentials from {origin}"),
        404 => "there is no such path: OTLP's is `/v1/logs`; check `endpoint`".to_owned(),
        405 | 415 => "is it an OTLP/HTTP port? It is 4318 by custom, and 4317 speaks gRPC (`protocol: grpc`)"
            .to_owned(),
        500 => "by the protocol this may not be tried again as it is".to_owned(),
        _ => advice(status).to_owned(),
    }
}

/// A 2xx: the protocol has a message in it, some servers leave it out or answer in JSON; a page is neither.
fn taken(answer: &Answer) -> Verdict {
    let partial = answer.body.as_deref().and_then(|body| {
        if body.trim_ascii().is_empty() {
            return Some(PartialSuccess::default());
        }
        // No JSON text is such a message as well: `{` would be a field of a type that is no more.
        proto::export_response(body).or_else(|| answer.json::<JsonAnswer>().map(JsonAnswer::partial))
    });
    match partial {
        Some(partial) if partial.rejected == 0 => Verdict::Taken,
        Some(partial) => Verdict::PartlyRejected(partial),
        None => Verdict::Hold(format!(
            "the endpoint answers {} with {}, which is not OTLP's answer: check `endpoint`, and whether a proxy or a login \
             page answers in its place",
            answer.status,
            answer.kind()
        )),
    }
}

/// The same answer as OTLP/JSON has it.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonAnswer {
    partial_success: Option<JsonPartial>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonPartial {
    #[serde(default)]
    rejected_log_records: serde_json::Value,
    #[serde(default)]
    error_message: String,
}

impl JsonAnswer {
    fn partial(self) -> PartialSuccess {
        let Some(partial) = self.partial_success else { return PartialSuccess::default() };
        // JSON has 64-bit integers as strings; both are seen.
        let rejected = match &partial.rejected_log_records {
            serde_json::Value::String(text) => text.parse().unwrap_or(0),
            value => value.as_u64().unwrap_or(0),
        };
        PartialSuccess { rejected, message: partial.error_message }
    }
}

/// What a gRPC answer means.
pub(super) fn grpc(answer: &Answer, origin: &str, show: Show<'_>) -> Verdict {
    let find = |name: &str| answer.trailers.get(name).or_else(|| answer.headers.get(name));
    let Some(code) = find("grpc-status").and_then(|value| value.to_str().ok()?.parse::<u32>().ok()) else {
        return not_grpc(answer, origin, show);
    };
    if code == 0 {
        let partial = answer.body.as_deref().and_then(unframe).and_then(proto::export_response);
        return match partial {
            Some(partial) if partial.rejected == 0 => Verdict::Taken,
            Some(partial) => Verdict::PartlyRejected(partial),
            None => Verdict::Hold(
                "the endpoint answers OK without OTLP's answer in it: check that `endpoint` is a collector"
                    .to_owned(),
            ),
        };
    }
    let details = find("grpc-status-details-bin").and_then(|value| decode_binary(value.as_bytes()));
    let retry_delay = details.as_deref().and_then(proto::status).and_then(|status| status.retry_delay);
    let said = find("grpc-message").map(|value| percent_decoded(value.as_bytes()));
    let detail = said.as_deref().map(show).unwrap_or_default();
    let why = format!("the collector answers {}{detail}: {}", code_name(code), grpc_advice(code, origin));
    match code {
        1 | 4 | 10 | 11 | 14 | 15 => Verdict::Retry(retry_delay.filter(|delay| !delay.is_zero()), why),
        8 if retry_delay.is_some() => Verdict::Retry(retry_delay.filter(|delay| !delay.is_zero()), why),
        // Without a word on when, it is most often a message over the server's limit.
        8 => Verdict::TooLarge(why),
        2 | 3 | 6 | 9 | 13 => Verdict::Rejected(why),
        _ => Verdict::Hold(why),
    }
}

/// An answer without a gRPC status comes from something before the server, and then HTTP's own status counts, by gRPC's table
/// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
fn not_grpc(answer: &Answer, origin: &str, show: Show<'_>) -> Verdict {
    match answer.status {
        429 | 502..=504 | 413 | 401 | 403 => http(answer, origin, show),
        status => Verdict::Hold(format!(
            "the endpoint answers {status} with {} and no gRPC status: check that `endpoint` is a gRPC port (4317 by custom; \
             4318 is `protocol: http`) and that every proxy before it passes HTTP/2 trailers",
            answer.kind()
        )),
    }
}

fn grpc_advice(code: u32, origin: &str) -> String {
    match code {
        7 | 16 => format!("it does not take the credentials from {origin}"),
        12 => "it has no logs service: check that its OTLP receiver takes logs".to_owned(),
        8 => "the body is too large for it, or a quota is used up".to_owned(),
        14 => "it is not there for now".to_owned(),
        1 | 4 | 10 | 11 | 15 => "it asks to try again".to_owned(),
        _ => "by the protocol this may not be tried again as it is".to_owned(),
    }
}

fn code_name(code: u32) -> String {
    let names = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let name = usize::try_from(code).ok().and_then(|index| names.get(index));
    name.map_or_else(|| format!("gRPC status {code}"), |name| (*name).to_owned())
}

/// `grpc-message` is percent-encoded UTF-8.
fn percent_decoded(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A `-bin` header is base64, with or without padding.
fn decode_binary(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&base64::alphabet::STANDARD, config).decode(text).ok()
}

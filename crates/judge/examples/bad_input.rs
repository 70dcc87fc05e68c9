//! Judges what is made to be costly or malformed, checks what comes of it, and prints how long it took:
//! `cargo run --release -p judge --example bad_input`. A wrong outcome stops it.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a tool for developers: it prints, and stops where the outcome is wrong"
)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use judge::stream::StreamJudge;
use judge::{judge_answer, judge_request};
use llm_api::chat::answer::{Answer, AnswerError};
use llm_api::chat::request::{ChatRequest, RequestError};
use llm_api::sse::Decoder;
use policy::{EntityType, InputVerdict, Masker, OutputMode, PolicyDocument, Revision, Subject};
use serde_json::{Value, json};

/// The gateway's largest body by default.
const BODY_BYTES: usize = 10 << 20;
const CHUNKS: usize = 1_000_000;
/// The gateway's largest event by default.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Texts that nearly match, each repeated to a whole body: the beginnings of terms, addresses, numbers and secrets.
const NEAR_MATCHES: [&str; 24] = [
    "napal",
    "napa lm ",
    "n\u{200b}a",
    "\u{301}",
    "1",
    "1 ",
    "1-",
    "+1",
    "(1",
    "@",
    "a@",
    "a@b.",
    "10.1.2.3 ",
    "::",
    "password=",
    "token=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1",
    "sk-",
    "sk-proj-",
    "eyJ.",
    "-----BEGIN ",
    "://a:b",
    "[EMAIL_",
    "4111 ",
    "curl -u ",
];

fn main() {
    println!("| input | bytes | ms | ns a byte | outcome |\n|---|---|---|---|---|");
    requests();
    depth();
    answers();
    chunks();
    malformed();
}

fn revision(pattern: &str) -> Arc<Revision> {
    let terms: Vec<String> = (0..1000)
        .map(|at| format!("unheard of {at}"))
        .chain(["napalm", "credential theft"].map(str::to_owned))
        .collect();
    let document = json!({"policy_id": "p", "rules": {"denylist": terms, "redact": true, "response_pattern": pattern,
        "redaction": {"entities": EntityType::ALL}}});
    let document = PolicyDocument::parse(&document).expect("a valid document");
    Arc::new(Revision::compile(document, 1).expect("a valid document"))
}

fn row(name: &str, bytes: usize, time: Duration, outcome: &str) {
    let ns = time.as_nanos() / bytes.max(1) as u128;
    println!("| {name} | {bytes} | {:.1} | {ns} | {outcome} |", time.as_secs_f64() * 1e3);
}

/// A request whole: read, judged, and made into the upstream's body.
fn judged(pattern: &str, body: &str) -> (Duration, InputVerdict, Bytes) {
    let revision = revision(pattern);
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let started = Instant::now();
    let request = ChatRequest::parse(bytes).expect("a valid request");
    let (verdict, texts) = judge_request(&revision, &Subject::default(), &request, &mut Masker::new())
        .expect("texts that can be read");
    let upstream = request.upstream_body(texts, None);
    (started.elapsed(), verdict, upstream)
}

fn request_of(content: &Value) -> String {
    json!({"model": "m", "messages": [{"role": "user", "content": content}]}).to_string()
}

fn repeated(unit: &str) -> String {
    unit.repeat(BODY_BYTES / unit.len())
}

fn requests() {
    let body =
        request_of(&repeated("The customer asked about a refund for an order that came late. ").into());
    let (time, verdict, upstream) = judged("refuse", &body);
    assert!(verdict.redactions.is_empty() && upstream == body);
    row("10 MB of prose", body.len(), time, "unchanged");

    let slowest = NEAR_MATCHES.iter().map(|unit| {
        let body = request_of(&repeated(unit).into());
        let (time, verdict, _) = judged("rewrite", &body);
        assert!(verdict.denylist_hits.is_empty(), "{unit}");
        (time, body.len(), unit)
    });
    let (time, bytes, unit) = slowest.max_by_key(|(time, ..)| *time).expect("several");
    row(
        &format!("10 MB of near-matches, the slowest of {} kinds", NEAR_MATCHES.len()),
        bytes,
        time,
        &format!("{unit:?}, no term found"),
    );

    let body = request_of(&repeated("credential credential theft theft. ").into());
    let (time, _, upstream) = judged("rewrite", &body);
    assert!(!String::from_utf8_lossy(&upstream).contains("credential"));
    row("10 MB of a term wrapped in itself, cut out", body.len(), time, "nothing of it is left");

    let mut addresses = String::new();
    for number in 0..BODY_BYTES / 20 {
        let _ = write!(addresses, "user{number}@b.example ");
    }
    let body = request_of(&addresses.into());
    let (time, verdict, upstream) = judged("refuse", &body);
    assert!(!String::from_utf8_lossy(&upstream).contains('@'));
    let found: u64 = verdict.redactions.values().sum();
    row("10 MB of distinct addresses", body.len(), time, &format!("{found} masked"));

    let part = json!({"type": "text", "text": "write to a@b.example "});
    let body = request_of(&vec![part; BODY_BYTES / 48].into());
    let (time, _, upstream) = judged("refuse", &body);
    assert!(!String::from_utf8_lossy(&upstream).contains('@'));
    row("10 MB in parts with an address each", body.len(), time, "all masked");

    let message = json!({"role": "user", "content": "a@b.example", "name": "bob"});
    let body = json!({"model": "m", "messages": vec![message; BODY_BYTES / 60]}).to_string();
    let (time, _, upstream) = judged("refuse", &body);
    assert!(!String::from_utf8_lossy(&upstream).contains('@'));
    row("10 MB of small messages", body.len(), time, "all masked");

    let arguments = json!({"to": repeated("a \"quoted\" word\\n ").get(..BODY_BYTES / 2)}).to_string();
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}});
    let body = json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}).to_string();
    let (time, _, _) = judged("refuse", &body);
    row("a tool call of megabytes, escaped twice", body.len(), time, "read inside");
}

fn refused(result: Result<ChatRequest, RequestError>) -> String {
    result.expect_err("a body that is refused").message
}

fn depth() {
    const DEPTH: usize = 100_000;
    for (name, open, close) in [("arrays", "[", "]"), ("objects", "{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(DEPTH), close.repeat(DEPTH));
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{deep}}}]}}"#);
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let started = Instant::now();
        let message = refused(ChatRequest::parse(bytes));
        row(&format!("100,000 {name} deep"), body.len(), started.elapsed(), &message);
        let call = json!({"function": {"name": "f", "arguments": deep}});
        let body =
            json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}).to_string();
        let (time, _, upstream) = judged("refuse", &body);
        assert_eq!(upstream, body);
        row(&format!("… {name} in arguments"), body.len(), time, "read as text from where it is too deep");
    }
}

fn answers() {
    let content = repeated("The order came late, write to a@b.example. ");
    let body =
        json!({"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]})
            .to_string();
    let revision = revision("refuse");
    let started = Instant::now();
    let answer = Answer::parse(Bytes::copy_from_slice(body.as_bytes())).expect("an answer");
    let found = judge_answer(&revision, &Subject::default(), &answer, &mut Masker::new()).expect("texts");
    let sent = answer.client_body(found.texts, &found.changed_choices, None, None);
    assert!(!String::from_utf8_lossy(&sent).contains('@'));
    row("an answer of 10 MB", body.len(), started.elapsed(), "masked");
}

fn frame(content: &str) -> String {
    let choice = json!({"index": 0, "delta": {"content": content}, "finish_reason": null});
    format!(
        "data: {}\n\n",
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
    )
}

/// What a stream leaves, or why it ends.
fn streamed(revision: &Arc<Revision>, stream: &[u8], out: &mut impl FnMut(&[u8])) -> Result<(), AnswerError> {
    let mut judge = StreamJudge::new(
        Arc::clone(revision),
        Subject::default(),
        OutputMode::Mask,
        Masker::new(),
        false,
        None,
    );
    let mut decoder = Decoder::new(EVENT_BYTES_MAX);
    let mut bytes = Vec::new();
    for piece in stream.chunks(16 * 1024) {
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame().map_err(|error| AnswerError::Shape(error.to_string()))? {
            judge.event(&frame, &mut bytes)?;
            out(&bytes);
            bytes.clear();
        }
    }
    if let Some(frame) = decoder.finish() {
        judge.event(&frame, &mut bytes)?;
    }
    judge.finish(&mut bytes)?;
    out(&bytes);
    Ok(())
}

fn chunks() {
    let revision = revision("refuse");
    for (name, text, hides) in
        [("words", "word ", ""), ("one byte of an address each", "write to bob@x.example ", "bob@")]
    {
        let pieces: Vec<String> = match hides {
            "" => vec![frame(text)],
            _ => text.chars().map(|letter| frame(&letter.to_string())).collect(),
        };
        let stream: String = pieces.iter().map(String::as_str).cycle().take(CHUNKS).collect();
        let (mut sent, mut seen) = (0usize, false);
        let started = Instant::now();
        let end = streamed(&revision, stream.as_bytes(), &mut |bytes: &[u8]| {
            sent += bytes.len();
            seen |= !hides.is_empty() && String::from_utf8_lossy(bytes).contains(hides);
        });
        let time = started.elapsed();
        end.expect("a stream to its end");
        assert!(!seen && sent > 0);
        let outcome = format!("{} ns a chunk", time.as_nanos() / CHUNKS as u128);
        row(&format!("a million chunks: {name}"), stream.len(), time, &outcome);
    }
}

fn malformed() {
    let revision = revision("refuse");
    let body = [
        &b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\""[..],
        &vec![0xff; 1 << 20],
        b"\"}]}",
    ]
    .concat();
    let started = Instant::now();
    let message = refused(ChatRequest::parse(body.clone().into()));
    row("invalid UTF-8 in a request", body.len(), started.elapsed(), &message);
    let endless = format!("data: {}", "x".repeat(4 << 20));
    let bad: [(&str, &[u8]); 7] = [
        ("invalid UTF-8 in a stream", b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}\n\n"),
        ("an event without an end", endless.as_bytes()),
        ("an event that is no JSON", b"data: {\"choices\":[\n\n"),
        ("an event of another shape", b"data: {\"choices\":{\"delta\":7}}\n\n"),
        ("a lone surrogate", b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\ud800\"}}]}\n\n"),
        ("fields that nobody knows", b"id: 1\nretry: x\nfoo\n: c\n\n\r\r\ndata\n\n"),
        ("a stream cut in an event", b"data: {\"choices\":[{\"index\":0,\"delta\":{\"con"),
    ];
    for (name, stream) in bad {
        let started = Instant::now();
        let outcome = streamed(&revision, stream, &mut |_| {});
        let told =
            outcome.as_ref().map_or_else(ToString::to_string, |_| "nothing of it is passed on".to_owned());
        assert!(told.len() < 200);
        row(name, stream.len(), started.elapsed(), &told);
    }
}

//! A revision beside the one that acts: it finds what it would find alone, and the client sees nothing of it.

use std::sync::Arc;

use llm_api::sse::Decoder;
use policy::{Masker, OutputFindings, OutputMode, Revision, Subject};
use serde_json::json;

use super::fixtures::FIXTURES;
use super::{revision, streamed};
use crate::stream::{Next, StreamJudge};

/// What leaves, and what was found beside.
fn run(
    acting: &Arc<Revision>,
    mode: OutputMode,
    beside: Option<&Arc<Revision>>,
    stream: &str,
) -> (Vec<u8>, OutputFindings, Option<OutputFindings>) {
    let subject = Subject::default();
    let mut judge =
        StreamJudge::new(Arc::clone(acting), subject.clone(), mode, Masker::default(), false, None);
    if let Some(beside) = beside {
        judge.watch(Arc::clone(beside), subject, Masker::default());
    }
    let mut decoder = Decoder::new(1 << 20);
    let mut out = Vec::new();
    decoder.push(stream.as_bytes());
    let mut next = Next::Continue;
    while let Some(frame) = decoder.next_frame().unwrap() {
        next = judge.event(&frame, &mut out).unwrap();
        if next != Next::Continue {
            break;
        }
    }
    if next == Next::Continue {
        let last = decoder.finish().map(|frame| judge.event(&frame, &mut out));
        if !matches!(last, Some(Ok(Next::Stop { .. } | Next::Done))) {
            judge.finish(&mut out).unwrap();
        }
    }
    (out, judge.findings(), judge.findings_beside())
}

#[test]
fn it_finds_what_it_finds_alone_and_changes_nothing() {
    let revisions = [
        revision(json!({})),
        revision(json!({"denylist": ["credential theft"], "redact": true})),
        revision(json!({"denylist": ["napalm", "the"], "response_pattern": "rewrite"})),
    ];
    let long = streamed(&"so napalm it is, bob@example.com; ".repeat(700), 7);
    let streams = FIXTURES.iter().map(|(name, stream)| (*name, *stream)).chain([("long", long.as_str())]);
    for (name, stream) in streams {
        for acting in &revisions {
            for beside in &revisions {
                let (out, _, found) = run(acting, OutputMode::Mask, Some(beside), stream);
                let (alone, _, nothing) = run(acting, OutputMode::Mask, None, stream);
                let (_, expected, _) = run(beside, OutputMode::Mask, None, stream);
                assert_eq!((out, nothing), (alone, None), "{name}");
                let mut found = found.unwrap();
                // Whether anything would have changed is nobody's business.
                found.changed = expected.changed;
                assert_eq!(found, expected, "{name}");
            }
        }
    }
}

#[test]
fn it_sees_the_text_up_to_where_the_stream_is_stopped() {
    let acting = revision(json!({"denylist": ["napalm"]}));
    let beside = revision(json!({"denylist": ["before", "after"]}));
    let stream = streamed("before napalm after", 3);
    let (_, _, found) = run(&acting, OutputMode::Stop, Some(&beside), &stream);
    assert_eq!(found.unwrap().denylist_hits.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["before"]);
}

//! Runs ahead of a streamed answer's judge: the same judge over the same events, whose one purpose is to say which windows
//! the one that counts will ask about, so that they are fetched before it sees them.

use std::sync::Arc;

use judge::stream::StreamJudge;
use llm_api::sse::Frame;
use policy::{Masker, OutputMode};

use super::Fetched;
use crate::admission::Admitted;
use crate::call::Call;

/// See the module.
pub(crate) struct Scout {
    judge: StreamJudge,
    fetched: Arc<Fetched>,
}

impl Scout {
    /// One where somebody is asked before judging. `masker` is as the judge's own.
    pub(crate) fn of(
        call: &Call,
        admitted: &Admitted,
        mode: OutputMode,
        masker: &Masker,
    ) -> Option<Box<Self>> {
        let fetched = call.scoring.fetched()?.clone();
        let asking = fetched.asking();
        let subject = admitted.subject.clone().scored_by(asking.clone());
        let revision = Arc::clone(&admitted.revision);
        let mut judge = StreamJudge::new(revision, subject, mode, masker.clone(), false, None);
        call.rollout.stream_asking(&mut judge, &asking);
        Some(Box::new(Self { judge, fetched }))
    }

    /// Has scored what judging an event will ask about. An event that cannot be read is the judge's to report.
    pub(crate) async fn event(&mut self, call: &mut Call, frame: &Frame) {
        drop(self.judge.event(frame, &mut Vec::new()));
        call.fetch(&self.fetched).await;
    }

    /// The same for several events.
    pub(crate) async fn events(&mut self, call: &mut Call, frames: &[Frame]) {
        for frame in frames {
            drop(self.judge.event(frame, &mut Vec::new()));
        }
        self.finish(call).await;
    }

    /// The same for the end of the stream.
    pub(crate) async fn finish(&mut self, call: &mut Call) {
        drop(self.judge.finish(&mut Vec::new()));
        drop(self.judge.findings_beside());
        call.fetch(&self.fetched).await;
    }
}

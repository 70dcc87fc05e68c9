//! The log held against a model: whatever is appended, acknowledged, crashed and reopened in whatever order, it is the
//! list that the model has.

use std::path::PathBuf;
use std::sync::Arc;

use audit::event::Outcome;
use audit::log::AuditLog;
use audit::outbox::{Advance, Cursor, DeadLetter, Outbox};
use proptest::prelude::*;
use store::Store;
use uuid::Uuid;

use crate::events::{Request, crash, open, parse, request, standalone};

#[derive(Clone, Debug)]
enum Step {
    Decide,
    DecideAgain(usize),
    Close(usize),
    Standalone,
    /// Appended together, so that they share a commit, or several.
    Burst(usize),
    Read {
        after: usize,
        events_max: usize,
    },
    Cursor(usize),
    Advance {
        destination: usize,
        by: u64,
        is_dead: bool,
    },
    Resolve(usize),
    Restart,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Decide),
        1 => any::<usize>().prop_map(Step::DecideAgain),
        4 => any::<usize>().prop_map(Step::Close),
        2 => Just(Step::Standalone),
        2 => (1_usize..40).prop_map(Step::Burst),
        2 => (any::<usize>(), 1_usize..20).prop_map(|(after, events_max)| Step::Read { after, events_max }),
        1 => (0_usize..2).prop_map(Step::Cursor),
        3 => (0_usize..2, 0_u64..6, any::<bool>())
            .prop_map(|(destination, by, is_dead)| Step::Advance { destination, by, is_dead }),
        1 => (0_usize..2).prop_map(Step::Resolve),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

const DESTINATIONS: [&str; 2] = ["datadog", "splunk"];

struct Model {
    dir: tempfile::TempDir,
    path: PathBuf,
    crashes: usize,
    store: Option<Arc<Store>>,
    open: Vec<Request>,
    /// Ids in the order of their seq, and whether the event was interrupted.
    events: Vec<(Uuid, bool)>,
    cursors: [Option<Cursor>; 2],
    dead: [Vec<u64>; 2],
}

impl Model {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.db");
        let store = Some(open(&path));
        Self {
            dir,
            path,
            crashes: 0,
            store,
            open: Vec::new(),
            events: Vec::new(),
            cursors: [None, None],
            dead: [Vec::new(), Vec::new()],
        }
    }

    fn store(&self) -> Arc<Store> {
        Arc::clone(self.store.as_ref().unwrap())
    }

    async fn run(&mut self, step: Step) {
        let store = self.store();
        match step {
            Step::Decide => {
                let mut new = request("ann");
                store.append(new.decision()).unwrap().await.unwrap();
                self.open.push(new);
            }
            Step::DecideAgain(at) if !self.open.is_empty() => {
                // Interrupted events come in the order of the last decisions.
                let mut changed = self.open.remove(at % self.open.len());
                changed.event.decision = Some(policy::Decision::Refuse);
                store.append(changed.decision()).unwrap().await.unwrap();
                self.open.push(changed);
            }
            Step::Close(at) if !self.open.is_empty() => {
                let mut done = self.open.remove(at % self.open.len());
                store.append(done.closing()).unwrap().await.unwrap();
                self.events.push((done.id, false));
            }
            Step::Standalone => {
                let record = standalone("ann");
                let audit::log::Record::Event { event_id, .. } = &record else { unreachable!() };
                self.events.push((*event_id, false));
                store.append(record).unwrap().await.unwrap();
            }
            Step::Burst(count) => {
                let mut durable = Vec::new();
                for _ in 0..count {
                    let mut new = request("ben");
                    durable.push(store.append(new.decision()).unwrap());
                    durable.push(store.append(new.closing()).unwrap());
                    self.events.push((new.id, false));
                }
                for durable in durable {
                    durable.await.unwrap();
                }
            }
            Step::Read { after, events_max } => {
                let after = after % (self.events.len() + 2);
                let read = store.read_after(after as u64, events_max, usize::MAX).await.unwrap();
                let wanted = self.events.iter().skip(after).take(events_max);
                assert!(read.iter().map(|event| parse(event).event_id).eq(wanted.map(|(id, _)| *id)));
            }
            Step::Cursor(at) => {
                let cursor = store.cursor(DESTINATIONS[at]).await.unwrap();
                let head = self.events.len() as u64;
                let known = self.cursors[at].get_or_insert(Cursor {
                    start: head,
                    position: head,
                    ..Cursor::default()
                });
                assert_eq!(cursor, *known);
            }
            Step::Advance { destination, by, is_dead } => {
                if let Some(known) = &mut self.cursors[destination] {
                    let position = (known.position + by).min(self.events.len() as u64);
                    let mut dead = Vec::new();
                    if is_dead && position > known.position {
                        dead.push(DeadLetter { seq: position, reason: "odd".to_owned(), text: "{}".into() });
                        self.dead[destination].push(position);
                        known.dead += 1;
                    }
                    known.position = position;
                    let cursor = store
                        .advance(DESTINATIONS[destination], Advance { dead, ..Advance::to(position) })
                        .await
                        .unwrap();
                    assert_eq!(cursor, *known);
                }
            }
            Step::Resolve(at) => {
                if let (Some(known), Some(seq)) = (&mut self.cursors[at], self.dead[at].pop()) {
                    known.dead -= 1;
                    assert_eq!(store.resolve_dead(DESTINATIONS[at], vec![seq]).await.unwrap(), *known);
                }
            }
            Step::Restart => {
                store.close().await.unwrap();
                self.reopen(store);
            }
            Step::Crash => {
                self.crashes += 1;
                let left = self.dir.path().join(format!("crash-{}.db", self.crashes));
                crash(&self.path, &left);
                self.path = left;
                self.reopen(store);
            }
            Step::DecideAgain(_) | Step::Close(_) => {}
        }
    }

    fn reopen(&mut self, store: Arc<Store>) {
        self.store = None;
        drop(store);
        let store = open(&self.path);
        assert_eq!(store.recovered(), self.open.len() as u64);
        self.events.extend(self.open.drain(..).map(|request| (request.id, true)));
        self.store = Some(store);
    }

    async fn check(&self) {
        let store = self.store();
        let read = store.read_after(0, usize::MAX, usize::MAX).await.unwrap();
        assert_eq!(read.len(), self.events.len());
        for (event, (id, was_interrupted)) in read.iter().map(parse).zip(&self.events) {
            let outcome = event.request.and_then(|request| request.outcome);
            assert_eq!((event.event_id, outcome == Some(Outcome::Interrupted)), (*id, *was_interrupted));
        }
        let reader = store.reader().unwrap();
        let verified = reader.verify().unwrap();
        assert_eq!(verified.events, self.events.len() as u64);
        for (at, destination) in DESTINATIONS.iter().enumerate() {
            assert_eq!(reader.cursor(destination).unwrap(), self.cursors[at]);
            let dead = reader.dead_letters(destination, 0, 1000).unwrap();
            assert_eq!(dead.iter().map(|letter| letter.seq).collect::<Vec<_>>(), self.dead[at]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_the_model_has(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new();
            for step in steps {
                model.run(step).await;
            }
            model.check().await;
        });
    }
}

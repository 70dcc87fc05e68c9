//! The review desk over the real store: one ticket whatever the race, one end whatever the order, and nothing lost
//! over a restart.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use audit::delivery::Clock;
use audit::event::{AuditEvent, EventType, Stage};
use audit::secret::Secret;
use escalation::fingerprint::Subject;
use escalation::tickets::{DecideError, NoticeKind, Sent, TicketFilter, TicketsError};
use escalation::{Case, Channels, Desk, DeskError, Standing, State, Tickets, Verdict};
use policy::document::{DefaultVerdict, EscalationTerms};
use proptest::prelude::*;
use store::{Store, StoreOptions};
use tempfile::TempDir;
use uuid::Uuid;

const MINUTE_MS: i64 = 60_000;
const KEY: &str = "a secrets key of the tests";

/// A clock that stands still until it is set.
#[derive(Default)]
struct Stopped(AtomicI64);

impl Stopped {
    fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Stopped {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Bench {
    store: Arc<Store>,
    desk: Arc<Desk>,
    clock: Arc<Stopped>,
    dir: TempDir,
}

async fn open(path: &Path, clock: &Arc<Stopped>) -> (Arc<Store>, Arc<Desk>) {
    let options = StoreOptions { ballast_bytes: 0, ..StoreOptions::default() };
    let store = Store::open(path, options).unwrap();
    let channels = Channels::build(None, None, Some(KEY)).unwrap();
    let tickets: Arc<dyn Tickets> = Arc::clone(&store) as _;
    let desk = Desk::open(tickets, store.fingerprint_key(), Arc::clone(clock) as _, channels).await.unwrap();
    (store, desk)
}

async fn bench() -> Bench {
    let dir = TempDir::new().unwrap();
    let clock = Arc::new(Stopped(AtomicI64::new(1_800_000_000_000)));
    let (store, desk) = open(&dir.path().join("gateway.db"), &clock).await;
    Bench { store, desk, clock, dir }
}

impl Bench {
    /// As after a crash of the process: nothing but the file is left.
    async fn restart(self) -> Self {
        let Self { store, desk, clock, dir } = self;
        drop(desk);
        store.close().await.unwrap();
        drop(store);
        let (store, desk) = open(&dir.path().join("gateway.db"), &clock).await;
        Self { store, desk, clock, dir }
    }

    fn fingerprint(&self, content: &str) -> escalation::Fingerprint {
        self.desk.fingerprint("p", Subject::User("u"), content.as_bytes())
    }

    async fn enter(&self, content: &str) -> (Uuid, Standing) {
        self.enter_with(content, case(Some("https://hooks.example/x")), None).await
    }

    async fn enter_with(&self, content: &str, case: Case, kept: Option<&[u8]>) -> (Uuid, Standing) {
        let held = self.desk.enter(self.fingerprint(content), case, kept).await.unwrap();
        (held.id, held.standing)
    }

    fn admin_events(&self) -> Vec<AuditEvent> {
        let reader = self.store.reader().unwrap();
        let events = reader.events_from(1).map(|event| event.unwrap().text);
        let events = events.map(|text| serde_json::from_slice::<AuditEvent>(&text).unwrap());
        events.filter(|event| event.event_type == EventType::Admin).collect()
    }
}

fn case(path: Option<&str>) -> Case {
    Case {
        policy_id: "p".to_owned(),
        policy_revision: Some(1),
        project_id: Some("project".to_owned()),
        policy_user: Some("u".to_owned()),
        key_id: "key_1".to_owned(),
        policy_target: None,
        model: None,
        stage: Some(Stage::Input),
        reason_code: Some("ESCALATE".to_owned()),
        triggered_categories: Vec::new(),
        denylist_hits: vec!["napalm".to_owned()],
        redactions: BTreeMap::new(),
        data_classification: None,
        request_id: None,
        event_id: Uuid::nil(),
        terms: EscalationTerms { sla_minutes: 60, default_verdict: DefaultVerdict::Deny, grant_minutes: 5 },
        escalation_path: path.map(str::to_owned),
    }
}

fn count_in_files(dir: &Path, what: &[u8]) -> usize {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.map(|bytes| bytes.windows(what.len()).filter(|window| *window == what).count()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn identical_requests_at_once_open_one_ticket() {
    let bench = Arc::new(bench().await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..64 {
        let bench = Arc::clone(&bench);
        tasks.spawn(async move { bench.enter(if number % 2 == 0 { "even" } else { "odd" }).await });
    }
    let mut ids = std::collections::HashSet::new();
    while let Some(entered) = tasks.join_next().await {
        let (id, standing) = entered.unwrap();
        assert_eq!(standing, Standing::Open);
        ids.insert(id);
    }
    assert_eq!(ids.len(), 2, "one ticket for each distinct request");
    assert_eq!((bench.desk.stats().opened, bench.desk.stats().open), (2, 2));
    assert_eq!(bench.store.notices(100).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_grant_lasts_its_time_over_a_restart_and_for_that_request_only() {
    let bench = bench().await;
    let (id, _) = bench.enter("one").await;
    assert!(!bench.desk.may_grant());
    bench.desk.decide(id, Verdict::Approve, "rita", "fine").await.unwrap();
    assert!(bench.desk.may_grant());
    assert_eq!(bench.enter("one").await, (id, Standing::Granted));
    assert_eq!(bench.enter("two").await.1, Standing::Open);
    let other_user = bench.desk.fingerprint("p", Subject::User("v"), b"one");
    assert_eq!(bench.desk.held(&other_user), None);
    let bench = bench.restart().await;
    assert_eq!(bench.enter("one").await, (id, Standing::Granted));
    bench.clock.advance(5 * MINUTE_MS);
    let (next, standing) = bench.enter("one").await;
    assert_ne!(next, id, "what is over opens another");
    assert_eq!(standing, Standing::Open);
}

#[tokio::test]
async fn a_denial_is_final_and_refuses_with_its_id() {
    let bench = bench().await;
    let (id, _) = bench.enter("one").await;
    bench.desk.decide(id, Verdict::Deny, "rita", "no").await.unwrap();
    let again = bench.desk.decide(id, Verdict::Approve, "root", "yes").await;
    assert_eq!(again, Err(DecideError::Ended { id, state: State::Denied }));
    let unknown = Uuid::now_v7();
    assert_eq!(
        bench.desk.decide(unknown, Verdict::Deny, "rita", "no").await,
        Err(DecideError::Unknown(unknown))
    );
    let bench = bench.restart().await;
    assert_eq!(bench.enter("one").await, (id, Standing::Refused));
    let events = bench.admin_events();
    assert_eq!(events.len(), 1, "an event for the one decision that was taken");
    assert_eq!(events[0].reason_code.as_deref(), Some("ESCALATION_DENIED"));
    assert_eq!(events[0].escalation_id, Some(id));
    assert_eq!(events[0].actor.as_deref(), Some("rita"));
    assert!(bench.store.notices(10).await.unwrap().is_empty(), "nobody is called to what is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_reviewers_at_once_one_decides() {
    let bench = Arc::new(bench().await);
    for round in 0..20 {
        let (id, _) = bench.enter(&round.to_string()).await;
        let mut tasks = tokio::task::JoinSet::new();
        for verdict in [Verdict::Approve, Verdict::Deny, Verdict::Approve, Verdict::Deny] {
            let bench = Arc::clone(&bench);
            tasks.spawn(async move { bench.desk.decide(id, verdict, "rita", "so").await });
        }
        let results = tasks.join_all().await;
        let taken: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(taken.len(), 1, "{results:?}");
        let expected = if taken[0].state == State::Approved { Standing::Granted } else { Standing::Refused };
        assert_eq!(bench.enter(&round.to_string()).await, (id, expected));
    }
    assert_eq!(bench.admin_events().len(), 20);
}

#[tokio::test]
async fn what_nobody_decided_ends_by_its_default_once_and_calls_again() {
    let bench = bench().await;
    let (strict, _) = bench.enter("strict").await;
    let mut lenient_case = case(None);
    lenient_case.terms.default_verdict = DefaultVerdict::Approve;
    let (lenient, _) = bench.enter_with("lenient", lenient_case, None).await;
    // The process is gone when the time comes.
    let bench = bench.restart().await;
    bench.clock.advance(60 * MINUTE_MS);
    assert_eq!(bench.enter("strict").await, (strict, Standing::Refused), "before it is written down");
    bench.desk.expire_due().await.unwrap();
    bench.desk.expire_due().await.unwrap();
    assert_eq!(bench.desk.stats().expired, 2);
    assert_eq!(bench.enter("strict").await, (strict, Standing::Refused));
    assert_eq!(bench.enter("lenient").await, (lenient, Standing::Granted));
    let late = bench.desk.decide(strict, Verdict::Approve, "rita", "late").await;
    assert_eq!(late, Err(DecideError::Ended { id: strict, state: State::Expired }));
    let events = bench.admin_events();
    assert_eq!(events.len(), 2);
    for event in &events {
        assert_eq!(event.reason_code.as_deref(), Some("ESCALATION_EXPIRED"));
        assert_eq!(event.actor, None);
    }
    let notices = bench.store.notices(10).await.unwrap();
    let told: Vec<_> = notices.iter().map(|notice| (notice.kind, notice.about.id())).collect();
    assert_eq!(told, [(NoticeKind::Expired, strict)]);
    bench.clock.advance(5 * MINUTE_MS);
    assert_eq!(bench.enter("lenient").await.1, Standing::Open, "the grant by default is over too");
    let bench = bench.restart().await;
    assert_eq!(bench.store.reader().unwrap().verify().unwrap().events, 2);
}

#[tokio::test]
async fn kept_content_is_unreadable_at_rest_and_gone_with_the_decision() {
    let bench = bench().await;
    let content = b"[{\"role\":\"user\",\"content\":\"PLAINTEXT-CANARY\"}]";
    let (id, _) = bench.enter_with("one", case(None), Some(content)).await;
    let (ticket, found) = bench.desk.find(id, true).await.unwrap().unwrap();
    assert!(ticket.has_content);
    assert_eq!(found.as_deref(), Some(&content[..]));
    assert_eq!(bench.desk.find(id, false).await.unwrap().unwrap().1, None);
    let sealed = bench.store.find(id).await.unwrap().unwrap().1.unwrap();
    assert_eq!(count_in_files(bench.dir.path(), b"PLAINTEXT-CANARY"), 0);
    let bench = bench.restart().await;
    assert!(count_in_files(bench.dir.path(), &sealed) > 0, "it is there to be erased");
    // With another key it stays closed, and says so.
    let other = Channels::build(None, None, Some("another key of the tests")).unwrap();
    bench.desk.set_channels(other);
    assert!(
        matches!(bench.desk.find(id, true).await, Err(TicketsError::Store(text)) if text.contains("secrets_key"))
    );
    bench.desk.decide(id, Verdict::Deny, "rita", "no").await.unwrap();
    let (ticket, found) = bench.desk.find(id, true).await.unwrap().unwrap();
    assert_eq!((ticket.has_content, found), (false, None));
    // Closing writes the log back into the file and empties it.
    let Bench { store, dir, desk, .. } = bench;
    drop(desk);
    store.close().await.unwrap();
    assert_eq!(count_in_files(dir.path(), &sealed), 0, "erased, not only unlinked");
}

#[tokio::test]
async fn content_without_a_key_is_refused_and_opens_nothing() {
    let bench = bench().await;
    bench.desk.set_channels(Channels::default());
    let entered = bench.desk.enter(bench.fingerprint("one"), case(None), Some(b"[]")).await;
    assert_eq!(entered, Err(DeskError::Seal));
    assert_eq!(bench.desk.stats().open, 0);
    assert!(Secret::new(KEY.to_owned(), "a test").is_ok());
}

#[tokio::test]
async fn a_notice_waits_over_a_restart_with_what_failed_before() {
    let bench = bench().await;
    bench.enter("one").await;
    let notice = bench.store.notices(10).await.unwrap().remove(0);
    assert_eq!((notice.kind, notice.attempts, notice.next_ms), (NoticeKind::Opened, 0, bench.clock.now_ms()));
    // No secret is configured: the try fails, and is due again later.
    bench.desk.send_due().await.unwrap();
    assert_eq!(bench.desk.stats().notice_failures, 1);
    let bench = bench.restart().await;
    let again = bench.store.notices(10).await.unwrap().remove(0);
    assert_eq!((again.id, again.attempts, again.path.as_str()), (notice.id, 1, "https://hooks.example/x"));
    assert!(again.next_ms > bench.clock.now_ms());
    assert!(bench.desk.send_due().await.unwrap() > std::time::Duration::ZERO, "not due yet");
    bench.store.sent(again.id, Sent::Yes).await.unwrap();
    assert!(bench.store.notices(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn tickets_are_listed_newest_first_a_page_at_a_time() {
    let bench = bench().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(bench.enter(&number.to_string()).await.0);
    }
    bench.desk.decide(ids[1], Verdict::Approve, "rita", "fine").await.unwrap();
    ids.reverse();
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page =
            bench.desk.list(TicketFilter { before, limit: 2, ..TicketFilter::default() }).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.number);
        seen.extend(page.iter().map(|ticket| ticket.id));
    }
    assert_eq!(seen, ids);
    let approved = TicketFilter { state: Some(State::Approved), limit: 10, ..TicketFilter::default() };
    let approved = bench.desk.list(approved).await.unwrap();
    assert_eq!(approved.iter().map(|ticket| ticket.id).collect::<Vec<_>>(), [ids[3]]);
    let none = TicketFilter { policy_id: Some("q".to_owned()), limit: 10, ..TicketFilter::default() };
    assert!(bench.desk.list(none).await.unwrap().is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Enter(u8),
    Decide(u8, bool),
    Advance(u8),
    Expire,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..3).prop_map(Step::Enter),
        3 => (0u8..3, any::<bool>()).prop_map(|(request, approve)| Step::Decide(request, approve)),
        3 => (1u8..70).prop_map(Step::Advance),
        2 => Just(Step::Expire),
        1 => Just(Step::Restart),
    ]
}

/// What is known of a request: its ticket, and until when (ms) it stands as it does.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: Uuid,
    standing: Standing,
    until_ms: i64,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The desk agrees with a model that keeps one entry a request, whatever happens in between.
    #[test]
    fn the_desk_agrees_with_a_small_model(steps in prop::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bench = bench().await;
            let mut model: [Option<Known>; 3] = [None; 3];
            for step in steps {
                let now = bench.clock.now_ms();
                for known in model.iter_mut() {
                    if let Some(open) = known.filter(|known| known.standing == Standing::Open && now >= known.until_ms) {
                        let until_ms = open.until_ms + 60 * MINUTE_MS;
                        *known = Some(Known { standing: Standing::Refused, until_ms, ..open });
                    }
                    if known.is_some_and(|known| now >= known.until_ms) {
                        *known = None;
                    }
                }
                match step {
                    Step::Enter(request) => {
                        let (id, standing) = bench.enter(&request.to_string()).await;
                        let slot = &mut model[usize::from(request)];
                        match slot {
                            Some(known) => assert_eq!((id, standing), (known.id, known.standing)),
                            None => {
                                assert_eq!(standing, Standing::Open);
                                *slot = Some(Known { id, standing, until_ms: now + 60 * MINUTE_MS });
                            }
                        }
                    }
                    Step::Decide(request, approve) => {
                        let Some(known) = model[usize::from(request)] else { continue };
                        let verdict = if approve { Verdict::Approve } else { Verdict::Deny };
                        let decided = bench.desk.decide(known.id, verdict, "rita", "so").await;
                        assert_eq!(decided.is_ok(), known.standing == Standing::Open, "{known:?} {decided:?}");
                        if decided.is_ok() {
                            let (standing, minutes) =
                                if approve { (Standing::Granted, 5) } else { (Standing::Refused, 60) };
                            let until_ms = now + minutes * MINUTE_MS;
                            model[usize::from(request)] = Some(Known { standing, until_ms, ..known });
                        }
                    }
                    Step::Advance(minutes) => bench.clock.advance(i64::from(minutes) * MINUTE_MS),
                    Step::Expire => drop(bench.desk.expire_due().await.unwrap()),
                    Step::Restart => bench = bench.restart().await,
                }
            }
        });
    }
}

#[tokio::test]
async fn retention_deletes_what_is_over_and_nothing_that_means_something() {
    let bench = bench().await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let day_ms = 24 * 60 * MINUTE_MS;
    bench.clock.0.store(now_ms - 10 * day_ms, Ordering::SeqCst);
    // More than one slice deletes, of each kind of ending.
    let mut ended = Vec::new();
    for number in 0..120 {
        let (id, _) = bench.enter(&format!("old {number}")).await;
        let verdict = if number % 2 == 0 { Verdict::Approve } else { Verdict::Deny };
        bench.desk.decide(id, verdict, "rita", "seen").await.unwrap();
        ended.push(id);
    }
    let (expired, _) = bench.enter("expired").await;
    bench.clock.advance(61 * MINUTE_MS);
    bench.desk.expire_due().await.unwrap();
    assert_eq!(bench.store.notices(1000).await.unwrap().len(), 1, "that of the expiry");
    let mut patient = case(None);
    patient.terms.sla_minutes = 60 * 24 * 365;
    let (open, _) = bench.enter_with("open", patient.clone(), None).await;
    // Ended long ago, and in force for longer than that.
    let (denied, _) = bench.enter_with("denied for long", patient, None).await;
    bench.desk.decide(denied, Verdict::Deny, "rita", "seen").await.unwrap();
    bench.clock.0.store(now_ms - day_ms, Ordering::SeqCst);
    let (young, _) = bench.enter("young").await;
    bench.desk.decide(young, Verdict::Deny, "rita", "seen").await.unwrap();

    assert_eq!(bench.store.retain(30, &[]).await.unwrap().tickets, 0);
    assert_eq!(bench.store.retain(5, &[]).await.unwrap().tickets, 121);
    let all = TicketFilter { limit: 1000, ..TicketFilter::default() };
    let left: Vec<Uuid> = bench.desk.list(all).await.unwrap().iter().map(|ticket| ticket.id).collect();
    assert_eq!(left, [young, denied, open]);
    assert!(bench.store.notices(1000).await.unwrap().is_empty());
    assert_eq!(bench.desk.find(expired, false).await.unwrap(), None);
    let known = bench.desk.decide(ended[0], Verdict::Deny, "rita", "late").await;
    assert_eq!(known, Err(DecideError::Unknown(ended[0])));

    let bench = bench.restart().await;
    assert_eq!(bench.enter("denied for long").await, (denied, Standing::Refused));
    let (again, standing) = bench.enter("old 0").await;
    assert!(!ended.contains(&again));
    assert_eq!(standing, Standing::Open);
}

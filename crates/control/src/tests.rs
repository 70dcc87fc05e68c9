use std::sync::Mutex;

use audit::delivery::{DestinationStatus, ReplayError, ReplayReport, Selection};
use audit::event::{AuditEvent, EventType};
use audit::export::{ExportConfig, TestError, TestReport};
use audit::outbox::{BoxFuture, DeliveryState, StoredEvent};
use audit::secret::Secret;
use audit::usage::{Sums, UsagePage, UsageQuery, UsageRow};
use escalation::tickets::{DecideError, TicketFilter, WithContent};
use escalation::{Ruling, Ticket, Verdict};
use http::{HeaderMap, StatusCode};
use policy::Problem;
use registry::desired_state::Declared;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::api::{Access, ROUTES};
use crate::config::Role;
use crate::memory::{Memory, Records, state};
use crate::ports::{Checkpoint, Escalations, EventFilter, PortError};

/// Events 1 to 5 of types in turn, and whatever filter was asked for last.
#[derive(Default)]
pub(crate) struct Log {
    asked: Mutex<Option<EventFilter>>,
    broken: bool,
}

impl Evidence for Log {
    fn events(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<StoredEvent>, PortError>> {
        let before = filter.before_seq.unwrap_or(6);
        let limit = filter.limit;
        *self.asked.lock().unwrap() = Some(filter);
        let broken = self.broken;
        Box::pin(async move {
            if broken {
                return Err(PortError("the store did not answer".to_owned()));
            }
            let event = |seq: u64| {
                let blank =
                    AuditEvent::blank(Uuid::nil(), EventType::Heartbeat, "2026-01-16T18:22:11Z".to_owned());
                StoredEvent { seq, text: blank.to_json().into() }
            };
            Ok((1..before.min(6)).rev().take(limit).map(event).collect())
        })
    }

    fn checkpoints(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Checkpoint>, PortError>> {
        let made = |size: u64| Checkpoint {
            size,
            event_id: Uuid::nil().to_string(),
            created_at: "2026-01-16T18:22:11.000Z".to_owned(),
            note: format!("policy-gateway/…\n{size}\n"),
        };
        let below = before.unwrap_or(u64::MAX);
        let found = [30, 20, 10].into_iter().filter(|size| *size < below).take(limit).map(made).collect();
        Box::pin(std::future::ready(Ok(found)))
    }

    /// Two rows of three.
    fn usage(&self, query: UsageQuery) -> BoxFuture<'_, Result<UsagePage, PortError>> {
        let broken = self.broken;
        Box::pin(async move {
            if broken {
                return Err(PortError("the store did not answer".to_owned()));
            }
            let row = |name: Option<&str>, requests| UsageRow {
                group: query.group_by.iter().map(|_| name.map(str::to_owned)).collect(),
                sums: Sums { requests, total_tokens: 30, cost_pico_usd: 150_000_000, ..Sums::default() },
            };
            Ok(UsagePage { rows: vec![row(None, 1), row(Some("a,b"), 2)], has_more: true })
        })
    }
}

/// One that a file declares, and those that the API made, once they were applied.
#[derive(Default)]
pub(crate) struct Destinations {
    replayed: Mutex<Vec<(String, Selection)>>,
    pub(crate) state: Mutex<Option<Arc<registry::DesiredState>>>,
    pub(crate) running: Mutex<Vec<ExportConfig>>,
    /// What `check` says.
    pub(crate) refuses: Mutex<Option<Problem>>,
}

pub(crate) fn status(id: &str, endpoint: &str) -> DestinationStatus {
    DestinationStatus {
        id: id.to_owned(),
        destination: "datadog_logs".to_owned(),
        endpoint: endpoint.to_owned(),
        state: DeliveryState::Held,
        accepted: 10,
        delivered: 7,
        pending: 2,
        dead: 1,
        skipped: 4,
        lag_seconds: 1.5,
        last_error: Some("403: the key is wrong".to_owned()),
        requests: 9,
        retries: 3,
        bytes_sent: 1,
        bytes_uncompressed: 2,
    }
}

impl Exports for Destinations {
    fn status(&self) -> Vec<DestinationStatus> {
        let running = self.running.lock().unwrap();
        let made = running.iter().map(|export| status(&export.id, export.endpoint()));
        std::iter::once(status("datadog_logs", "https://intake.example/api/v2/logs")).chain(made).collect()
    }

    fn check<'a>(&'a self, _: &'a ExportConfig) -> BoxFuture<'a, Result<(), Problem>> {
        let refused = self.refuses.lock().unwrap().clone();
        Box::pin(async move { refused.map_or(Ok(()), Err) })
    }

    fn apply(&self) -> BoxFuture<'_, Result<(), PortError>> {
        let state = self.state.lock().unwrap().clone().unwrap();
        Box::pin(async move {
            let running = state.running_exports().await.map_err(|error| PortError(error.to_string()))?;
            *self.running.lock().unwrap() = running;
            Ok(())
        })
    }

    fn test<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Option<Result<TestReport, TestError>>> {
        let wrong = TestError::Encode("403: the key is wrong".to_owned());
        Box::pin(async move { (id == "datadog_logs").then_some(Err(wrong)) })
    }

    fn replay<'a>(
        &'a self,
        id: &'a str,
        selection: Selection,
    ) -> BoxFuture<'a, Result<ReplayReport, ReplayError>> {
        let known = id == "datadog_logs";
        if known {
            self.replayed.lock().unwrap().push((id.to_owned(), selection));
        }
        Box::pin(async move {
            if !known {
                return Err(ReplayError::Unknown(id.to_owned()));
            }
            Ok(ReplayReport { delivered: 1, ..ReplayReport::default() })
        })
    }
}

/// One open ticket that can be decided once, with content.
pub(crate) struct Reviews(Mutex<Ticket>);

impl Default for Reviews {
    fn default() -> Self {
        let case: escalation::Case = serde_json::from_value(json!({
            "policy_id": "p", "policy_revision": 1, "project_id": "project", "policy_user": null, "key_id": "key_1",
            "policy_target": "t", "model": "m", "stage": "input", "reason_code": "ESCALATE",
            "triggered_categories": [], "denylist_hits": ["napalm"], "redactions": {}, "data_classification": null,
            "request_id": "r", "event_id": Uuid::nil(), "terms": {}, "escalation_path": null,
        }))
        .unwrap();
        let mut ticket = Ticket::open(Uuid::nil(), escalation::Fingerprint([0; 32]), case, 0);
        (ticket.number, ticket.has_content) = (7, true);
        Self(Mutex::new(ticket))
    }
}

impl Escalations for Reviews {
    fn list(&self, filter: TicketFilter) -> BoxFuture<'_, Result<Vec<Ticket>, PortError>> {
        let ticket = self.0.lock().unwrap().clone();
        let fits = filter.state.is_none_or(|state| state == ticket.state)
            && filter.policy_id.is_none_or(|id| id == ticket.case.policy_id)
            && filter.before.is_none_or(|before| ticket.number < before);
        Box::pin(async move { Ok(fits.then_some(ticket).into_iter().collect()) })
    }

    fn find(&self, id: Uuid, with_content: bool) -> BoxFuture<'_, Result<Option<WithContent>, PortError>> {
        let ticket = self.0.lock().unwrap().clone();
        let content = with_content.then(|| br#"[{"role":"user","content":"napalm"}]"#.to_vec());
        Box::pin(async move { Ok((id == ticket.id).then_some((ticket, content))) })
    }

    fn decide<'a>(
        &'a self,
        id: Uuid,
        verdict: Verdict,
        actor: &'a str,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<Ticket, DecideError>> {
        let mut ticket = self.0.lock().unwrap();
        let ruling = Ruling { verdict, actor: actor.to_owned(), reason: reason.to_owned(), at_ms: 1 };
        let result = match id == ticket.id {
            true => ticket.decide(&ruling).map_err(|state| DecideError::Ended { id, state }),
            false => Err(DecideError::Unknown(id)),
        };
        if let Ok(decided) = &result {
            *ticket = decided.clone();
        }
        Box::pin(async move { result })
    }
}

struct Bench {
    control: Control,
    log: Arc<Log>,
    destinations: Arc<Destinations>,
}

fn token(name: &str, role: Role) -> AdminToken {
    AdminToken { name: name.to_owned(), role, token: Secret::new(format!("{name}-token"), "test").unwrap() }
}

async fn bench() -> Bench {
    let state = state(&Arc::new(Memory::default()), Declared::default()).await;
    let log = Arc::new(Log::default());
    let destinations = Arc::new(Destinations::default());
    let tokens = vec![
        token("root", Role::Admin),
        token("editor", Role::Editor),
        token("reviewer", Role::Reviewer),
        token("auditor", Role::Auditor),
    ];
    let ports = Ports {
        evidence: Arc::clone(&log) as _,
        exports: Arc::clone(&destinations) as _,
        escalations: Arc::new(Reviews::default()),
        state: Arc::clone(&state),
        log: Arc::new(Records::default()),
    };
    let control = Control::new(tokens, ports, Bytes::from_static(b"{}"));
    Bench { control, log, destinations }
}

impl Bench {
    async fn call(&self, token: Option<&str>, line: &str, body: &str) -> (StatusCode, HeaderMap, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(format!("{PREFIX}{path}"));
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let request = request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let (head, body) = self.control.handle(request).await.into_parts();
        (head.status, head.headers, serde_json::from_slice(&body).unwrap())
    }

    async fn as_root(&self, line: &str, body: &str) -> (StatusCode, Value) {
        let (status, _, body) = self.call(Some("Bearer root-token"), line, body).await;
        (status, body)
    }

    fn asked(&self) -> EventFilter {
        self.log.asked.lock().unwrap().clone().unwrap()
    }
}

#[tokio::test]
async fn nothing_is_answered_without_a_known_token() {
    let bench = bench().await;
    for token in [
        None,
        Some("Bearer"),
        Some("Bearer "),
        Some("Basic root-token"),
        Some("Bearer root-toke"),
        Some("Bearer root-token2"),
        Some("root-token"),
    ] {
        for line in ["GET exports", "GET no/such/route", "DELETE audit"] {
            let (status, headers, body) = bench.call(token, line, "").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{token:?} {line}");
            assert_eq!(headers["www-authenticate"], "Bearer");
            assert_eq!(headers["content-type"], "application/json");
            assert_eq!(body["error"]["type"], "authentication_error");
            assert_eq!(body["error"]["code"], "invalid_admin_token");
        }
    }
    assert_eq!(bench.call(Some("bearer  root-token "), "GET exports", "").await.0, StatusCode::OK);
}

/// A path of the route with something in the place of each `{name}`.
fn line(route: &crate::api::Route) -> String {
    let segments = route.path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
    format!("{} {}", route.method, segments.collect::<Vec<_>>().join("/"))
}

#[tokio::test]
async fn every_role_may_use_the_routes_of_its_column_and_no_other() {
    let bench = bench().await;
    for route in ROUTES {
        for (name, role) in [
            ("root", Role::Admin),
            ("editor", Role::Editor),
            ("reviewer", Role::Reviewer),
            ("auditor", Role::Auditor),
        ] {
            // By hand, so that the table is checked against something.
            let expected = match (route.access, role) {
                (Access::Read, _)
                | (Access::Edit, Role::Admin | Role::Editor)
                | (Access::Review, Role::Admin | Role::Reviewer) => true,
                (Access::Edit, Role::Reviewer | Role::Auditor)
                | (Access::Review, Role::Editor | Role::Auditor) => false,
            };
            let (status, _, body) = bench.call(Some(&format!("Bearer {name}-token")), &line(route), "").await;
            assert_eq!(status != StatusCode::FORBIDDEN, expected, "{name} {} {body}", line(route));
            if !expected {
                assert_eq!(body["error"]["type"], "permission_error");
                assert!(body["error"]["message"].as_str().unwrap().contains(&format!("`{name}`")), "{body}");
            }
        }
        let reads = route.method == http::Method::GET;
        assert!(!reads || route.access == Access::Read, "{}: reading is for every role", line(route));
        assert!(reads || route.access != Access::Read, "{}: an auditor reads only", line(route));
    }
}

#[tokio::test]
async fn the_description_is_for_anybody_and_holds_every_route() {
    let bench = bench().await;
    let request = Request::get(DESCRIPTION).body(Bytes::new()).unwrap();
    let answer = bench.control.handle(request).await;
    assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::OK, &b"{}"[..]));
    let data =
        openapi::DataPath { method: "get", path: "/v1/models/{id}", summary: "One model.", keyed: true };
    let document = openapi::document(&[data], "1.2.3");
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["paths"]["/v1/models/{id}"]["get"]["parameters"][0]["name"], "id");
    for route in ROUTES {
        let method = route.method.as_str().to_lowercase();
        let operation = &document["paths"][format!("{PREFIX}{}", route.path)][&method];
        assert_eq!(operation["summary"], route.summary, "{}", line(route));
        assert_eq!(operation["requestBody"].is_object(), route.body.is_some(), "{}", line(route));
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for (at, _) in text.match_indices("\"#/") {
        let pointer: String = text[at + 2..].chars().take_while(|c| *c != '"').collect();
        assert!(document.pointer(&pointer).is_some(), "{pointer}");
    }
}

#[tokio::test]
async fn other_tokens_come_into_force_at_once() {
    let bench = bench().await;
    bench.control.set_tokens(vec![token("new", Role::Auditor)]);
    assert_eq!(bench.call(Some("Bearer root-token"), "GET exports", "").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.call(Some("Bearer new-token"), "GET exports", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn destinations_and_their_status_are_shown() {
    let bench = bench().await;
    let (_, list) = bench.as_root("GET exports", "").await;
    assert_eq!(list["exports"][0]["id"], "datadog_logs");
    assert_eq!(list["exports"][0]["endpoint"], "https://intake.example/api/v2/logs");
    let (status, body) = bench.as_root("GET exports/datadog_logs/status", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        body.to_string(),
        json!({"state": "held", "accepted": 10, "delivered": 7, "pending": 2, "dead": 1, "skipped": 4, "lag_seconds": 1.5,
            "last_error": "403: the key is wrong"})
        .to_string()
    );
    let (status, body) = bench.as_root("GET exports/other/status", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["error"]["message"], "there is no destination `other`; there is `datadog_logs`");
}

#[tokio::test]
async fn a_test_that_fails_is_an_answer() {
    let bench = bench().await;
    let (status, body) = bench.as_root("POST exports/datadog_logs/test", "").await;
    assert_eq!(status, StatusCode::OK);
    let error = "the test event could not be encoded: 403: the key is wrong";
    assert_eq!(body, json!({"ok": false, "error": error}));
    assert_eq!(bench.as_root("POST exports/other/test", "").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn usage_is_answered_as_json_and_as_csv() {
    let bench = bench().await;
    let (status, body) = bench.as_root("GET usage?group_by=user&from=2026-01-16", "").await;
    assert_eq!(status, StatusCode::OK);
    let next = body["next"].as_str().unwrap().to_owned();
    assert_eq!(
        body["rows"].to_string(),
        json!([
            {"user": null, "requests": 1, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 30,
                "cost_usd": 0.00015},
            {"user": "a,b", "requests": 2, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 30,
                "cost_usd": 0.00015},
        ])
        .to_string()
    );
    assert_eq!((&body["from"], &body["to"]), (&json!("2026-01-16"), &json!(null)));
    let line = format!("GET usage?group_by=user&cursor={next}");
    assert_eq!(bench.as_root(&line, "").await.0, StatusCode::OK);
    let request = Request::get(format!("{PREFIX}usage?group_by=user"))
        .header("authorization", "Bearer auditor-token")
        .header("accept", "text/csv")
        .body(Bytes::new());
    let answer = bench.control.handle(request.unwrap()).await;
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
    assert_eq!(answer.headers()["x-next-cursor"], next);
    let rows = "user,requests,prompt_tokens,completion_tokens,total_tokens,cost_usd\r\n\
        ,1,0,0,30,0.00015\r\n\"a,b\",2,0,0,30,0.00015\r\n";
    assert_eq!(answer.body().as_ref(), rows.as_bytes());
    let (status, body) = bench.as_root("GET usage?group_by=colour", "").await;
    assert_eq!((status, body["error"]["code"].as_str()), (StatusCode::BAD_REQUEST, Some("invalid_request")));
}

#[tokio::test]
async fn a_replay_says_exactly_what_to_send() {
    let bench = bench().await;
    for (body, expected) in [
        (r#"{"dead": true}"#, Selection::Dead),
        (r#"{"from": 3, "to": 3}"#, Selection::Range { from: 3, to: 3 }),
        (r#"{"from": 1, "to": 9, "dead": false}"#, Selection::Range { from: 1, to: 9 }),
    ] {
        let (status, answer) = bench.as_root("POST exports/datadog_logs/replay", body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["delivered"], 1);
        let last = bench.destinations.replayed.lock().unwrap().pop().unwrap();
        assert_eq!(last, ("datadog_logs".to_owned(), expected));
    }
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"dead": false}"#,
        r#"{"from": 1}"#,
        r#"{"from": 2, "to": 1}"#,
        r#"{"from": 0, "to": 1}"#,
        r#"{"from": 1, "to": 2, "dead": true}"#,
        r#"{"all": true}"#,
        r#"{"from": "1", "to": 2}"#,
    ] {
        let (status, body) = bench.as_root("POST exports/datadog_logs/replay", bad).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{bad}");
    }
    assert!(bench.destinations.replayed.lock().unwrap().is_empty());
    assert_eq!(bench.as_root("POST exports/other/replay", r#"{"dead":true}"#).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn filters_are_handed_on() {
    let bench = bench().await;
    let query = "GET audit?policy_id=a%2Fb&project_id=p&policy_user=u+v&decision=refuse&event_type=quota\
        &event_id=01890a5d-ac96-774b-bcce-b302099a8057&request_id=r&from=2026-01-16T18:22:11Z\
        &to=2026-01-16T20:22:11%2B01:00&limit=1000&cursor=42";
    assert_eq!(bench.as_root(query, "").await.0, StatusCode::OK);
    let expected = EventFilter {
        policy_id: Some("a/b".to_owned()),
        project_id: Some("p".to_owned()),
        policy_user: Some("u v".to_owned()),
        decision: Some(policy::Decision::Refuse),
        event_types: vec![EventType::Quota],
        event_id: Some("01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()),
        request_id: Some("r".to_owned()),
        from_ms: Some(1_768_587_731_000),
        to_ms: Some(1_768_591_331_000),
        before_seq: Some(42),
        limit: 1000,
    };
    assert_eq!(bench.asked(), expected);
}

#[tokio::test]
async fn history_is_of_policies_only_and_audit_of_everything() {
    let bench = bench().await;
    bench.as_root("GET history", "").await;
    assert_eq!(bench.asked().event_types, routes::history::HISTORY);
    bench.as_root("GET audit", "").await;
    assert_eq!(bench.asked().event_types, []);
    assert_eq!(bench.asked().limit, 100);
    bench.as_root("GET history?event_type=revision", "").await;
    assert_eq!(bench.asked().event_types, [EventType::Revision]);
    let (status, body) = bench.as_root("GET history?event_type=heartbeat", "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        body["error"]["message"],
        "`event_type` must be one of enforcement, simulation, revision, rollback"
    );
}

#[tokio::test]
async fn pages_lead_from_the_newest_to_the_oldest() {
    let bench = bench().await;
    let mut query = "GET audit?limit=2".to_owned();
    let mut sizes = Vec::new();
    loop {
        let (_, body) = bench.as_root(&query, "").await;
        sizes.push(body["entries"].as_array().unwrap().len());
        assert_eq!(body["entries"][0]["event_type"], "heartbeat");
        match body["next"].as_str() {
            Some(next) => query = format!("GET audit?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
}

#[tokio::test]
async fn checkpoints_are_listed_newest_first_by_pages() {
    let bench = bench().await;
    let (status, body) = bench.as_root("GET audit/checkpoints?limit=2", "").await;
    assert_eq!((status, &body["next"]), (StatusCode::OK, &json!("20")));
    let sizes: Vec<_> = body["entries"].as_array().unwrap().iter().map(|one| one["size"].clone()).collect();
    assert_eq!(sizes, [30, 20]);
    let (_, body) = bench.as_root("GET audit/checkpoints?limit=2&cursor=20", "").await;
    assert_eq!((&body["entries"][0]["size"], &body["next"]), (&json!(10), &Value::Null));
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=-1", "size=3"] {
        let (status, body) = bench.as_root(&format!("GET audit/checkpoints?{query}"), "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {body}");
    }
}

#[tokio::test]
async fn filters_that_cannot_be_read_are_named() {
    let bench = bench().await;
    for (query, name) in [
        ("decision=maybe", "decision"),
        ("event_type=all", "event_type"),
        ("event_id=1", "event_id"),
        ("from=yesterday", "from"),
        ("to=1", "to"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("user=x", "user"),
    ] {
        let (status, body) = bench.as_root(&format!("GET audit?{query}"), "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert!(body["error"]["message"].as_str().unwrap().contains(&format!("`{name}`")), "{body}");
    }
}

#[tokio::test]
async fn a_log_that_does_not_answer_is_unavailable() {
    let log = Arc::new(Log { broken: true, ..Log::default() });
    let ports = Ports {
        evidence: log,
        exports: Arc::new(Destinations::default()),
        escalations: Arc::new(Reviews::default()),
        state: state(&Arc::new(Memory::default()), Declared::default()).await,
        log: Arc::new(Records::default()),
    };
    let control = Control::new(vec![token("root", Role::Admin)], ports, Bytes::new());
    let bench = Bench { control, ..bench().await };
    assert_eq!(bench.as_root("GET audit", "").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn other_routes_and_methods_are_refused_and_say_what_there_is() {
    let bench = bench().await;
    for line in
        ["GET ", "GET nothing", "POST exports/%zz/test", "GET exports/a/b/c", "GET exports/datadog_logs/x"]
    {
        let (status, body) = bench.as_root(line, "").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{line}");
        assert!(body["error"]["message"].as_str().unwrap().contains("GET exports/{id}/status"), "{body}");
    }
    for (line, allowed) in [
        ("DELETE exports", "POST, GET"),
        ("DELETE audit", "GET"),
        ("PUT history", "GET"),
        ("GET exports/datadog_logs/test", "POST"),
        ("PATCH exports/datadog_logs/replay", "POST"),
    ] {
        let (status, headers, _) = bench.call(Some("Bearer root-token"), line, "").await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{line}");
        assert_eq!(headers["allow"], allowed);
    }
}

#[tokio::test]
async fn a_review_is_listed_read_and_decided_once_with_a_reason() {
    let bench = bench().await;
    let id = Uuid::nil();
    let (_, page) = bench.as_root("GET escalations?state=open&policy_id=p&limit=1", "").await;
    assert_eq!(page["entries"][0]["id"], json!(id));
    assert_eq!(page["entries"][0]["denylist_hits"], json!(["napalm"]));
    assert_eq!(page["next"], "7");
    let (_, page) = bench.as_root("GET escalations?cursor=7", "").await;
    assert_eq!(page, json!({"entries": [], "next": null}));
    for body in ["", "{}", "{\"reason\": \" \"}", "{\"reason\": \"x\", \"state\": \"open\"}"] {
        let (status, body) = bench.as_root(&format!("POST escalations/{id}/approve"), body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
    let line = format!("POST escalations/{id}/approve");
    let (status, _, body) =
        bench.call(Some("Bearer reviewer-token"), &line, "{\"reason\": \" fine \"}").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!((&body["state"], &body["decided_by"]), (&json!("approved"), &json!("reviewer")));
    assert_eq!(body["decision_reason"], "fine");
    assert_eq!(body["granted_until"], "1970-01-01T01:00:00.001Z");
    assert_eq!(body["refused_until"], Value::Null);
    let (status, body) =
        bench.as_root(&format!("POST escalations/{id}/deny"), "{\"reason\": \"late\"}").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(body["error"]["current"]["state"], "approved");
    for line in [format!("GET escalations/{}", Uuid::max()), "GET escalations/x".to_owned()] {
        assert_eq!(bench.as_root(&line, "").await.0, StatusCode::NOT_FOUND);
    }
    for query in ["state=shut", "limit=0", "cursor=x", "user=x"] {
        let (status, _) = bench.as_root(&format!("GET escalations?{query}"), "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn what_is_kept_is_shown_to_admins_and_reviewers_only() {
    let bench = bench().await;
    let line = format!("GET escalations/{}", Uuid::nil());
    for (name, reads) in [("root", true), ("reviewer", true), ("editor", false), ("auditor", false)] {
        let (status, _, body) = bench.call(Some(&format!("Bearer {name}-token")), &line, "").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["content_retained"], true);
        assert_eq!(body["messages"][0]["content"] == "napalm", reads, "{name} {body}");
        assert_eq!(body.get("messages").is_some(), reads, "{name}");
    }
}

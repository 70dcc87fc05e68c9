//! Sums of usage: they move with the closing records and never without them, and are what the events add up to.

use std::collections::BTreeMap;

use audit::event::{AuditEvent, EventType, Usage};
use audit::log::{AuditLog, Record};
use audit::usage::{Dimension, Spent, Sums, UsageQuery, UsageRow, after, date_text, parse_date};
use proptest::prelude::*;
use store::{Reader, Store};

use crate::events::{Request, crash, open, read_all, request, serve};

fn query(group_by: &[Dimension]) -> UsageQuery {
    UsageQuery { group_by: group_by.to_vec(), limit: 10_000, ..UsageQuery::default() }
}

/// The whole answer of a query, by pages of this many rows.
fn paged(reader: &Reader, query: &UsageQuery, limit: usize) -> Vec<UsageRow> {
    let mut query = UsageQuery { limit, ..query.clone() };
    let mut rows = Vec::new();
    loop {
        let page = reader.usage(&query).unwrap();
        assert!(page.rows.len() <= limit);
        rows.extend(page.rows.iter().cloned());
        let Some(next) = page.next(&query.group_by) else { return rows };
        query.after = Some(after(&next, &query.group_by).unwrap());
    }
}

fn whole(reader: &Reader) -> Sums {
    reader.usage(&query(&[])).unwrap().rows[0].sums
}

fn used(tokens: u64) -> Option<Usage> {
    let (prompt_tokens, completion_tokens) = (tokens / 3, tokens - tokens / 3);
    Some(Usage {
        prompt_tokens,
        completion_tokens,
        total_tokens: tokens,
        cost_usd: tokens as f64 * 5.0 / 1e6,
    })
}

async fn closed(store: &Store, mut request: Request) {
    store.append(request.decision()).unwrap().await.unwrap();
    store.append(request.closing()).unwrap().await.unwrap();
}

#[tokio::test]
async fn a_closing_record_raises_them_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    assert_eq!(whole(&store.reader().unwrap()), Sums::default());
    let mut call = request("ann");
    call.event.usage = used(30);
    store.append(call.decision()).unwrap().await.unwrap();
    assert_eq!(whole(&store.reader().unwrap()), Sums::default(), "a decision is not yet a call");
    // A shadow's event tells of the same call.
    let shadow = AuditEvent { event_id: uuid::Uuid::now_v7(), decision_hash: None, ..call.event.clone() };
    store.append_all(call.closing(), vec![Record::event(&shadow)]).unwrap().await.unwrap();
    for other in [EventType::Quota, EventType::Error, EventType::Simulation] {
        let mut other_event = request("ann").event;
        other_event.event_type = other;
        store.append(Record::event(&other_event)).unwrap().await.unwrap();
    }
    let expected = Sums {
        requests: 1,
        prompt_tokens: 10,
        completion_tokens: 20,
        total_tokens: 30,
        cost_pico_usd: 150_000_000,
    };
    assert_eq!(whole(&store.reader().unwrap()), expected);
    store.close().await.unwrap();
    assert_eq!(whole(&open(&path).reader().unwrap()), expected);
}

#[tokio::test]
async fn an_interrupted_call_counts_once_and_without_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let store = open(&path);
    let mut call = request("ann");
    store.append(call.decision()).unwrap().await.unwrap();
    call.event.usage = used(30);
    store.append(call.decision()).unwrap().await.unwrap();
    let left = dir.path().join("left.db");
    crash(&path, &left);
    for _ in 0..2 {
        let store = open(&left);
        assert_eq!(whole(&store.reader().unwrap()), Sums { requests: 1, ..Sums::default() });
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn retention_leaves_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("gateway.db"));
    for _ in 0..5 {
        serve(&store, "ann").await;
    }
    assert_eq!(store.retain(0, &[]).await.unwrap().events, 4);
    assert_eq!(whole(&store.reader().unwrap()).requests, 5);
}

#[tokio::test]
async fn absurd_counts_do_not_break_the_sums() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("gateway.db"));
    for _ in 0..4 {
        let mut call = request("ann");
        let (most, cost_usd) = (u64::MAX, f64::MAX);
        call.event.usage =
            Some(Usage { prompt_tokens: most, completion_tokens: most, total_tokens: most, cost_usd });
        closed(&store, call).await;
    }
    let sums = whole(&store.reader().unwrap());
    assert_eq!(sums.requests, 4);
    assert!(sums.total_tokens >= i64::MAX as u64 / 2 && sums.cost_usd() > 1e6, "{sums:?}");
}

/// A call as the model has it.
#[derive(Clone, Debug)]
struct Call {
    day: i32,
    group: [Option<String>; 5],
    tokens: Option<u64>,
}

/// In the order of [`Dimension::ALL`], but for the day.
fn call() -> impl Strategy<Value = Call> {
    let name = |names: &'static [&'static str]| {
        prop::option::weighted(0.8, prop::sample::select(names)).prop_map(|name| name.map(str::to_owned))
    };
    let group = (
        name(&["alpha", "beta"]),
        name(&["ann", "ben", "", "Ä", "o'neill"]),
        name(&["key_1", "key_2"]),
        name(&["small", "large", "%"]),
        name(&["strict", "loose"]),
    );
    let tokens = prop::option::of(0_u64..5000);
    (20_000_i32..20_004, group, tokens).prop_map(|(day, group, tokens)| {
        let (project, user, key, model, policy) = group;
        Call { day, group: [project, user, key, model, policy], tokens }
    })
}

fn request_of(call: &Call) -> Request {
    let mut made = request("");
    let [project, user, key, model, policy] = call.group.clone();
    made.event.created_at = format!("{}T23:59:59.999Z", date_text(call.day));
    made.event.project_id = project;
    made.event.policy_user = user;
    made.event.key_id = key;
    made.event.model = model;
    made.event.policy_id = policy;
    made.event.usage = call.tokens.and_then(used);
    made
}

/// The same sums, by hand and from single calls.
fn by_hand(calls: &[Spent], query: &UsageQuery) -> Vec<UsageRow> {
    let mut sums: BTreeMap<Vec<Option<String>>, Sums> = BTreeMap::new();
    for call in calls {
        let day = call.day.unwrap();
        let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let fits = query.from_day.is_none_or(|from| from <= day)
            && query.to_day.is_none_or(|to| day < to)
            && same(&query.project_id, &call.project_id)
            && same(&query.policy_user, &call.policy_user)
            && same(&query.key_id, &call.key_id)
            && same(&query.model, &call.model)
            && same(&query.policy_id, &call.policy_id);
        if fits {
            let value = |dimension: &Dimension| match dimension {
                Dimension::Project => call.project_id.clone(),
                Dimension::User => call.policy_user.clone(),
                Dimension::Key => call.key_id.clone(),
                Dimension::Model => call.model.clone(),
                Dimension::Policy => call.policy_id.clone(),
                Dimension::Day => Some(date_text(day)),
            };
            sums.entry(query.group_by.iter().map(value).collect()).or_default().add(&call.sums);
        }
    }
    if query.group_by.is_empty() {
        sums.entry(Vec::new()).or_default();
    }
    sums.into_iter().map(|(group, sums)| UsageRow { group, sums }).collect()
}

fn any_query() -> impl Strategy<Value = UsageQuery> {
    let group_by = prop::sample::subsequence(Dimension::ALL.to_vec(), 0..=6).prop_shuffle();
    let days = (prop::option::of(19_999_i32..20_005), prop::option::of(19_999_i32..20_005));
    (group_by, days, prop::option::weighted(0.6, (0..5_usize, call()))).prop_map(
        |(group_by, days, filter)| {
            let mut query = UsageQuery { from_day: days.0, to_day: days.1, ..query(&group_by) };
            if let Some((at, call)) = filter {
                let [project, user, key, model, policy] = call.group;
                match at {
                    0 => query.project_id = project,
                    1 => query.policy_user = user,
                    2 => query.key_id = key,
                    3 => query.model = model,
                    _ => query.policy_id = policy,
                }
            }
            query
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// However calls share commits, with a crash in between: what is kept is what the log adds up to.
    #[test]
    fn they_are_what_the_log_adds_up_to(
        bursts in prop::collection::vec((prop::collection::vec(call(), 1..12), any::<bool>()), 1..6),
        queries in prop::collection::vec(any_query(), 1..12),
        limit in 1_usize..7,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut path = dir.path().join("gateway.db");
            let mut store = open(&path);
            let mut requests = 0;
            for (at, (calls, crashes)) in bursts.iter().enumerate() {
                let mut durable = Vec::new();
                for call in calls {
                    let mut made = request_of(call);
                    durable.push(store.append(made.decision()).unwrap());
                    durable.push(store.append(made.closing()).unwrap());
                }
                for durable in durable {
                    durable.await.unwrap();
                }
                requests += calls.len() as u64;
                if *crashes {
                    let mut open_call = request("open");
                    store.append(open_call.decision()).unwrap().await.unwrap();
                    requests += 1;
                    let left = dir.path().join(format!("left-{at}.db"));
                    crash(&path, &left);
                    path = left;
                    store = open(&path);
                }
            }
            let reader = store.reader().unwrap();
            let calls: Vec<Spent> = read_all(&reader)
                .iter()
                .filter_map(|event| Spent::parse(&event.text))
                .map(|spent| (*spent).clone())
                .collect();
            prop_assert_eq!(whole(&reader).requests, requests);
            for query in &queries {
                let expected = by_hand(&calls, query);
                prop_assert_eq!(&reader.usage(query).unwrap().rows, &expected);
                prop_assert_eq!(paged(&reader, query, limit), expected);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn days_are_those_of_the_calls() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("gateway.db"));
    for time in ["2026-01-16T23:59:59.999Z", "2026-01-17T00:00:00.000Z", "soon"] {
        let mut call = request("ann");
        call.event.created_at = time.to_owned();
        closed(&store, call).await;
    }
    let reader = store.reader().unwrap();
    let rows = reader.usage(&query(&[Dimension::Day])).unwrap().rows;
    let days: Vec<&str> = rows.iter().filter_map(|row| row.group[0].as_deref()).collect();
    assert_eq!(days[..2], ["2026-01-16", "2026-01-17"]);
    // The day of the commit stands in.
    assert!(parse_date(days[2]).unwrap() > parse_date("2026-01-17").unwrap());
    assert_eq!(rows.iter().map(|row| row.sums.requests).sum::<u64>(), 3);
}

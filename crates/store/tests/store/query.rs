//! What a query returns.

use audit::event::EventType;
use audit::log::{AuditLog, Record};
use policy::Decision;
use store::{Filter, Reader, Store};
use uuid::Uuid;

use crate::events::{open, request, seqs};

/// Minutes after the first event.
fn at(minute: i64) -> i64 {
    1_768_521_600_000 + minute * 60_000
}

/// 60 events, one a minute, ten between starts of the store: so that there are spans, and rows of several events.
async fn filled(path: &std::path::Path) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for round in 0..6 {
        let store = open(path);
        let mut last = None;
        for number in round * 10..round * 10 + 10 {
            let mut request = request(&format!("user-{}", number % 3));
            let event = &mut request.event;
            event.created_at = format!("{:.3}", jiff::Timestamp::from_millisecond(at(number)).unwrap());
            event.policy_id = Some(if number % 2 == 0 { "even" } else { "odd" }.to_owned());
            event.project_id = Some("a \"quoted\" project".to_owned());
            event.request_id = Some(format!("req-{number}"));
            if number % 5 == 0 {
                event.event_type = EventType::Quota;
                event.decision = None;
            } else if number % 7 == 0 {
                event.decision = Some(Decision::Refuse);
            }
            ids.push(request.id);
            last = Some(store.append(Record::event(&request.event)).unwrap());
        }
        last.unwrap().await.unwrap();
        store.close().await.unwrap();
    }
    ids
}

fn found(reader: &Reader, filter: &Filter) -> Vec<u64> {
    let events: Vec<_> = reader.query(filter).map(Result::unwrap).collect();
    seqs(&events)
}

#[tokio::test]
async fn filters_by_each_member_and_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let ids = filled(&path).await;
    let reader = Store::open_read_only(&path).unwrap();
    let all: Vec<u64> = (1..=60).collect();
    let of = |wanted: fn(u64) -> bool| all.iter().copied().filter(|seq| wanted(seq - 1)).collect::<Vec<_>>();
    let text = |text: &str| Some(text.to_owned());

    assert_eq!(found(&reader, &Filter::default()), all);
    let even = Filter { policy_id: text("even"), ..Filter::default() };
    assert_eq!(found(&reader, &even), of(|number| number % 2 == 0));
    let user = Filter { policy_user: text("user-2"), ..even };
    assert_eq!(found(&reader, &user), of(|number| number % 2 == 0 && number % 3 == 2));
    let project = Filter { project_id: text("a \"quoted\" project"), ..Filter::default() };
    assert_eq!(found(&reader, &project), all);
    let quota = Filter { event_type: Some(EventType::Quota), ..Filter::default() };
    assert_eq!(found(&reader, &quota), of(|number| number % 5 == 0));
    let refused = Filter { decision: Some(Decision::Refuse), ..Filter::default() };
    assert_eq!(found(&reader, &refused), of(|number| number % 7 == 0 && number % 5 != 0));
    let one = Filter { event_id: Some(ids[41]), ..Filter::default() };
    assert_eq!(found(&reader, &one), [42]);
    let one = Filter { request_id: text("req-7"), ..Filter::default() };
    assert_eq!(found(&reader, &one), [8]);
    let none = Filter { policy_user: text("user-2\",\"decision"), ..Filter::default() };
    assert_eq!(found(&reader, &none), [0; 0]);
}

#[tokio::test]
async fn every_time_range_and_page_is_right_in_both_orders() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    filled(&path).await;
    let reader = Store::open_read_only(&path).unwrap();
    for from in (-5..65).step_by(5) {
        for to in (from..70).step_by(7) {
            let mut wanted: Vec<u64> =
                (1..=60).filter(|seq| (from..to).contains(&(seq - 1))).map(i64::cast_unsigned).collect();
            let mut filter = Filter { from_ms: Some(at(from)), to_ms: Some(at(to)), ..Filter::default() };
            assert_eq!(found(&reader, &filter), wanted, "{from}..{to}");
            filter.newest_first = true;
            wanted.reverse();
            assert_eq!(found(&reader, &filter), wanted, "{from}..{to}, newest first");
        }
    }
    for newest_first in [false, true] {
        let mut filter = Filter { limit: Some(7), newest_first, ..Filter::default() };
        let mut pages = Vec::new();
        loop {
            let page = found(&reader, &filter);
            assert!(page.len() <= 7);
            let Some(last) = page.last() else { break };
            filter.after_seq = Some(*last);
            pages.extend(page);
        }
        let mut wanted: Vec<u64> = (1..=60).collect();
        if newest_first {
            wanted.reverse();
        }
        assert_eq!(pages, wanted);
    }
    assert_eq!(seqs(&reader.events_from(58).map(Result::unwrap).collect::<Vec<_>>()), [58, 59, 60]);
    assert_eq!(reader.events_from(61).count(), 0);
    assert_eq!(reader.events_from(u64::MAX).count(), 0);
}

#[tokio::test]
async fn a_query_does_not_keep_the_writer_from_going_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    filled(&path).await;
    let store = open(&path);
    let reader = store.reader().unwrap();
    let mut events = reader.query(&Filter::default());
    events.next().unwrap().unwrap();
    crate::events::serve(&store, "ann").await;
    // A read that was still open would keep the last checkpoint from emptying the log.
    store.close().await.unwrap();
    assert_eq!(std::fs::metadata(dir.path().join("gateway.db-wal")).unwrap().len(), 0);
    assert_eq!(events.count(), 60);
}

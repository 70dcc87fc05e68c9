//! The desired state: a change and its events are one commit.

use audit::event::{AuditEvent, ChangeInfo, EventType};
use audit::outbox::{Advance, DeadLetter, Outbox};
use registry::budget::BudgetConfig;
use registry::kept::{
    Change, Edit, KeptAnswer, PolicyState, Source, StateChange, StateStore, StoredExport, StoredKey,
    StoredProject, StoredRevision,
};
use registry::{Entitlements, KeyDigest, KeySecret, KeyedDigest, Project, ProjectStatus};
use uuid::Uuid;

use crate::events::{open, parse, serve};

const AT: &str = "2026-01-16T18:22:11.000Z";

fn revision(number: u64) -> Edit {
    Edit::AddRevision(StoredRevision {
        policy_id: "a".into(),
        number,
        digest: format!("d{number}"),
        digest_without_rollout: "w".into(),
        document: format!("{{\"v\":{number}}}"),
        created_at: AT.into(),
        author: "root".into(),
    })
}

fn policy(stable: Option<u64>, candidate: Option<u64>, newest: u64) -> Edit {
    let state = PolicyState {
        policy_id: "a".into(),
        stable,
        candidate,
        former_stable: None,
        allow_without_stable: stable.is_none(),
        source: Source::Api,
        created_at: AT.into(),
        updated_at: AT.into(),
        newest,
        newest_digest: format!("d{newest}"),
    };
    let change = StateChange {
        at: AT.into(),
        author: "root".into(),
        action: "REVISION_SAVED".into(),
        stable,
        candidate,
    };
    Edit::SetPolicy(state, change)
}

fn keyed(text: &str) -> KeyedDigest {
    KeySecret::new([1; 32]).keyed(&KeyDigest::of(text).unwrap())
}

fn key(id: &str, text: &str) -> Edit {
    Edit::AddKey(StoredKey {
        key_id: id.into(),
        project_id: "p".into(),
        digest: keyed(text),
        name: None,
        prefix: "ak_one".into(),
        created_at: AT.into(),
        expires_at_ms: Some(7),
        revoked_at: None,
    })
}

fn told() -> AuditEvent {
    let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Revision, AT.into());
    event.actor = Some("root".into());
    event.change =
        Some(ChangeInfo { subject: "policy a".into(), stable_after: Some(1), ..ChangeInfo::default() });
    event
}

fn change(edits: Vec<Edit>) -> Change {
    Change { edits, events: vec![told()] }
}

#[tokio::test]
async fn what_is_kept_is_read_back_after_a_restart_with_its_events_in_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let project = Project {
        id: "p".into(),
        name: "P".into(),
        description: String::new(),
        status: ProjectStatus::Disabled,
        policy_id: Some("a".into()),
        entitlements: Entitlements { models: vec!["small".into()], ..Entitlements::default() },
        plan: Some("free".into()),
        budget: BudgetConfig { usd: Some(12.5), ..BudgetConfig::default() }.build("budget").ok(),
    };
    assert!(project.budget.is_some());
    let project = StoredProject { project, created_at: AT.into(), updated_at: AT.into() };
    let before = {
        let store = open(&path);
        store.commit(change(vec![revision(1), policy(Some(1), None, 1)])).await.unwrap();
        serve(&store, "ann").await;
        store.commit(change(vec![revision(2), policy(Some(1), Some(2), 2)])).await.unwrap();
        store
            .commit(change(vec![Edit::SetProject(project), key("key_1", "ak_one"), key("key_2", "ak_two")]))
            .await
            .unwrap();
        let revoke = Edit::RevokeKey { key_id: "key_1".into(), at: AT.into() };
        store.commit(change(vec![revoke])).await.unwrap();
        let kept = store.load().await.unwrap();
        store.close().await.unwrap();
        kept
    };
    let store = open(&path);
    let kept = store.load().await.unwrap();
    assert_eq!(kept, before);
    let policy = &kept.policies["a"];
    assert_eq!((policy.stable, policy.candidate, policy.newest), (Some(1), Some(2), 2));
    assert_eq!(policy.newest_digest, "d2");
    assert_eq!(kept.keys["key_1"].revoked_at.as_deref(), Some(AT));
    assert_eq!(kept.keys["key_2"].digest, keyed("ak_two"));
    assert_eq!(kept.projects["p"].project.entitlements.models, ["small"]);
    let numbers = |revisions: Vec<StoredRevision>| revisions.iter().map(|one| one.number).collect::<Vec<_>>();
    assert_eq!(numbers(store.revisions("a", None).await.unwrap()), [1, 2]);
    assert_eq!(numbers(store.revisions("a", Some(vec![2])).await.unwrap()), [2]);
    assert!(store.revisions("a", Some(vec![9])).await.unwrap().is_empty());
    assert_eq!(store.changes("a").await.unwrap().len(), 2);
    let events = store.read_after(0, 100, 1 << 20).await.unwrap();
    let changes = events.iter().map(parse).filter(|event| event.change.is_some()).count();
    assert_eq!((events.len(), changes), (5, 4));
    assert_eq!(store.reader().unwrap().verify().unwrap().events, 5);
}

#[tokio::test]
async fn a_number_or_key_that_is_taken_changes_nothing_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("gateway.db"));
    store.commit(change(vec![revision(1), policy(Some(1), None, 1), key("key_1", "ak_one")])).await.unwrap();
    let kept = store.load().await.unwrap();
    for edits in [
        vec![revision(1)],
        vec![revision(3)],
        vec![policy(None, None, 1), revision(2), revision(2)],
        vec![revision(2), key("key_1", "ak_other")],
        vec![revision(2), key("key_2", "ak_one")],
    ] {
        let error = store.commit(change(edits.clone())).await.unwrap_err();
        assert!(error.0.contains("already"), "{error}");
        assert_eq!(store.load().await.unwrap(), kept, "{edits:?}");
    }
    assert_eq!(*store.head().borrow(), 1, "a change that was not made left no event");
    serve(&store, "ann").await;
    store.commit(change(vec![revision(2), policy(Some(2), None, 2)])).await.unwrap();
    assert_eq!(store.reader().unwrap().verify().unwrap().events, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_changes_that_want_the_same_number_one_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("gateway.db"));
    for number in 1..=20 {
        let one = store.commit(change(vec![revision(number), policy(Some(number), None, number)]));
        let other = store.commit(change(vec![revision(number), policy(Some(number), None, number)]));
        let (one, other) = tokio::join!(one, other);
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    }
    assert_eq!(store.load().await.unwrap().policies["a"].newest, 20);
    assert_eq!(*store.head().borrow(), 20);
}

fn export(id: &str, body: &str) -> StoredExport {
    StoredExport { id: id.into(), body: body.into(), created_at: AT.into(), updated_at: AT.into() }
}

#[tokio::test]
async fn a_destination_that_is_made_again_has_no_past() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    {
        let store = open(&path);
        store.commit(change(vec![Edit::AddExport(export("siem", "{}"))])).await.unwrap();
        assert_eq!(store.cursor("siem").await.unwrap().start, 1, "its own event is not its concern");
        serve(&store, "ann").await;
        serve(&store, "ben").await;
        let letter = DeadLetter { seq: 2, reason: "no".into(), text: "{}".into() };
        assert_eq!(
            store
                .advance("siem", Advance { position: 2, skipped: 0, dead: vec![letter] })
                .await
                .unwrap()
                .dead,
            1
        );
        store.commit(change(vec![Edit::SetExport(export("siem", "{\"a\":1}"))])).await.unwrap();
        assert_eq!(store.cursor("siem").await.unwrap().position, 2, "a change keeps its place");
        store.commit(change(vec![Edit::RemoveExport("siem".into())])).await.unwrap();
        assert!(store.load().await.unwrap().exports.is_empty());
        store.commit(change(vec![Edit::AddExport(export("siem", "{}"))])).await.unwrap();
        store.close().await.unwrap();
    }
    let store = open(&path);
    assert_eq!(store.load().await.unwrap().exports["siem"], export("siem", "{}"));
    let cursor = store.cursor("siem").await.unwrap();
    assert_eq!((cursor.start, cursor.position, cursor.dead), (6, 6, 0));
    assert!(store.dead_letters("siem", 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn uses_and_answers_are_kept_without_an_event() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.db");
    let quiet = |edits: Vec<Edit>| Change { edits, events: Vec::new() };
    let day = 24 * 3_600_000;
    let begun = KeptAnswer { id: "i".into(), request: "r".into(), created_ms: day, answer: None };
    let ended = KeptAnswer { answer: Some((200, b"{}".to_vec())), ..begun.clone() };
    {
        let store = open(&path);
        let secret = store.load().await.unwrap().key_secret;
        assert_ne!(secret, KeySecret::default());
        let uses = vec![("key_1".to_owned(), 7), ("key_2".to_owned(), 9)];
        store.commit(quiet(vec![Edit::UseKeys(uses)])).await.unwrap();
        store.commit(quiet(vec![Edit::UseKeys(vec![("key_1".to_owned(), 3)])])).await.unwrap();
        store.commit(quiet(vec![Edit::KeepAnswer(begun.clone())])).await.unwrap();
        assert_eq!(store.answer("i", 0).await.unwrap(), Some(begun));
        store.commit(quiet(vec![Edit::KeepAnswer(ended.clone())])).await.unwrap();
        let other = KeptAnswer { id: "j".into(), ..ended.clone() };
        store.commit(quiet(vec![Edit::KeepAnswer(other)])).await.unwrap();
        store.commit(quiet(vec![Edit::ForgetAnswer("j".into())])).await.unwrap();
        store.commit(change(vec![key("key_1", "ak_one")])).await.unwrap();
        store.commit(change(vec![Edit::ExpireKey { key_id: "key_1".into(), at_ms: 5 }])).await.unwrap();
        store.close().await.unwrap();
    }
    let store = open(&path);
    let kept = store.load().await.unwrap();
    assert_eq!((kept.uses["key_1"], kept.uses["key_2"], kept.keys["key_1"].expires_at_ms), (7, 9, Some(5)));
    assert_eq!(store.answer("i", day).await.unwrap(), Some(ended.clone()));
    assert_eq!(store.answer("i", day + 1).await.unwrap(), None, "it counts no more");
    assert_eq!(store.answer("j", 0).await.unwrap(), None);
    let late = KeptAnswer { id: "late".into(), created_ms: 2 * day + 1, ..ended };
    store.commit(quiet(vec![Edit::KeepAnswer(late)])).await.unwrap();
    assert_eq!(store.answer("i", 0).await.unwrap(), None, "rows of another day go");
    assert_eq!(*store.head().borrow(), 2, "two events, of the two changes of a key");
}

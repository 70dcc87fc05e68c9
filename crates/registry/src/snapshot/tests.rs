use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use policy::{PolicyDocument, Revision};
use serde_json::json;

use super::*;
use crate::pricing::Price;
use crate::project::ProjectStatus;
use crate::upstream::UpstreamKind;

fn policy(id: &str) -> PolicySet {
    let document =
        PolicyDocument::parse(&json!({ "policy_id": id, "rules": { "denylist": ["x"] } })).unwrap();
    PolicySet::stable(Arc::new(Revision::compile(document, 1).unwrap()))
}

fn upstream(name: &str, models: &[&str]) -> Upstream {
    Upstream {
        name: name.into(),
        kind: UpstreamKind::OpenAi,
        base_url: "http://127.0.0.1/v1".into(),
        api_key: None,
        models: strings(models),
        timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn project(id: &str, policy_id: Option<&str>, keys: &[&str]) -> DesiredProject {
    DesiredProject {
        project: Project {
            id: id.into(),
            name: id.into(),
            description: String::new(),
            status: ProjectStatus::Active,
            policy_id: policy_id.map(str::to_owned),
            entitlements: Entitlements::default(),
            plan: None,
            budget: None,
        },
        keys: keys.iter().map(|key| desired_key(key)).collect(),
    }
}

fn desired_key(key: &str) -> DesiredKey {
    DesiredKey {
        digest: KeyDigest::of(key).unwrap().into(),
        name: None,
        expires_at_ms: None,
        revoked: false,
        plan: None,
    }
}

#[test]
fn a_key_leads_to_its_project_and_policy() {
    let snapshot = Snapshot::build(Desired {
        policies: vec![policy("a"), policy("b")],
        projects: vec![project("one", Some("a"), &["ak_1", "ak_2"]), project("two", None, &["ak_3"])],
        ..Desired::default()
    })
    .unwrap();
    let key = snapshot.authenticate("ak_2", 0).unwrap();
    assert_eq!(key.project.id, "one");
    assert_eq!(key.id, KeyDigest::of("ak_2").unwrap().id());
    let policy_id = key.project.policy_id.as_deref().unwrap();
    assert_eq!(snapshot.policy(policy_id).unwrap().policy_id(), "a");
    assert_eq!(snapshot.project("two").unwrap().policy_id, None);
    assert!(snapshot.project("three").is_none());
    assert!(snapshot.policy("c").is_none());
}

#[test]
fn a_key_is_refused_for_its_own_reason() {
    let mut expiring = desired_key("ak_expiring");
    expiring.expires_at_ms = Some(1_000);
    let mut revoked = desired_key("ak_revoked");
    revoked.revoked = true;
    let mut one = project("one", None, &[]);
    one.keys = vec![expiring, revoked];
    let snapshot = Snapshot::build(Desired { projects: vec![one], ..Desired::default() }).unwrap();
    assert_eq!(snapshot.authenticate("sk-other", 0).unwrap_err(), KeyError::Malformed);
    assert_eq!(snapshot.authenticate("ak_unknown", 0).unwrap_err(), KeyError::Unknown);
    assert_eq!(snapshot.authenticate("ak_revoked", 0).unwrap_err(), KeyError::Revoked);
    assert!(snapshot.authenticate("ak_expiring", 999).is_ok());
    assert_eq!(snapshot.authenticate("ak_expiring", 1_000).unwrap_err(), KeyError::Expired);
}

#[test]
fn no_key_is_kept() {
    let desired = Desired { projects: vec![project("one", None, &["ak_hushhush"])], ..Desired::default() };
    let snapshot = Snapshot::build(desired).unwrap();
    assert!(!format!("{snapshot:?}").contains("hushhush"));
}

#[test]
fn the_first_upstream_that_serves_the_model_and_is_allowed_gets_it() {
    let desired = Desired {
        upstreams: vec![
            upstream("small", &["mini", "nano"]),
            upstream("all", &["*"]),
            upstream("late", &["mini"]),
        ],
        ..Desired::default()
    };
    let snapshot = Snapshot::build(desired).unwrap();
    let name = |model: &str, entitlements: &Entitlements| {
        snapshot.upstream_for(model, entitlements).map(|upstream| upstream.name.clone())
    };
    let everything = Entitlements::default();
    assert_eq!(name("mini", &everything).as_deref(), Some("small"));
    assert_eq!(name("other", &everything).as_deref(), Some("all"));
    let late_only = Entitlements { upstreams: strings(&["late"]), ..Entitlements::default() };
    assert_eq!(name("mini", &late_only).as_deref(), Some("late"));
    assert_eq!(name("other", &late_only), None);
    let nano_only = Entitlements { models: strings(&["nano"]), ..Entitlements::default() };
    assert_eq!(name("nano", &nano_only).as_deref(), Some("small"));
    assert_eq!(name("mini", &nano_only), None);
    assert_eq!(snapshot.upstreams().len(), 3);
}

#[test]
fn everything_that_is_wrong_is_reported_at_once_with_its_path() {
    let mut entitled = project("two", Some("nope"), &["ak_2", "ak_1"]);
    entitled.project.entitlements = Entitlements {
        policies: strings(&["a", "missing", "*"]),
        projects: strings(&["one", "missing"]),
        models: strings(&["any"]),
        upstreams: strings(&["missing"]),
    };
    let problems = Snapshot::build(Desired {
        upstreams: vec![upstream("main", &["*"]), upstream("main", &["*"])],
        policies: vec![policy("a"), policy("a")],
        projects: vec![project("one", Some("a"), &["ak_1"]), entitled, project("one", None, &[])],
        ..Desired::default()
    })
    .unwrap_err();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "policies",
            "upstreams[1].name",
            "projects[1].policy_id",
            "projects[1].entitlements.policies[1]",
            "projects[1].entitlements.projects[1]",
            "projects[1].entitlements.upstreams[0]",
            "projects[1].keys[1]",
            "projects[2].id",
        ]
    );
    assert_eq!(problems[2].message, "there is no policy `nope`: add its file to `policies`; there is `a`");
    assert!(problems.iter().all(|problem| !problem.message.contains("ak_")), "{problems:?}");
}

#[test]
fn the_snapshot_carries_the_prices() {
    let pricing = Pricing::new(Price::Total(1.0), HashMap::new());
    let snapshot = Snapshot::build(Desired { pricing, ..Desired::default() }).unwrap();
    assert!((snapshot.pricing().cost_usd("any", 0, 0, 1_000_000) - 1.0).abs() < 1e-12);
}

#[test]
fn a_key_is_on_its_own_plan_or_its_projects() {
    let plan = |priority| Plan { requests_per_minute: 10, tokens_per_minute: 0, priority };
    let plans = BTreeMap::from([("free".to_owned(), plan(1)), ("paid".to_owned(), plan(8))]);
    let mut free = project("one", None, &["ak_1", "ak_2"]);
    free.project.plan = Some("free".into());
    free.keys[1].plan = Some("paid".into());
    let projects = vec![free.clone(), project("two", None, &["ak_3"])];
    let snapshot = Snapshot::build(Desired { projects, plans: plans.clone(), ..Desired::default() }).unwrap();
    let above = |key: &str| {
        let key = snapshot.authenticate(key, 0).unwrap();
        (key.priority(), snapshot.priorities_above(key))
    };
    assert_eq!((above("ak_1"), above("ak_2"), above("ak_3")), ((1, 2), (8, 0), (5, 1)));
    free.keys[1].plan = Some("gold".into());
    free.project.plan = Some("silver".into());
    let problems =
        Snapshot::build(Desired { projects: vec![free], plans, ..Desired::default() }).unwrap_err();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["projects[0].plan", "projects[0].keys[1].plan"]);
}

//! What a call pays for its key and its limits with 100,000 keys and a million users known, and what these take of
//! memory: `cargo bench -p quota`.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;

use audit::event::QuotaScope;
use criterion::{Criterion, criterion_group, criterion_main};
use quota::{Claim, Ledger, Need, Reservation, Window, key_bucket, project_bucket, user_bucket};
use registry::{
    Desired, DesiredKey, DesiredProject, Entitlements, KeyDigest, Project, ProjectStatus, Snapshot,
};

const KEYS: usize = 100_000;
const USERS: usize = 1_000_000;
const NOW_S: i64 = 1_795_600_000;

fn key(at: usize) -> String {
    format!("ak_bench_{at:040}")
}

fn snapshot() -> Snapshot {
    let keys = (0..KEYS).map(|at| DesiredKey {
        digest: KeyDigest::of(&key(at)).unwrap().into(),
        name: None,
        expires_at_ms: None,
        revoked: false,
        plan: None,
    });
    let project = Project {
        id: "support-bot".to_owned(),
        name: String::new(),
        description: String::new(),
        status: ProjectStatus::Active,
        policy_id: None,
        entitlements: Entitlements::default(),
        plan: None,
        budget: None,
    };
    let projects = vec![DesiredProject { project, keys: keys.collect() }];
    Snapshot::build(Desired { projects, ..Desired::default() }).unwrap()
}

fn claims(policy_id: &str, user: &str, key_id: &str) -> Vec<Claim> {
    let claim =
        |scope, bucket, window| Claim { scope, bucket, window, requests_max: 1 << 40, tokens_max: 1 << 50 };
    vec![
        claim(QuotaScope::Key, key_bucket(key_id, Window::Minute), Window::Minute),
        claim(QuotaScope::User, user_bucket(policy_id, Some(user), key_id, Window::Daily), Window::Daily),
        claim(
            QuotaScope::Project,
            project_bucket(policy_id, "support-bot", Window::Monthly),
            Window::Monthly,
        ),
    ]
}

/// Resident memory in MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1))
        .map_or(0, |kib| kib.parse::<u64>().unwrap_or(0) / 1024)
}

fn reserve(criterion: &mut Criterion) {
    let before = resident_mib();
    let snapshot = snapshot();
    let ledger: Arc<Ledger> = Arc::default();
    for user in 0..USERS {
        let user = format!("user-{user}");
        let key_id = format!("key_{:012x}", user.len());
        Reservation::new(
            Arc::clone(&ledger) as _,
            claims("guardrails", &user, &key_id),
            Need::default(),
            NOW_S,
        )
        .unwrap()
        .settle(1, 100);
    }
    println!("{KEYS} keys and {USERS} users: {} MiB resident", resident_mib() - before);
    let presented: Vec<String> = (0..KEYS).map(key).collect();
    let mut at = 0_usize;
    criterion.bench_function("key, plan, user and project", |bencher| {
        bencher.iter(|| {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let known = snapshot.authenticate(presented.get(at % KEYS).unwrap(), 0).unwrap();
            let user = format!("user-{}", at % USERS);
            let need = Need { tokens_min: 10, tokens: 100 };
            let mut call = Reservation::new(
                Arc::clone(&ledger) as _,
                claims("guardrails", &user, &known.id),
                need,
                NOW_S,
            )
            .unwrap();
            call.settle(1, 80);
            black_box(call.charges())
        });
    });
}

criterion_group!(benches, reserve);
criterion_main!(benches);

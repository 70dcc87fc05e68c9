//! What the log costs per request (a decision that is waited for, and a closing record) at 64 requests in flight, with and
//! without an exporter reading along or a notary that signs checkpoints, and how fast it is verified. CPU is counted per thread: that of the writer and the
//! reader is the store's own, that of the others also makes the events. `cargo bench -p store [-- SECONDS [DIRECTORY]]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use audit::delivery::SystemClock;
use audit::event::{AuditEvent, EventType, LatencyMs, Outcome, RequestInfo, RolloutMode, Stage, Usage, hex};
use audit::log::{AuditLog, Record};
use audit::notary::{Notary, Signer};
use audit::note::SigningKey;
use audit::outbox::{Advance, Outbox};
use policy::Decision;
use store::{Store, StoreOptions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

const IN_FLIGHT: usize = 64;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let seconds = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(3.0);
    let parent = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(parent).unwrap();
    // One worker: the proxy's share is one core.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    println!("{:<34} {:>9} {:>9} {:>8} {:>26}", "", "requests", "commits", "p50/p99", "CPU ns per request");
    println!(
        "{:<34} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "", "/s", "/s", "µs", "writer", "reader", "others"
    );
    for (name, rate, exporter, users, notary) in [
        ("as fast as it goes", None, false, 1, false),
        ("as fast as it goes, read along", None, true, 1, false),
        ("as fast as it goes, notarised", None, false, 1, true),
        ("4,000 requests/s", Some(4000), false, 1, false),
        ("4,000 requests/s, notarised", Some(4000), false, 1, true),
        ("4,000 requests/s, usage not kept", Some(4000), false, 0, false),
        ("4,000 requests/s, 100,000 users", Some(4000), false, 100_000, false),
        ("4,000 requests/s, read along", Some(4000), true, 1, false),
        ("10,000 requests/s", Some(10_000), false, 1, false),
    ] {
        let path = dir.path().join("gateway.db");
        let store = Store::open(&path, StoreOptions { ballast_bytes: 0, ..StoreOptions::default() }).unwrap();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        if notary {
            let signer = Signer { key: SigningKey::generate("bench", &[1; 32]).unwrap().0, previous: None };
            let (outbox, trees) = (Arc::clone(&store) as _, Arc::clone(&store) as _);
            let notary = Notary::new(outbox, trees, Arc::new(SystemClock), Some(signer));
            tasks.spawn_on(notary.run(stop.clone()), runtime.handle());
        }
        let time = Duration::from_secs_f64(seconds);
        runtime.block_on(run(name, &store, time, rate, exporter, users));
        stop.cancel();
        tasks.close();
        runtime.block_on(tasks.wait());
        runtime.block_on(store.close()).unwrap();
        if name.starts_with("as fast") {
            let begun = Instant::now();
            let verified = store.reader().unwrap().verify().unwrap();
            let rate = (verified.events + verified.decisions) as f64 / begun.elapsed().as_secs_f64();
            println!("    verified: {rate:.0} records/s");
        }
        drop(store);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

/// `users` is how many there are; with none, usage is not kept.
async fn run(name: &str, store: &Arc<Store>, time: Duration, rate: Option<u64>, exporter: bool, users: u64) {
    let tasks = TaskTracker::new();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let waits = Arc::new(std::sync::Mutex::new(Vec::new()));
    let begun = Instant::now();
    let before = cpu();
    let due = Arc::new(AtomicU64::new(0));
    let calls = Arc::new(AtomicU64::new(0));
    for _ in 0..IN_FLIGHT {
        let (store, stop, done, waits, due) =
            (Arc::clone(store), Arc::clone(&stop), Arc::clone(&done), Arc::clone(&waits), Arc::clone(&due));
        let calls = Arc::clone(&calls);
        tasks.spawn(async move {
            let mut mine = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let mut from = Instant::now();
                if let Some(rate) = rate {
                    let number = due.fetch_add(1, Ordering::Relaxed);
                    from = begun + Duration::from_nanos(number * 1_000_000_000 / rate);
                    tokio::time::sleep_until(from.into()).await;
                    from = Instant::now();
                }
                let mut event = event();
                match users {
                    0 => event.event_type = EventType::Simulation,
                    1 => {}
                    // In no order.
                    _ => {
                        let call = calls.fetch_add(1, Ordering::Relaxed);
                        let user = call.wrapping_mul(0x9e37_79b9_7f4a_7c15) % users;
                        event.policy_user = Some(format!("user-{user}"));
                    }
                }
                let (decision, hash) = Record::decision(&event);
                event.decision_hash = Some(hex(&hash));
                store.append(decision).unwrap().await.unwrap();
                mine.push(u32::try_from(from.elapsed().as_micros()).unwrap_or(u32::MAX));
                if let Some(request) = &mut event.request {
                    request.http_status = Some(200);
                    request.outcome = Some(Outcome::Completed);
                    request.latency_ms = Some(LatencyMs { total: 3.25, upstream: 2.125, gateway: 1.125 });
                }
                event.usage = Some(Usage {
                    prompt_tokens: 120,
                    completion_tokens: 45,
                    total_tokens: 165,
                    cost_usd: 0.000825,
                });
                drop(store.append(Record::event(&event)).unwrap());
                done.fetch_add(1, Ordering::Relaxed);
            }
            waits.lock().unwrap().extend(mine);
        });
    }
    if exporter {
        let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
        tasks.spawn(async move {
            store.cursor("datadog").await.unwrap();
            let (mut after, mut bytes) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let events = store.read_after(after, 1000, 5 << 20).await.unwrap();
                bytes += events.iter().map(|event| event.text.len()).sum::<usize>();
                match events.last() {
                    Some(last) => {
                        after = last.seq;
                        store.advance("datadog", Advance::to(after)).await.unwrap();
                    }
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
            std::hint::black_box(bytes);
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    tasks.close();
    tasks.wait().await;
    let after = cpu();
    let elapsed = begun.elapsed().as_secs_f64();
    let requests = done.load(Ordering::Relaxed);
    let mut waits = std::mem::take(&mut *waits.lock().unwrap());
    waits.sort_unstable();
    let quantile = |part: f64| waits.get((waits.len() as f64 * part) as usize).copied().unwrap_or(0);
    let per_request = |thread: &str| {
        let nanos = |cpu: &BTreeMap<String, u64>| cpu.get(thread).copied().unwrap_or(0);
        (nanos(&after) - nanos(&before)) / requests.max(1)
    };
    println!(
        "{name:<34} {:>9.0} {:>9.0} {:>8} {:>8} {:>8} {:>8}",
        requests as f64 / elapsed,
        store.stats().commits as f64 / elapsed,
        format!("{}/{}", quantile(0.5), quantile(0.99)),
        per_request("store-writer"),
        per_request("store-reader"),
        per_request("others"),
    );
}

/// CPU time in nanoseconds, by thread.
fn cpu() -> BTreeMap<String, u64> {
    let mut by_name = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).unwrap();
        let name = if name.starts_with("store-") { name.trim().to_owned() } else { "others".to_owned() };
        let stat = std::fs::read_to_string(task.join("schedstat")).unwrap();
        let nanos: u64 = stat.split_whitespace().next().unwrap().parse().unwrap();
        *by_name.entry(name).or_default() += nanos;
    }
    by_name
}

/// About 1 KiB, as the gateway writes it.
fn event() -> AuditEvent {
    let created = format!("{:.3}", jiff::Timestamp::now());
    let mut event = AuditEvent::blank(Uuid::now_v7(), EventType::Enforcement, created);
    let text = |text: &str| Some(text.to_owned());
    event.policy_id = text("support-guardrails");
    event.decision = Some(Decision::Rewrite);
    event.effective_decision = Some(Decision::Rewrite);
    event.reason_code = text("REWRITE");
    event.policy_user = text("user-12345");
    event.project_id = text("support-bot");
    event.policy_target = text("support-bot");
    event.rollout_mode = Some(RolloutMode::Enforced);
    event.enforced = true;
    event.allowlist_hits = vec!["refund policy".to_owned()];
    event.denylist_hits = vec!["credential theft".to_owned()];
    event.model = text("abliterated-model");
    event.request_id = text("req_01j9zq4m5n6p7q8r9s0t1v2w3x");
    event.key_id = text("key_0123456789ab");
    event.policy_revision = Some(7);
    event.data_classification = text("confidential");
    event.stage = Some(Stage::Input);
    event.redactions.insert("email".to_owned(), 2);
    event.request = Some(RequestInfo {
        route: "/v1/chat/completions".to_owned(),
        stream: false,
        http_status: None,
        error_code: None,
        latency_ms: None,
        outcome: None,
    });
    event
}

//! What delivery costs per event: encoding alone, and with the compression of the body, in bodies of 800 events (what a
//! linger of 200 ms collects at 4,000 requests per second). `cargo bench -p audit`; throughput is in events.

use std::hint::black_box;
use std::sync::Arc;

use audit::delivery::{BodyBuilder, Push};
use audit::event::{
    AuditEvent, ChainedEvent, EventType, LatencyMs, Link, Outcome, RequestInfo, RolloutMode, Usage,
};
use audit::export::compress::Compression;
use audit::export::datadog_logs::{self, DatadogLogs, LogEncoder, RawDatadogLogs};
use audit::outbox::StoredEvent;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use policy::Decision;
use uuid::Uuid;

const EVENTS: u64 = 800;
/// 2026-01-16T18:22:12Z, a second after the events.
const NOW_MS: i64 = 1_768_587_732_000;

/// Events as a gateway under load writes them: everything that differs between requests differs here.
fn events() -> Vec<StoredEvent> {
    (1..=EVENTS).map(event).collect()
}

fn event(seq: u64) -> StoredEvent {
    // Spreads the bits of `seq`, so that ids and hashes compress as badly as real ones.
    let noise = |salt: u64| {
        let mixed = (seq ^ salt.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let hash = |salt: u64| (0..4).map(|part| format!("{:016x}", noise(salt * 4 + part))).collect::<String>();
    let refused = seq.is_multiple_of(10);
    let decision = if refused { Decision::Refuse } else { Decision::Allow };
    let ms = |salt: u64, most: u64| f64::from(u32::try_from(noise(salt) % most).unwrap_or(0)) / 1000.0;
    let id = Uuid::from_u64_pair(0x019b_c8a0_0000_7000 | (seq & 0xfff), noise(1));
    let event = AuditEvent {
        policy_id: Some("support-guardrails".into()),
        decision: Some(decision),
        effective_decision: Some(decision),
        reason_code: Some(if refused { "REFUSE" } else { "ALLOW" }.into()),
        policy_user: Some(format!("user-{}", noise(2) % 5000)),
        project_id: Some("support-bot".into()),
        policy_target: Some("support-bot".into()),
        rollout_mode: Some(RolloutMode::Enforced),
        enforced: true,
        denylist_hits: if refused { vec!["credential theft".into()] } else { Vec::new() },
        model: Some("gpt-4o-mini".into()),
        request_id: Some(Uuid::from_u64_pair(noise(3), noise(4)).to_string()),
        policy_revision: Some(3),
        data_classification: Some("confidential".into()),
        usage: Some(Usage {
            prompt_tokens: noise(5) % 2000,
            completion_tokens: noise(6) % 500,
            total_tokens: noise(7) % 2500,
            cost_usd: ms(8, 9000),
        }),
        request: Some(RequestInfo {
            route: "/v1/chat/completions".into(),
            stream: false,
            http_status: Some(200),
            error_code: None,
            latency_ms: Some(LatencyMs {
                total: ms(9, 900_000),
                upstream: ms(10, 900_000),
                gateway: ms(11, 900),
            }),
            outcome: Some(Outcome::Completed),
        }),
        decision_hash: Some(hash(12)),
        ..AuditEvent::blank(id, EventType::Enforcement, format!("2026-01-16T18:22:11.{:03}Z", seq % 1000))
    };
    let link = Link { chain: Uuid::from_u128(0x42), seq, prev_hash: hash(13), hash: hash(14) };
    let text = serde_json::to_vec(&ChainedEvent { event, link }).unwrap_or_default();
    StoredEvent { seq, text: text.into() }
}

fn config(compression: &str) -> Option<DatadogLogs> {
    let raw: RawDatadogLogs = serde_json::from_value(serde_json::json!({
        "destination": "datadog_logs", "site": "datadoghq.com", "api_key": "key", "compression": compression,
        "tags": ["env:prod", "team:platform"],
    }))
    .ok()?;
    raw.validate("").ok()
}

fn encode(criterion: &mut Criterion) {
    let events = events();
    let encoder = Arc::new(LogEncoder::new(
        "policy-gateway",
        "policy-gateway",
        &["env:prod".into(), "team:platform".into()],
    ));
    let mut group = criterion.benchmark_group("datadog_logs");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("encode", |bencher| {
        let mut log = Vec::with_capacity(4096);
        bencher.iter(|| {
            for event in &events {
                log.clear();
                assert!(encoder.encode(&event.text, NOW_MS, &mut log).is_ok());
                black_box(&log);
            }
        });
    });
    for compression in ["identity", "gzip", "zstd", "deflate"] {
        let Some(config) = config(compression) else { continue };
        let header = Compression::header(config.compression);
        let body = || -> Option<usize> {
            let mut body = datadog_logs::body(Arc::clone(&encoder), &config, NOW_MS).ok()?;
            for event in &events {
                assert_eq!(body.push(event), Push::Taken);
            }
            body.finish().ok().map(|encoded| encoded.body.len())
        };
        assert!(body().is_some(), "{header:?}");
        group.bench_function(format!("encode and {compression}"), |bencher| bencher.iter(body));
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);

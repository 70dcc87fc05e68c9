//! Commands that need no gateway and no store.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, run};

/// The contract's example, word for word.
const EXAMPLE: &str = r#"
listen: 127.0.0.1:8080              # data plane, management API and console
store: sqlite://data/gateway.db     # or postgres://…; `shared_counters: redis://…` when several gateways run
upstreams:
  - { name: main, kind: openai, base_url: https://api.openai.com/v1, api_key: $OPENAI_API_KEY, models: ["*"] }
policies: [policies/*.yaml]         # documents of section 2, reloaded on change and on SIGHUP
projects:
  - { id: support-bot, policy_id: support-guardrails, keys: [$SUPPORT_BOT_KEY] }
admin_tokens:
  - { name: root, role: admin, token: $ADMIN_TOKEN }
pricing: { default: { usd_per_million_tokens: 5.0 } }   # billed on total tokens; per model: input and output prices
moderation: { provider: embedded }  # or openai (base_url, api_key, model) | judge (upstream, model) | none
audit: { on_unavailable: refuse, retention_days: 400 }
exports:
  - { destination: datadog_logs, endpoint: "https://http-intake.logs.datadoghq.com/api/v2/logs", api_key: $DD_API_KEY,
      service: policy-gateway, ddsource: policy-gateway, tags: ["env:prod", "team:platform"] }
"#;

const SECRETS: [(&str, &str); 4] = [
    ("OPENAI_API_KEY", "sk-hush"),
    ("SUPPORT_BOT_KEY", "ak_hush"),
    ("ADMIN_TOKEN", "admin-hush"),
    ("DD_API_KEY", "dd-hush"),
];

fn folder(policy: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "gateway.yaml", EXAMPLE);
    write(folder.path(), "policies/support.yaml", policy);
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

const POLICY: &str = "policy_id: support-guardrails\nrules: {denylist: [credential theft]}\n";

#[tokio::test]
async fn the_contracts_example_is_good() {
    let folder = folder(POLICY);
    let args = ["check", "-c", "gateway.yaml"];
    let out = run(folder.path(), &SECRETS, &args).await.good();
    assert!(out.starts_with("gateway.yaml is good: 1 upstream, 1 policy, 1 project, 1 export\n"), "{out}");
    let by_environment = [&SECRETS[..], &[("POLICY_GATEWAY_CONFIG", "gateway.yaml")]].concat();
    run(folder.path(), &by_environment, &["check"]).await.good();
    assert!(!folder.path().join("data").exists(), "a check leaves nothing behind");
}

#[tokio::test]
async fn a_check_tells_what_each_policy_reaches_on_each_route() {
    let folder = folder(
        "policy_id: support-guardrails\nrules: {denylist: [credential theft], redact: true, unscannable: refuse}\n",
    );
    let out = run(folder.path(), &SECRETS, &["check", "-c", "gateway.yaml"]).await.good();
    let lines: Vec<String> =
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "policy support-guardrails on /v1/chat/completions, /policy/chat/completions, /policy/v1/chat/completions",
        "RULE REQUEST ANSWER STREAM REACH",
        "denylist judged as text: refuse judged as text: refuse judged as text: refuse 512 characters",
        "redaction judged as text: allow judged as text: allow judged as text: allow 512 characters",
        "unscannable held until whole: refuse held until whole: refuse held until whole: refuse",
        "nothing to judge goes through /v1/moderations, /v1/models, /v1/models/{id}, /healthz, /readyz, /metrics",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line} is not in\n{out}");
    }
    let out = run(folder.path(), &SECRETS, &["check", "-c", "gateway.yaml", "--json"]).await.good();
    let report: Value = serde_json::from_str(&out).unwrap();
    let coverage = report["coverage"].as_array().unwrap();
    for served in gateway::SERVED {
        let of_route: Vec<&Value> = coverage.iter().filter(|entry| entry["route"] == served.path).collect();
        let judged = if served.method == "POST" && served.path != "/v1/moderations" { 18 } else { 1 };
        assert_eq!(of_route.len(), judged, "{}", served.path);
    }
    let stream =
        coverage.iter().find(|entry| entry["stage"] == "output_stream" && entry["rule"] == "denylist");
    assert_eq!(stream.unwrap()["reach_characters"], 512);
}

#[tokio::test]
async fn what_is_missing_is_named_with_its_line_and_nothing_secret_shows() {
    let folder = folder("policy_id: support-guardrails\nrules: {}\ncolor: red\n");
    let known =
        [("ADMIN_TOKEN", "two hush-words"), ("DD_API_KEY", "dd-hush"), ("SUPPORT_BOT_KEY", "sk-hush")];
    let done = run(folder.path(), &known, &["check", "-c", "gateway.yaml"]).await;
    assert_eq!(done.out, "");
    let err = done.bad();
    let places: Vec<String> =
        err.lines().map(|line| line.splitn(4, ':').take(3).collect::<Vec<_>>().join(":")).collect();
    assert_eq!(
        places,
        [
            "gateway.yaml:5: upstreams[0].api_key",
            "gateway.yaml:8: projects[0].keys[0]",
            "gateway.yaml:10: admin_tokens[0].token",
            "policies/support.yaml:3: color",
        ],
        "{err}"
    );
    assert!(err.contains("`OPENAI_API_KEY` is not set"), "{err}");
    assert!(!err.contains("hush"), "{err}");
    let done = run(folder.path(), &known, &["check", "-c", "gateway.yaml", "--json"]).await;
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["problems"][0]["line"], 5);
    assert_eq!(report["problems"][3]["file"], "policies/support.yaml");
}

#[tokio::test]
async fn a_gateway_does_not_start_with_a_broken_configuration() {
    let folder = folder("policy_id: support-guardrails\nrules: {flagged_categories: [malice]}\n");
    let done = run(folder.path(), &SECRETS, &["serve", "-c", "gateway.yaml"]).await;
    assert_eq!(done.out, "");
    let err = done.bad();
    assert!(err.starts_with("policies/support.yaml:2: rules.flagged_categories[0]: "), "{err}");
    let err = run(folder.path(), &SECRETS, &["serve", "-c", "none.yaml"]).await.bad();
    assert!(err.starts_with("none.yaml: cannot be read: "), "{err}");
}

#[tokio::test]
async fn schemas_are_json_and_say_what_fields_mean() {
    let folder = TempDir::new().unwrap();
    let out = run(folder.path(), &[], &["config", "schema"]).await.good();
    let schema: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(schema["title"], "Policy Gateway configuration");
    assert!(schema["properties"]["listen"]["description"].as_str().unwrap().contains("HOST:PORT"));
    let out = run(folder.path(), &[], &["config", "schema", "--policy"]).await.good();
    let schema: Value = serde_json::from_str(&out).unwrap();
    assert!(schema["properties"]["rules"].is_object(), "{schema}");
}

#[tokio::test]
async fn policy_files_are_validated_each_for_itself() {
    let folder = folder(POLICY);
    write(folder.path(), "bad.json", "{\n \"policy_id\": \"x\",\n \"rules\": {\"denylist\": [5]}\n}");
    write(folder.path(), "two.yaml", "policy_id: a\nrules: {}\n---\npolicy_id: b\nrules: {}\n");
    let args = ["policy", "validate", "policies/support.yaml", "two.yaml"];
    let out = run(folder.path(), &[], &args).await.good();
    assert_eq!(
        out,
        "policies/support.yaml: policy `support-guardrails` is good\n\
         two.yaml: policy `a` is good\ntwo.yaml: policy `b` is good\n"
    );
    let done = run(folder.path(), &[], &["policy", "validate", "two.yaml", "bad.json", "gone.yaml"]).await;
    assert!(done.out.contains("policy `b` is good"), "{}", done.out);
    let err = done.bad();
    let lines: Vec<_> = err.lines().collect();
    assert!(lines[0].starts_with("bad.json:3: rules.denylist[0]: "), "{err}");
    assert!(lines[1].starts_with("gone.yaml: cannot be read: "), "{err}");
    let done = run(folder.path(), &[], &["policy", "validate", "--json", "two.yaml", "bad.json"]).await;
    assert_eq!((done.code, done.err.as_str()), (Some(1), ""));
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["policies"][1]["policy_id"], "b");
    assert_eq!(report["policies"][1]["digest"].as_str().unwrap().len(), 64);
    assert_eq!(report["problems"][0]["path"], "rules.denylist[0]");
}

#[tokio::test]
async fn help_is_complete_and_wrong_usage_is_no_success() {
    let folder = TempDir::new().unwrap();
    let out = run(folder.path(), &[], &["--help"]).await.good();
    for command in ["quickstart", "serve", "check", "config", "policy", "audit", "export", "demo"] {
        assert!(out.contains(&format!("  {command} ")), "{command}: {out}");
    }
    let model = run(folder.path(), &[], &["demo", "model", "--help"]).await.good();
    assert!(model.contains("demo:status"), "{model}");
    assert!(run(folder.path(), &[], &["--version"]).await.good().starts_with("policy-gateway "));
    for wrong in [
        &["dance"][..],
        &["serve"],
        &["check", "-c"],
        &["policy", "validate"],
        &["audit", "query"],
        &["audit", "verify", "--json"],
        &["audit", "query", "--store", "x", "--decision", "maybe"],
        &["audit", "query", "--store", "x", "--from", "yesterday"],
        &["audit", "query", "--store", "x", "--limit", "0"],
        &["export", "replay", "datadog_logs", "-c", "x"],
        &["export", "replay", "datadog_logs", "-c", "x", "--from", "1"],
        &["export", "replay", "datadog_logs", "-c", "x", "--from", "1", "--to", "2", "--dead"],
        &["demo", "model", "--listen", "nowhere"],
    ] {
        let done = run(folder.path(), &[], wrong).await;
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(done.err.starts_with("error: ") || done.err.contains("Usage"), "{wrong:?}: {}", done.err);
    }
}

#[tokio::test]
async fn the_stand_ins_run_alone_until_they_are_told_to_end() {
    let folder = TempDir::new().unwrap();
    for name in ["model", "datadog-intake"] {
        let mut process = Process::start(folder.path(), &[], &["demo", name, "--listen", "127.0.0.1:0"]);
        let base = process.listens().await;
        let taken = base.trim_start_matches("http://");
        let err = run(folder.path(), &[], &["demo", name, "--listen", taken]).await.bad();
        assert!(err.contains(&format!("cannot listen on {taken}")), "{err}");
        process.stop().await;
    }
}

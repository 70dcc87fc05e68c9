//! `policy test`, `simulate` and `diff`, and `rollout report`: what they print and how they end.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{Bench, KEY};
use crate::process::run;

const POLICY: &str = "policy_id: support\nrules:\n  denylist:\n    - theft\n    - malware\n  redact: true\n";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

async fn done(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let done = run(folder, &[], args).await;
    (done.code.unwrap(), done.out, done.err)
}

#[tokio::test]
async fn a_case_that_does_not_hold_is_told_with_its_line_as_text_json_and_junit() {
    let cases = "cases:\n  - name: it holds\n    text: theft\n    expect: { decision: refuse }\n  - name: it does not\n    \
                 text: a question\n    expect:\n      stage: input\n      decision: refuse\n";
    let folder = folder(&[("policies/a.yaml", POLICY), ("tests/a.yaml", cases), (".git/x.yaml", "a: [")]);
    let (code, out, err) = done(folder.path(), &["policy", "test", ".", "--junit", "r.xml"]).await;
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    assert!(out.contains("  FAIL  it does not\n        ./tests/a.yaml:9: expect.decision: expected \"refuse\", got \"allow\"\n        because allow: "), "{out}");
    assert!(out.contains("2 cases: 1 hold, 1 do not"), "{out}");
    assert!(out.contains("not reached: ./policies/a.yaml:5: rules.denylist[1] `malware`"), "{out}");
    let junit = std::fs::read_to_string(folder.path().join("r.xml")).unwrap();
    assert!(junit.contains("<testsuite name=\"./tests/a.yaml\" tests=\"2\" failures=\"1\">"), "{junit}");
    let (code, out, err) = done(folder.path(), &["policy", "test", "policies", "tests", "--json"]).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str(), &report["ok"]), (1, "", &json!(false)));
    assert_eq!(report["cases"][1]["mismatches"][0]["field"], "decision");
    assert_eq!(report["policies"][0]["percent"], 50.0);
}

#[tokio::test]
async fn coverage_can_be_asked_for() {
    let cases = "policy: support\ncases: [{ name: a, text: theft, expect: { decision: refuse } }]\n";
    let folder = folder(&[("a.yaml", POLICY), ("b.yaml", cases)]);
    let test = async |min: &str| done(folder.path(), &["policy", "test", ".", "--min-coverage", min]).await;
    assert_eq!(test("50").await.0, 0);
    let (code, out, _) = test("51%").await;
    assert_eq!(code, 1);
    assert!(out.contains("(50.0 %) FAIL: 51 % are asked for"), "{out}");
}

#[tokio::test]
async fn what_is_no_case_is_bad_input_with_file_line_and_field() {
    let cases = |text: &str| format!("policy: ../a.yaml\ncases:\n  - name: a\n    text: x\n{text}");
    let folder = folder(&[
        ("a.yaml", POLICY),
        ("c/typo.yaml", &cases("    expect:\n      decison: allow\n")),
        ("c/value.yaml", &cases("    expect: { decision: perhaps }\n")),
        ("c/which.yaml", "policy: nowhere\ncases: [{ name: a, text: x, expect: { decision: allow } }]\n"),
        ("c/broken.yaml", "cases: [\n"),
        ("c/policy.yaml", "policy_id: b\nrules: {denylst: []}\n"),
    ]);
    let (code, out, err) = done(folder.path(), &["policy", "test", "c", "a.yaml"]).await;
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    let places: Vec<String> =
        err.lines().map(|line| line.splitn(4, ':').take(3).collect::<Vec<_>>().join(":")).collect();
    assert!(places[0].starts_with("c/broken.yaml:"), "{err}");
    assert_eq!(
        places[1..],
        [
            "c/policy.yaml:2: rules.denylst",
            "c/typo.yaml:6: cases[0].expect.decison",
            "c/value.yaml:5: cases[0].expect.decision",
            "c/which.yaml:1: policy",
        ],
        "{err}"
    );
    let (code, out, _) = done(folder.path(), &["policy", "test", "--json", "c"]).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, report["problems"][1]["line"].as_u64()), (2, Some(2)));
    let (code, _, err) = done(folder.path(), &["policy", "test", "a.yaml"]).await;
    assert_eq!(code, 2);
    assert!(err.contains("a.yaml: holds no cases"), "{err}");
}

#[tokio::test]
async fn a_simulation_says_why_and_what_the_model_would_see() {
    let folder = folder(&[
        ("a.yaml", POLICY),
        ("messages.json", r#"[{"role":"user","content":"ask jo@example.com"}]"#),
        ("gateway.yaml", "policies: [a.yaml]\nadmin_tokens: [{ name: a, role: admin, token: $ADMIN }]\n"),
    ]);
    let simulate = async |args: &[&str]| done(folder.path(), &[&["policy", "simulate"], args].concat()).await;
    let (code, out, _) = simulate(&["--policy", "a.yaml", "--text", "Ｔheft of jo@example.com"]).await;
    assert_eq!(code, 0);
    assert!(out.starts_with("refuse at the input: denylist term `theft` (rules.denylist[0]) in messages[0].content, characters 0 to 5\n"), "{out}");
    assert!(out.contains("reason code REFUSE; the model is not called"), "{out}");
    assert!(out.contains(r#"{"role":"user","content":"Ｔheft of [EMAIL_1]"}"#), "{out}");
    let args = ["--policy", "support", "-c", "gateway.yaml", "--messages", "messages.json", "--json"];
    let (code, out, _) = simulate(&[&args[..], &["--answer", "no theft", "--stream"]].concat()).await;
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["decision"], &told["stage"]), (0, &json!("refuse"), &json!("output")));
    assert_eq!(told["redacted_messages"][0]["content"], "ask [EMAIL_1]");
    assert_eq!(told["released"], "no ");
    assert_eq!(told["explanation"]["findings"][1]["decides"], true);
    let (code, _, err) = simulate(&["--policy", "other", "-c", "gateway.yaml", "--text", "x"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("has no policy `other`: it has `support`"), "{err}");
    assert!(!folder.path().join("data").exists(), "it leaves nothing behind");
}

#[tokio::test]
async fn a_diff_shows_whose_decisions_change_and_can_fail_a_build() {
    let after = "policy_id: support\nrules: {denylist: [theft, fraud], redact: true}\n";
    let line = |text: &str, user: &str| {
        let message = json!({"role": "user", "content": text});
        json!({"messages": [message], "policy_user": user, "policy_project_id": "bot"}).to_string()
    };
    let lines: Vec<String> =
        [("theft", "u1"), ("fraud", "u2"), ("fraud again", "u3"), ("malware", "u1"), ("hello", "u4")]
            .map(|(text, user)| line(text, user))
            .into();
    let folder = folder(&[
        ("a.yaml", POLICY),
        ("b.yaml", after),
        ("good.jsonl", &lines.join("\n")),
        ("bad.jsonl", &format!("{}\n\nno json\n{{}}\n{}\r\n", lines[1], lines[4])),
    ]);
    let diff = async |args: &[&str]| {
        done(folder.path(), &[&["policy", "diff", "a.yaml", "b.yaml", "--requests"], args].concat()).await
    };
    let (code, out, err) = diff(&["good.jsonl", "--json", "--fail-over", "40%"]).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str(), &report["ok"]), (0, "", &json!(true)));
    assert_eq!((&report["requests"], &report["users"]), (&json!(5), &json!(4)));
    assert_eq!(
        (&report["stricter"], &report["milder"], &report["flipped_users"]),
        (&json!(2), &json!(1), &json!(3))
    );
    assert_eq!(
        report["rules"]["rows"][0],
        json!({"name": "denylist `fraud`", "stricter": 2, "milder": 0, "other": 0, "users": 2, "missed_max": 0})
    );
    assert_eq!(report["projects"]["rows"][0]["name"], "bot");
    let (code, out, err) = diff(&["good.jsonl", "--markdown", "--fail-over", "0.39"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("40.00 % of the requests"), "{err}");
    assert!(out.contains("| allow | refuse | 2 |"), "{out}");
    let (code, _, err) = diff(&["bad.jsonl"]).await;
    assert_eq!(code, 2, "{err}");
    let starts: Vec<_> = err.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(starts, ["bad.jsonl:3", "bad.jsonl:4", "bad.jsonl"], "{err}");
    assert!(!err.contains("no json"), "{err}");
    let (code, out, err) = diff(&["bad.jsonl", "--skip-invalid", "--json"]).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["requests"], &report["invalid"]["count"]), (0, &json!(2), &json!(2)), "{err}");
    let (code, _, err) = diff(&["none.jsonl"]).await;
    assert_eq!(code, 2);
    assert!(err.starts_with("none.jsonl: "), "{err}");
    let (code, _, err) =
        done(folder.path(), &["policy", "diff", "x", "b.yaml", "--requests", "good.jsonl"]).await;
    assert_eq!(code, 2);
    assert!(err.starts_with("x: cannot be read"), "{err}");
}

#[tokio::test]
async fn a_rollout_report_reads_the_audit_log_beside_a_gateway() {
    let bench = Bench::new().await;
    let (gateway, base) = bench.serve().await;
    let event = bench.call(&base, KEY, "one").await.event_id;
    bench.arrive(&bench.intake, &[event]).await;
    let out = bench.run(&["rollout", "report", "-c", "gateway.json"]).await.good();
    assert_eq!(out, "no shadow or canary event in the time asked for\n");
    let out = bench.run(&["rollout", "report", "-c", "gateway.json", "--json", "--from", "1h"]).await.good();
    assert_eq!(out, "[]\n");
    gateway.stop().await;
}

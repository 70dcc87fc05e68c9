//! `moderation eval` from outside, and how `check` tells of categories.

use serde_json::Value;
use tempfile::TempDir;

use crate::process::run;

const ROWS: &str = r#"{"text": "You are a worthless idiot and I despise you", "labels": ["harassment"]}
{"text": "Thank you for the lovely dinner", "labels": []}

{"text": "The museum opens at nine", "labels": {"harassment": false}}
"#;

#[tokio::test]
async fn eval_measures_at_the_thresholds_in_force() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("rows.jsonl", ROWS);
    let out = run(folder.path(), &[], &["moderation", "eval", "rows.jsonl", "--json"]).await.good();
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["texts"], &report["benign"]["texts"]), (&3.into(), &2.into()));
    let lines = report["categories"].as_array().unwrap();
    let line = |category: &str| lines.iter().find(|line| line["category"] == category).unwrap();
    let harassment = line("harassment");
    assert_eq!((&harassment["texts"], &harassment["positives"]), (&3.into(), &1.into()));
    assert_eq!(harassment["auprc"], 1.0);
    // Of the third text only one label is known; of a category without a positive there is no area.
    assert_eq!((&line("sexual")["texts"], &line("sexual")["auprc"]), (&2.into(), &Value::Null));

    file(
        "low.yaml",
        "policy_id: p\nrules:\n  flagged_categories: [harassment]\n  moderation: {mode: block, categories: {harassment: {threshold: 0.0001}}}\n",
    );
    let out =
        run(folder.path(), &[], &["moderation", "eval", "rows.jsonl", "--policy", "low.yaml", "--json"])
            .await
            .good();
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["categories"].as_array().unwrap().len(), 1);
    let line = &report["categories"][0];
    assert_eq!(
        (&line["mode"], &line["recall"], &line["flag_rate"]),
        (&"block".into(), &1.0.into(), &1.0.into())
    );
    assert_eq!(report["benign"]["blocked"], 2);
    let out =
        run(folder.path(), &[], &["moderation", "eval", "rows.jsonl", "--policy", "low.yaml"]).await.good();
    assert!(
        out.contains("harassment") && out.contains("of 2 without a label 2 (100.0 %) are flagged"),
        "{out}"
    );
}

#[tokio::test]
async fn eval_names_the_line_that_it_cannot_read_and_quotes_none() {
    let folder = TempDir::new().unwrap();
    for (rows, problem) in [
        ("{\"text\": \"hush\", \"labels\": [\"hate\"]}\n{\"text\": \"hush\"", "rows.jsonl:2:"),
        ("{\"text\": \"hush\", \"labels\": [\"malice\"]}", "rows.jsonl:1: `malice` is no category"),
        ("{\"text\": 5, \"labels\": []}", "rows.jsonl:1:"),
    ] {
        std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
        let err = run(folder.path(), &[], &["moderation", "eval", "rows.jsonl"]).await.bad();
        assert!(err.contains(problem) && !err.contains("hush"), "{err}");
    }
    let err = run(folder.path(), &[], &["moderation", "eval", "none.jsonl"]).await.bad();
    assert!(err.contains("`none.jsonl` cannot be read"), "{err}");
}

#[tokio::test]
async fn check_tells_what_each_category_does() {
    let folder = TempDir::new().unwrap();
    let policy = "policy_id: p\nrules:\n  flagged_categories: [sexual, hate]\n  moderation: {categories: {sexual: {threshold: 0.75, mode: block}, hate: {mode: log}}}\n";
    std::fs::write(folder.path().join("p.yaml"), policy).unwrap();
    let check = async |config: &str| {
        std::fs::write(folder.path().join("gateway.yaml"), config).unwrap();
        run(folder.path(), &[], &["check", "-c", "gateway.yaml"]).await
    };
    let out = check("policies: [p.yaml]\n").await.good();
    assert!(
        out.contains("categories by embedded/") && out.contains("sexual blocks from 0.75, hate logs from "),
        "{out}"
    );
    let remote = "policies: [p.yaml]\nmoderation: {provider: openai, api_key: k, model: m}\n";
    let out = check(remote).await.good();
    assert!(out.contains("categories by openai (m): sexual blocks from 0.75, hate logs\n"), "{out}");
    let err = check("policies: [p.yaml]\nmoderation: {provider: none}\n").await.bad();
    assert!(err.starts_with("p.yaml:1: rules.flagged_categories: "), "{err}");
}

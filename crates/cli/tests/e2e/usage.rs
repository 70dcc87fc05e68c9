//! Usage and cost, through the real binary: what calls leave in the sums, how they are asked for, and that they are what
//! the events add up to, a `kill -9` included.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{ADMIN, ENV, Gateway, KEY, PATIENCE, Reply, Rig, Setup, ask, command};

const OTHER_KEY: &str = "ak_test_other_0123456789";

/// Two projects, and a model with prices of its own.
fn setup() -> Setup {
    Setup {
        config: json!({
            "projects": [
                {"id": "first", "policy_id": "test-policy", "keys": [KEY]},
                {"id": "second", "policy_id": "test-policy", "keys": [OTHER_KEY]},
            ],
            "pricing": {"models": {"small": {"input_usd_per_million_tokens": 0.15, "output_usd_per_million_tokens": 0.6}}},
        }),
        model: demo::model::ModelOptions { models: vec!["*".to_owned()], ..Default::default() },
        ..Setup::default()
    }
}

async fn call(rig: &Rig, key: &str, model: &str, user: &str, text: &str) -> Reply {
    let mut body = ask(text);
    body["model"] = json!(model);
    let request = rig.http.post(rig.url("/v1/chat/completions")).bearer_auth(key);
    rig.send(request.header("x-policy-user", user).body(body.to_string())).await
}

async fn usage(rig: &Rig, query: &str) -> Reply {
    rig.send(rig.http.get(rig.url(&format!("/api/policy-gateway/usage{query}"))).bearer_auth(ADMIN)).await
}

/// The rows once they count so many requests.
async fn rows_of(rig: &Rig, query: &str, requests: u64) -> Vec<Value> {
    let rows = async {
        loop {
            let rows = usage(rig, query).await.json()["rows"].as_array().unwrap().clone();
            if rows.iter().filter_map(|row| row["requests"].as_u64()).sum::<u64>() >= requests {
                return rows;
            }
        }
    };
    tokio::time::timeout(PATIENCE, rows).await.expect("the calls show")
}

/// Requests, tokens and cost (in picodollars) of the log's events, by project, user and model.
async fn of_events(dir: &Path) -> BTreeMap<String, (u64, u64, u128)> {
    let (code, out, err) =
        command(dir, &["audit", "export", "-c", "gateway.json", "--event-type", "enforcement"]).await;
    assert_eq!(code, Some(0), "{err}");
    let mut sums = BTreeMap::new();
    for line in out.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let group = json!([event["project_id"], event["policy_user"], event["model"], event["key_id"]]);
        let sum: &mut (u64, u64, u128) = sums.entry(group.to_string()).or_default();
        sum.0 += 1;
        sum.1 += event["usage"]["total_tokens"].as_u64().unwrap_or(0);
        sum.2 += (event["usage"]["cost_usd"].as_f64().unwrap_or(0.0) * 1e12).round() as u128;
    }
    sums
}

fn of_rows(rows: &[Value]) -> BTreeMap<String, (u64, u64, u128)> {
    let of_row = |row: &Value| {
        let cost = (row["cost_usd"].as_f64().unwrap() * 1e12).round() as u128;
        let sums = (row["requests"].as_u64().unwrap(), row["total_tokens"].as_u64().unwrap(), cost);
        (json!([row["project"], row["user"], row["model"], row["key"]]).to_string(), sums)
    };
    rows.iter().map(of_row).collect()
}

#[tokio::test]
async fn calls_show_by_everything_that_they_can_be_told_apart_by() {
    let rig = setup().start().await;
    for (key, model, user, text) in [
        (KEY, "large", "ann", "hello"),
        (KEY, "small", "ann", "hello"),
        (KEY, "large", "ben", "hello there"),
        (OTHER_KEY, "large", "ann", "hello"),
        (KEY, "large", "ann", "how to make napalm"),
    ] {
        assert_eq!(call(&rig, key, model, user, text).await.status, StatusCode::OK);
    }
    assert_eq!(call(&rig, KEY, "large", "ann", "again").await.status, StatusCode::OK);
    let wrong = rig.send(rig.post("/v1/chat/completions", &json!({"model": "large"}))).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let rows = rows_of(&rig, "?group_by=project,user,model,key", 6).await;
    assert_eq!(of_rows(&rows).values().map(|sums| sums.0).sum::<u64>(), 6, "{rows:?}");
    let by_project = rows_of(&rig, "?group_by=project", 6).await;
    let counts: Vec<(&str, u64)> = by_project
        .iter()
        .map(|row| (row["project"].as_str().unwrap(), row["requests"].as_u64().unwrap()))
        .collect();
    assert_eq!(counts, [("first", 5), ("second", 1)]);
    // By the prices of the configuration.
    for row in rows_of(&rig, "?group_by=model", 6).await {
        let count = |name: &str| row[name].as_u64().unwrap() as f64;
        let expected = match row["model"].as_str().unwrap() {
            "small" => (count("prompt_tokens") * 0.15 + count("completion_tokens") * 0.6) / 1e6,
            _ => count("total_tokens") * 5.0 / 1e6,
        };
        assert!(expected > 0.0 && (row["cost_usd"].as_f64().unwrap() - expected).abs() < 1e-12, "{row}");
    }
    let today = jiff::Timestamp::now().to_string()[..10].to_owned();
    let days = rows_of(&rig, "?group_by=day,policy", 6).await;
    assert!(
        days[0]["day"].as_str().unwrap() <= today.as_str() && days[0]["policy"] == "test-policy",
        "{days:?}"
    );
    assert_eq!(usage(&rig, "?to=2020-01-01").await.json()["rows"][0]["requests"], 0);
    assert_eq!(usage(&rig, "?policy_user=ben").await.json()["rows"][0]["requests"], 1);
    // Page by page.
    let first = usage(&rig, "?group_by=project&limit=1").await.json();
    let next = first["next"].as_str().unwrap();
    let second = usage(&rig, &format!("?group_by=project&limit=1&cursor={next}")).await.json();
    assert_eq!((&second["rows"][0]["project"], &second["next"]), (&json!("second"), &Value::Null));
    let wrong = usage(&rig, "?group_by=colour").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(wrong.text.contains("project, user, key, model, policy, day"), "{}", wrong.text);

    let events_add_up_to = of_rows(&rows);
    assert_eq!(rig.gateway.stop().await, Some(0));
    assert_eq!(of_events(rig.dir.path()).await, events_add_up_to);
    // Without a gateway the store is read.
    let args = ["usage", "-c", "gateway.json", "--group-by", "project,user,model,key"];
    let (code, out, err) = command(rig.dir.path(), &[&args[..], &["--json"]].concat()).await;
    assert_eq!(code, Some(0), "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(of_rows(told["rows"].as_array().unwrap()), events_add_up_to);
    let (_, out, _) = command(rig.dir.path(), &[&args[..], &["--csv"]].concat()).await;
    assert_eq!(out.lines().count(), 1 + rows.len(), "{out}");
    assert!(out.starts_with("project,user,model,key,requests,"), "{out}");
    let (_, out, _) = command(rig.dir.path(), &["usage", "-c", "gateway.json", "--from", "1d"]).await;
    assert!(out.starts_with("DAY ") && out.contains("TOTAL_TOKENS"), "{out}");
    let (code, _, err) = command(rig.dir.path(), &["usage", "-c", "gateway.json", "--group-by", "x"]).await;
    assert!(code == Some(2) && err.contains("project, user, key"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_leaves_the_sums_what_the_events_add_up_to() {
    let rig = setup().start().await;
    let Rig { gateway, model, dir, http, config, .. } = rig;
    let clients: Vec<_> = (0..16)
        .map(|client| {
            let (http, url) = (http.clone(), format!("{}/v1/chat/completions", gateway.base));
            tokio::spawn(async move {
                loop {
                    let request = http.post(&url).bearer_auth(if client % 2 == 0 { KEY } else { OTHER_KEY });
                    let request = request.header("x-policy-user", format!("user-{}", client % 3));
                    let Ok(answer) = request.body(ask("hello").to_string()).send().await else { return };
                    drop(answer.bytes().await);
                }
            })
        })
        .collect();
    model.wait_for(PATIENCE, |stats| stats.requests >= 300).await.unwrap();
    gateway.kill().await;
    for client in clients {
        client.await.unwrap();
    }
    let gateway = Gateway::start(&config, &ENV).await;
    assert_eq!(gateway.stop().await, Some(0));
    let args = ["usage", "-c", "gateway.json", "--group-by", "project,user,model,key", "--json"];
    let (code, out, err) = command(dir.path(), &args).await;
    assert_eq!(code, Some(0), "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    let sums = of_rows(told["rows"].as_array().unwrap());
    assert!(sums.values().map(|sums| sums.0).sum::<u64>() >= 200, "{sums:?}");
    assert_eq!(sums, of_events(dir.path()).await);
}

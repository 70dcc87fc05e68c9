//! Budgets and alerts, through the real binary: told at 50, 80 and 100 %, once each whatever is restarted or killed, and
//! refusing where that is asked for.

use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{ADMIN, ENV, Gateway, KEY, PATIENCE, Rig, Setup, ask, command};

/// Dollars per token, so that a call comes to some dollars.
const PRICE: f64 = 1_000_000.0;

fn with_budget(budget: Value) -> Setup {
    Setup {
        config: json!({
            "projects": [{"id": "test-project", "policy_id": "test-policy", "keys": [KEY], "budget": budget}],
            "pricing": {"default": {"usd_per_million_tokens": PRICE}},
        }),
        ..Setup::default()
    }
}

/// Alerts of a stopped gateway, in order, each with what it is about.
async fn alerts(dir: &Path) -> Vec<(String, Value)> {
    let (code, out, err) =
        command(dir, &["audit", "export", "-c", "gateway.json", "--event-type", "quota"]).await;
    assert_eq!(code, Some(0), "{err}");
    out.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| !event["alert"].is_null())
        .map(|event| {
            assert_eq!(
                (&event["enforced"], &event["decision"], &event["usage"], &event["request"]),
                (&json!(false), &Value::Null, &Value::Null, &Value::Null)
            );
            (event["reason_code"].as_str().unwrap().to_owned(), event["alert"].clone())
        })
        .collect()
}

fn codes(alerts: &[(String, Value)]) -> Vec<&str> {
    alerts.iter().map(|(code, _)| code.as_str()).collect()
}

/// What a call costs here.
async fn price_of_a_call() -> f64 {
    let rig = with_budget(json!({"usd": 1e9})).start().await;
    let cost = rig.log_of(&rig.chat("hello").await).await["usage"]["cost_usd"].as_f64().unwrap();
    assert_eq!(rig.gateway.stop().await, Some(0));
    assert_eq!(codes(&alerts(rig.dir.path()).await), [""; 0]);
    cost
}

#[tokio::test]
async fn a_budget_is_told_at_each_share_once_and_passed() {
    let cost = price_of_a_call().await;
    let Rig { gateway, http, dir, config, model, intake } =
        with_budget(json!({"usd": 10.0 * cost, "tokens": 1_000_000_000})).start().await;
    let mut gateway = gateway;
    for call in 1..=12 {
        let url = format!("{}/v1/chat/completions", gateway.base);
        let answer = http.post(&url).bearer_auth(KEY).body(ask("hello").to_string()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        drop(answer.bytes().await);
        match call {
            4 | 9 | 11 => {
                assert_eq!(gateway.stop().await, Some(0));
                gateway = Gateway::start(&config, &ENV).await;
            }
            6 | 10 => {
                gateway.kill().await;
                gateway = Gateway::start(&config, &ENV).await;
            }
            _ => {}
        }
    }
    // Two calls that a kill cut off before their closing record was on disk count without tokens: go on past the whole.
    for _ in 0..2 {
        let url = format!("{}/v1/chat/completions", gateway.base);
        let answer = http.post(&url).bearer_auth(KEY).body(ask("hello").to_string()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "an alert stops nobody");
        drop(answer.bytes().await);
    }
    let heard = std::sync::Arc::clone(&gateway.stderr);
    assert_eq!(gateway.stop().await, Some(0));
    let told = alerts(dir.path()).await;
    assert_eq!(codes(&told), ["BUDGET_50", "BUDGET_80", "BUDGET_100"], "{}", heard.lock().unwrap());
    for (code, alert) in &told {
        assert_eq!(
            (&alert["of"], &alert["measure"], &alert["window"]),
            (&json!("budget"), &json!("usd"), &json!("monthly"))
        );
        let share = alert["used"].as_f64().unwrap() / alert["limit"].as_f64().unwrap() * 100.0;
        let percent = alert["percent"].as_f64().unwrap();
        assert!(share >= percent && code.ends_with(&percent.to_string()), "{alert}");
    }
    drop((model, intake));
}

#[tokio::test]
async fn a_budget_that_refuses_says_when_it_ends_and_who_raises_it() {
    let rig = with_budget(json!({"tokens": 1, "window": "weekly", "on_exceeded": "refuse"})).start().await;
    assert_eq!(rig.chat("hello").await.status, StatusCode::OK);
    let refused = rig.chat("hello").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "PROJECT_QUOTA_EXCEEDED");
    assert!(error["message"].as_str().unwrap().contains("`budget.tokens`"), "{error}");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=7 * 24 * 3600).contains(&wait), "{wait}");
    assert_eq!(rig.log_of(&refused).await["policy"]["reason_code"], "PROJECT_QUOTA_EXCEEDED");
    // A restart does not forget it.
    assert_eq!(rig.gateway.stop().await, Some(0));
    let gateway = Gateway::start(&rig.config, &ENV).await;
    let url = format!("{}/v1/chat/completions", gateway.base);
    let refused = rig.http.post(&url).bearer_auth(KEY).body(ask("hello").to_string()).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(gateway.stop().await, Some(0));
    assert_eq!(codes(&alerts(rig.dir.path()).await), ["BUDGET_50", "BUDGET_80", "BUDGET_100"]);
    let (_, out, _) = command(rig.dir.path(), &["usage", "-c", "gateway.json", "--json"]).await;
    assert!(out.contains("\"requests\": 1"), "what is refused is no usage: {out}");
}

#[tokio::test]
async fn quotas_are_told_of_too() {
    let policy = json!({"policy_id": "test-policy", "rules": {"denylist": ["napalm"]}, "org_controls": {
        "user_quota": {"requests": 4, "window": "monthly"}, "project_quota": {"requests": 10, "window": "monthly"}}});
    let rig = Setup { policy, ..Setup::default() }.start().await;
    for user in ["ann", "ann", "ann", "ben", "ann", "ann"] {
        let request = rig.post("/v1/chat/completions", &ask("hello")).header("x-policy-user", user);
        drop(rig.send(request).await);
    }
    let told = |ledger: &demo::intake::Ledger| {
        ledger.logs().filter(|log| log.log["event"]["alert"].is_object()).count() >= 4
    };
    rig.intake.wait_for(PATIENCE, told).await.unwrap();
    assert_eq!(rig.gateway.stop().await, Some(0));
    let mut told = alerts(rig.dir.path()).await;
    told.sort_by_key(|(code, _)| code.clone());
    assert_eq!(codes(&told), ["PROJECT_QUOTA_50", "USER_QUOTA_100", "USER_QUOTA_50", "USER_QUOTA_80"]);
    assert_eq!((&told[1].1["limit"], &told[1].1["used"]), (&json!(4), &json!(4)));
}

#[tokio::test]
async fn budgets_are_set_through_the_api_and_checked() {
    let rig = Rig::start().await;
    let url = |path: &str| rig.url(&format!("/api/policy-gateway/{path}"));
    let send = |method: reqwest::Method, path: &str, body: Value| {
        rig.send(rig.http.request(method, url(path)).bearer_auth(ADMIN).body(body.to_string()))
    };
    let wrong = json!({"id": "new", "policy_id": "test-policy", "budget": {"usd": -1}});
    let refused = send(reqwest::Method::POST, "projects", wrong).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["error"]["problems"][0]["path"], "budget.usd");
    let right = json!({"id": "new", "policy_id": "test-policy", "budget": {"usd": 12.5, "window": "daily"}});
    let made = send(reqwest::Method::POST, "projects", right).await.json();
    assert_eq!(
        made["budget"],
        json!({"usd": 12.5, "tokens": null, "window": "daily", "on_exceeded": "alert"})
    );
    let changed = json!({"budget": {"tokens": 5, "on_exceeded": "refuse"}});
    let changed = send(reqwest::Method::PATCH, "projects/new", changed).await.json();
    assert_eq!(
        changed["budget"],
        json!({"usd": null, "tokens": 5, "window": "monthly", "on_exceeded": "refuse"})
    );
    let without = send(reqwest::Method::PATCH, "projects/new", json!({"budget": null})).await.json();
    assert_eq!(without["budget"], Value::Null);
    let empty = send(reqwest::Method::PATCH, "projects/new", json!({"budget": {}})).await;
    assert_eq!(empty.json()["error"]["problems"][0]["path"], "budget");
}

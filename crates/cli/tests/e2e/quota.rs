//! Quotas, rate limits and priorities, through the real binary: what passes, what is counted, and what a restart and a
//! `kill -9` leave of it. Windows are months where a test must not see one end.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{ENV, Gateway, KEY, PATIENCE, Reply, Rig, Setup, ask, command};

const OTHER_KEY: &str = "ak_test_other_0123456789";
const CLIENTS: usize = 50;
const LIMIT: usize = 1000;

fn with_quotas(controls: Value) -> Setup {
    let policy =
        json!({"policy_id": "test-policy", "rules": {"denylist": ["napalm"]}, "org_controls": controls});
    Setup { policy, ..Setup::default() }
}

fn limits(reply: &Reply, what: &str) -> (String, String) {
    let header = |name: &str| reply.header(&format!("x-ratelimit-{name}-{what}")).to_owned();
    (header("limit"), header("remaining"))
}

async fn with_key(rig: &Rig, key: &str) -> Reply {
    let request = rig.http.post(rig.url("/v1/chat/completions")).bearer_auth(key);
    rig.send(request.body(ask("hello").to_string())).await
}

async fn as_user(rig: &Rig, user: &str, text: &str) -> Reply {
    rig.send(rig.post("/v1/chat/completions", &ask(text)).header("x-policy-user", user)).await
}

/// Clients in parallel, each calling until it is refused or the gateway is gone; the answers with status 200, and
/// whether all were refused in the end.
async fn until_refused(http: &reqwest::Client, base: &str) -> (usize, bool) {
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (http, url) = (http.clone(), format!("{base}/v1/chat/completions"));
            tokio::spawn(async move {
                let mut passed = 0;
                let mut body = ask("hello");
                body["stream"] = json!(client % 3 == 0);
                loop {
                    let request = http.post(&url).bearer_auth(KEY).body(body.to_string());
                    let Ok(response) = request.send().await else { return (passed, false) };
                    match response.status() {
                        StatusCode::OK => {
                            passed += 1;
                            drop(response.bytes().await);
                        }
                        StatusCode::TOO_MANY_REQUESTS => return (passed, true),
                        status => panic!("{status}: {}", response.text().await.unwrap()),
                    }
                }
            })
        })
        .collect();
    let mut all = (0, true);
    for client in clients {
        let (passed, refused) = client.await.unwrap();
        all = (all.0 + passed, all.1 && refused);
    }
    all
}

/// Requests that the events of a stopped gateway charge.
async fn charged(dir: &std::path::Path) -> u64 {
    let (code, out, err) = command(dir, &["audit", "export", "-c", "gateway.json"]).await;
    assert_eq!(code, Some(0), "{err}");
    let events = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter_map(|event| event["quota"][0]["requests"].as_u64()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_parallel_clients_exactly_as_many_pass_as_the_quota_has() {
    let rig = with_quotas(json!({"project_quota": {"requests": LIMIT, "window": "monthly"}})).start().await;
    assert_eq!(until_refused(&rig.http, &rig.gateway.base).await, (LIMIT, true));
    let refused = rig.chat("once more").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(rig.gateway.stop().await, Some(0));
    assert_eq!(charged(rig.dir.path()).await, LIMIT as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_costs_at_most_the_requests_in_flight() {
    let setup = with_quotas(json!({"user_quota": {"requests": LIMIT, "window": "monthly"}}));
    let Rig { mut gateway, model, dir, http, config, .. } = setup.start().await;
    let mut passed = 0;
    let mut kills = 0;
    loop {
        let target = model.stats().requests + 150;
        let clients = tokio::spawn({
            let (http, base) = (http.clone(), gateway.base.clone());
            async move { until_refused(&http, &base).await }
        });
        if kills < 4 {
            model.wait_for(PATIENCE, |stats| stats.requests >= target).await.unwrap();
            kills += 1;
            gateway.kill().await;
            passed += clients.await.unwrap().0;
            gateway = Gateway::start(&config, &ENV).await;
            continue;
        }
        let (more, all_refused) = clients.await.unwrap();
        assert!(all_refused);
        passed += more;
        break;
    }
    println!("{passed} of {LIMIT} seen over {kills} kills");
    assert!(passed <= LIMIT, "{passed}");
    assert!(passed + kills * CLIENTS >= LIMIT, "{passed}");
    assert_eq!(gateway.stop().await, Some(0));
    // What nobody saw is in the log: it was in flight when a kill came.
    assert_eq!(charged(dir.path()).await, LIMIT as u64);
}

#[tokio::test]
async fn users_and_projects_have_quotas_of_their_own_and_a_refusal_says_whose_is_used_up() {
    let controls = json!({"user_quota": {"requests": 2, "window": "monthly"},
        "project_quota": {"requests": 5, "tokens": 100_000, "window": "monthly"}});
    let rig = with_quotas(controls).start().await;
    let reply = as_user(&rig, "ann", "hello").await;
    assert_eq!(limits(&reply, "requests"), ("2".into(), "1".into()));
    assert_eq!(limits(&reply, "tokens").0, "100000");
    let reset = reply.header("x-ratelimit-reset-requests");
    assert!(reset.ends_with('s') && reset.contains('m'), "{reset}");
    assert_eq!(as_user(&rig, "ann", "hello").await.status, StatusCode::OK);
    let refused = as_user(&rig, "ann", "hello").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    let error = &refused.json()["error"];
    assert_eq!(
        (error["code"].as_str(), error["type"].as_str()),
        (Some("USER_QUOTA_EXCEEDED"), Some("rate_limit_error"))
    );
    assert!(error["message"].as_str().unwrap().contains("org_controls.user_quota.requests"), "{error}");
    assert_eq!(limits(&refused, "requests"), ("2".into(), "0".into()));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    let log = rig.log_of(&refused).await;
    assert_eq!(log["event"]["type"], "quota");
    assert_eq!(log["message"], "policy quota: USER_QUOTA_EXCEEDED");
    assert_eq!(
        (&log["policy"]["reason_code"], &log["policy"]["decision"]),
        (&json!("USER_QUOTA_EXCEEDED"), &Value::Null)
    );
    assert_eq!((&log["policy"]["enforced"], &log["policy"]["policy_user"]), (&json!(false), &json!("ann")));
    // Who names no user is one user by key; what was refused was not charged to the project.
    for remaining in ["1", "0"] {
        assert_eq!(limits(&rig.chat("hello").await, "requests").1, remaining);
    }
    assert_eq!(rig.chat("hello").await.json()["error"]["code"], "USER_QUOTA_EXCEEDED");
    assert_eq!(as_user(&rig, "ben", "hello").await.status, StatusCode::OK);
    let refused = as_user(&rig, "cleo", "hello").await;
    assert_eq!(refused.json()["error"]["code"], "PROJECT_QUOTA_EXCEEDED");
    assert_eq!(limits(&refused, "requests"), ("5".into(), "0".into()));
}

#[tokio::test]
async fn what_fails_is_given_back_and_what_the_policy_refuses_counts_a_request_and_no_tokens() {
    let controls = json!({"user_quota": {"requests": 10, "tokens": 5000, "window": "monthly"}});
    let rig = with_quotas(controls).start().await;
    let left = async |reply: &Reply| (limits(reply, "requests").1, limits(reply, "tokens").1);
    let unread = rig.send(rig.post("/v1/chat/completions", &json!({"model": "m", "messages": []}))).await;
    assert_eq!(unread.status, StatusCode::BAD_REQUEST);
    for script in ["demo:status=500", "demo:status=400", "demo:cut"] {
        let failed = rig.chat(script).await;
        assert!(failed.status.as_u16() >= 400, "{script}");
        assert_eq!(left(&failed).await, ("10".into(), "5000".into()), "{script}");
        let event = stored(&rig, &failed).await;
        assert_eq!(
            (&event["quota"][0]["requests"], &event["quota"][0]["tokens"]),
            (&json!(0), &json!(0)),
            "{script}"
        );
    }
    rig.stream("demo:words=9 demo:cut=2").await;
    let refused = rig.chat("napalm").await;
    assert_eq!(left(&refused).await, ("9".into(), "5000".into()));
    let refused = rig.chat("demo:say=\"\\u006eapalm\"").await;
    assert_eq!(left(&refused).await, ("8".into(), "5000".into()));
    let answered = rig.chat("hello").await;
    let tokens = answered.json()["usage"]["total_tokens"].as_u64().unwrap();
    assert_eq!(left(&answered).await, ("7".into(), (5000 - tokens).to_string()));
    let uncounted = rig.chat("demo:no_usage demo:say=\"one two three four\"").await;
    let ours = 5000 - tokens - left(&uncounted).await.1.parse::<u64>().unwrap();
    assert!((10..60).contains(&ours), "{ours}");
}

/// The event as it is stored.
async fn stored(rig: &Rig, reply: &Reply) -> Value {
    rig.log_of(reply).await;
    let id = reply.header("x-policy-event-id").to_owned();
    let url = rig.url("/api/policy-gateway/audit?limit=100");
    let listed = rig.send(rig.http.get(url).bearer_auth(crate::support::ADMIN)).await.json();
    let entries = listed["entries"].as_array().unwrap();
    entries.iter().find(|entry| entry["event_id"] == id.as_str()).unwrap().clone()
}

#[tokio::test]
async fn tokens_are_settled_and_survive_a_restart_and_nothing_starts_when_none_are_left() {
    let setup = with_quotas(json!({"user_quota": {"tokens": 60, "window": "monthly"}}));
    let Rig { gateway, http, config, dir, model, intake } = setup.start().await;
    let mut rig = Rig { gateway, http, config, dir, model, intake };
    let first = rig.chat("demo:words=20").await;
    let used = first.json()["usage"]["total_tokens"].as_u64().unwrap();
    assert_eq!(limits(&first, "tokens"), ("60".into(), (60 - used).to_string()));
    assert_eq!(limits(&first, "requests"), (String::new(), String::new()));
    assert_eq!(rig.gateway.stop().await, Some(0));
    rig.gateway = Gateway::start(&rig.config, &ENV).await;
    let second = rig.chat("demo:words=30").await;
    assert_eq!(second.status, StatusCode::OK);
    let total = used + second.json()["usage"]["total_tokens"].as_u64().unwrap();
    assert_eq!(limits(&second, "tokens").1, 60_u64.saturating_sub(total).to_string());
    let refused = rig.chat("demo:words=30").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{total} used: {}", refused.text);
    assert_eq!(refused.json()["error"]["code"], "USER_QUOTA_EXCEEDED");
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("org_controls.user_quota.tokens"));
}

#[tokio::test]
async fn a_stream_is_cut_where_the_tokens_end() {
    let rig = with_quotas(json!({"project_quota": {"tokens": 100, "window": "monthly"}})).start().await;
    let mut body = ask("demo:words=400");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let cut = rig.send(rig.post("/v1/chat/completions", &body)).await;
    assert_eq!(cut.status, StatusCode::OK);
    assert_eq!(cut.finish_reasons(), ["length"]);
    assert!(cut.text.trim_end().ends_with("data: [DONE]"), "{}", cut.text);
    let usage = cut.frames().last().unwrap()["usage"]["total_tokens"].as_u64().unwrap();
    assert!((90..=100).contains(&usage), "{usage}");
    let words = cut.streamed("content").split_whitespace().count();
    assert!((20..=100).contains(&words), "{words}");
    let log = rig.log_of(&cut).await;
    assert_eq!((&log["event"]["type"], &log["policy"]["decision"]), (&json!("enforcement"), &json!("allow")));
    assert_eq!(
        (&log["request"]["error_code"], &log["request"]["outcome"]),
        (&json!("PROJECT_QUOTA_EXCEEDED"), &json!("completed"))
    );
    assert_eq!(log["usage"]["total_tokens"], usage);
    let refused = rig.stream("hello, and some more words that need a few tokens").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_stream_goes_on_past_its_estimate_while_there_are_tokens() {
    let rig = with_quotas(json!({"user_quota": {"tokens": 5000, "window": "monthly"}})).start().await;
    // Short answers teach that answers are short.
    for _ in 0..2 {
        assert_eq!(rig.chat("demo:say=\"yes\"").await.status, StatusCode::OK);
    }
    let long = rig.stream("demo:words=900 demo:no_usage").await;
    assert_eq!(long.finish_reasons(), ["stop"]);
    let event = stored(&rig, &long).await;
    let tokens = event["quota"][0]["tokens"].as_u64().unwrap();
    assert!((900..4000).contains(&tokens), "{tokens}");
    let next = rig.stream("hello").await;
    let left: u64 = limits(&next, "tokens").1.parse().unwrap();
    assert!(left <= 5000 - tokens, "{left} left of 5000 after {tokens}");
}

#[tokio::test]
async fn a_candidate_changes_no_limit() {
    let setup = with_quotas(json!({"user_quota": {"requests": 2, "window": "monthly"}}));
    let candidate = json!({"policy_id": "test-policy", "rules": {"denylist": ["napalm", "arson"]},
        "org_controls": {"user_quota": {"requests": 1, "window": "monthly"}},
        "rollout": {"canary": {"enabled": true, "sample_percent": 100}}});
    std::fs::create_dir_all(setup.dir.path().join("policies")).unwrap();
    std::fs::write(setup.dir.path().join("policies/candidate.json"), candidate.to_string()).unwrap();
    let rig = setup.start().await;
    for (status, remaining) in [(200, "1"), (200, "0"), (429, "0")] {
        let reply = rig.chat("hello").await;
        assert_eq!(
            (reply.status.as_u16(), limits(&reply, "requests")),
            (status, ("2".into(), remaining.into()))
        );
        assert_eq!(reply.header("x-policy-rollout-mode"), if status == 200 { "canary" } else { "" });
    }
}

/// The same minute before and after, or another try.
async fn within_a_minute<T>(mut work: impl AsyncFnMut(usize) -> T) -> T {
    let minute = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60;
    for round in 0.. {
        let before = minute();
        let result = work(round).await;
        if minute() == before {
            return result;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn a_plan_limits_each_key_by_the_minute() {
    let mut setup = Setup::default();
    setup.config = json!({
        "plans": {"free": {"requests_per_minute": 3}, "paid": {"requests_per_minute": 1000}},
        "projects": [{"id": "test-project", "policy_id": "test-policy", "plan": "free",
            "keys": [KEY, {"key": OTHER_KEY, "plan": "paid"}]}],
    });
    let rig = setup.start().await;
    let (replies, other) = within_a_minute(async |round| {
        let mut replies = Vec::new();
        // In a second round the first minute is over, and its counts with it.
        for _ in 0..4 {
            replies.push(rig.chat(&format!("hello {round}")).await);
        }
        (replies, with_key(&rig, OTHER_KEY).await)
    })
    .await;
    let statuses: Vec<_> = replies.iter().map(|reply| reply.status.as_u16()).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    let refused = &replies[3];
    assert_eq!(refused.json()["error"]["code"], "RATE_LIMITED");
    assert_eq!(limits(refused, "requests"), ("3".into(), "0".into()));
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    assert_eq!(rig.log_of(refused).await["event"]["type"], "quota");
    assert_eq!((other.status, limits(&other, "requests").0), (StatusCode::OK, "1000".into()));
}

#[tokio::test]
async fn under_overload_the_lowest_priority_is_shed_first() {
    let mut setup = Setup::default();
    setup.config = json!({
        "limits": {"requests_max": 3},
        "plans": {"free": {"priority": 1}, "paid": {"priority": 8}},
        "projects": [
            {"id": "test-project", "policy_id": "test-policy", "plan": "free", "keys": [KEY]},
            {"id": "other", "policy_id": "test-policy", "plan": "paid", "keys": [OTHER_KEY]},
        ],
    });
    let rig = setup.start().await;
    let hang = |key: &'static str| {
        let request = rig.http.post(rig.url("/v1/chat/completions")).bearer_auth(key);
        tokio::spawn(request.body(ask("demo:hang").to_string()).send())
    };
    let mut hanging = vec![hang(KEY), hang(KEY)];
    rig.model.wait_for(PATIENCE, |stats| stats.requests >= 2).await.unwrap();
    // One place is kept for the higher priority.
    let shed = rig.chat("hello").await;
    assert_eq!((shed.status, shed.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(shed.json()["error"]["code"], "overloaded");
    assert_eq!(with_key(&rig, OTHER_KEY).await.status, StatusCode::OK);
    hanging.push(hang(OTHER_KEY));
    rig.model.wait_for(PATIENCE, |stats| stats.requests >= 4).await.unwrap();
    assert_eq!(with_key(&rig, OTHER_KEY).await.status, StatusCode::SERVICE_UNAVAILABLE);
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_limit_that_is_none_is_refused_with_its_place() {
    for (controls, path) in [
        (json!({"user_quota": {"requests": -1}}), "org_controls.user_quota.requests"),
        (json!({"project_quota": {"window": "fortnightly"}}), "org_controls.project_quota.window"),
    ] {
        let dir = tempfile::TempDir::new().unwrap();
        let policy = json!({"policy_id": "p", "rules": {}, "org_controls": controls});
        std::fs::write(dir.path().join("p.json"), policy.to_string()).unwrap();
        let (code, out, err) = command(dir.path(), &["policy", "validate", "p.json"]).await;
        assert_ne!(code, Some(0));
        assert!(format!("{out}{err}").contains(path), "{out}{err}");
    }
}

//! `export create, update, delete`, `project show, update`, `key rotate`, `doctor` and `completions`.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::bench::{Bench, KEY};
use crate::exports::named_port;

const CONFIG: [&str; 2] = ["-c", "gateway.json"];

impl Bench {
    async fn good(&self, args: &[&str]) -> String {
        self.run(&[args, &CONFIG].concat()).await.good()
    }

    /// The configuration lets the API make destinations on this machine.
    fn open(&mut self) {
        self.config["secrets_key"] = json!("0123456789abcdef");
        self.config["egress"] = json!({"env": ["DD_API_KEY"], "allow": ["127.0.0.1"]});
        self.write();
    }

    fn file(&self, name: &str, body: &Value) {
        std::fs::write(self.path().join(name), body.to_string()).unwrap();
    }
}

/// Makes, changes and deletes a destination, whoever does it.
async fn destinations(bench: &Bench) {
    let body = json!({"destination": "datadog_logs", "id": "siem", "endpoint": bench.intake.endpoint(),
        "api_key": demo::intake::DEFAULT_API_KEY});
    bench.file("siem.json", &body);
    let made = bench.json(&["export", "create", "--from", "siem.json"]).await;
    assert_eq!((&made["id"], &made["secrets"]), (&json!("siem"), &json!(["api_key"])));
    std::fs::write(bench.path().join("patch.yaml"), "service: llm\n").unwrap();
    assert_eq!(
        bench.good(&["export", "update", "siem", "--from", "patch.yaml"]).await,
        "destination siem is changed\n"
    );
    let listed = bench.json(&["export", "list"]).await;
    let brief: Vec<_> =
        listed["exports"].as_array().unwrap().iter().map(|one| (&one["id"], &one["source"])).collect();
    assert_eq!(brief, [(&json!("datadog_logs"), &json!("file")), (&json!("siem"), &json!("api"))]);
    assert_eq!(bench.json(&["export", "test", "siem"]).await["exports"][0]["ok"], true);
    let status = bench.json(&["export", "status", "siem"]).await;
    assert_eq!(status["exports"][0]["id"], "siem");
    let err = bench.run(&[&["export", "create", "--from", "siem.json"][..], &CONFIG].concat()).await.bad();
    assert!(err.contains("there is a destination `siem` already"), "{err}");
    let err =
        bench.run(&[&["export", "delete", "datadog_logs", "--confirm"][..], &CONFIG].concat()).await.bad();
    assert!(err.contains("gateway.json") && err.contains("read-only"), "{err}");
    let args = ["export", "delete", "siem", "--confirm"];
    assert_eq!(bench.good(&args).await, "destination siem is deleted\n");
    let err = bench.run(&[&args[..], &CONFIG].concat()).await.bad();
    assert!(err.contains("there is no destination `siem`"), "{err}");
    let shown = bench.json(&["export", "list"]).await.to_string();
    assert!(!shown.contains(demo::intake::DEFAULT_API_KEY), "{shown}");
}

#[tokio::test]
async fn destinations_are_made_in_the_store_where_no_gateway_runs() {
    let mut bench = Bench::new().await;
    bench.open();
    destinations(&bench).await;
    // Events that wait must be given up by name.
    bench.file("siem.json", &json!({"destination": "datadog_logs", "id": "siem", "site": "datadoghq.eu", "api_key": "$DD_API_KEY"}));
    bench.good(&["export", "create", "--from", "siem.json"]).await;
    bench.good(&["project", "create", "extra"]).await;
    let err = bench.run(&[&["export", "delete", "siem"][..], &CONFIG].concat()).await.bad();
    assert!(err.contains("--confirm"), "{err}");
    // A configuration that no longer gives what it needs does not start, and says so.
    bench.config["egress"] = json!({"env": []});
    bench.write();
    let err = bench.run(&[&["serve"][..], &CONFIG].concat()).await.bad();
    assert!(err.contains("destination `siem`") && err.contains("`egress.env`"), "{err}");
    assert_eq!(bench.good(&["export", "delete", "siem", "--confirm"]).await, "destination siem is deleted\n");
}

#[tokio::test]
async fn destinations_projects_and_keys_are_changed_through_a_gateway_that_runs() {
    let mut bench = Bench::new().await;
    bench.open();
    named_port(&mut bench).await;
    let (gateway, base) = bench.serve().await;
    destinations(&bench).await;
    bench.good(&["project", "create", "app", "--policy-id", "rules", "--name", "App"]).await;
    let shown = bench.json(&["project", "show", "app"]).await;
    assert_eq!((&shown["name"], &shown["policy_id"]), (&json!("App"), &json!("rules")));
    let old = bench.json(&["key", "create", "--project", "app"]).await;
    let id = old["key_id"].as_str().unwrap();
    let args = ["key", "rotate", "--project", "app", id, "--overlap-seconds", "600"];
    let new = bench.good(&args).await.trim().to_owned();
    for key in [old["key"].as_str().unwrap(), &new] {
        assert_eq!(bench.call(&base, key, "hello").await.status, StatusCode::OK);
    }
    bench.good(&["project", "update", "app", "--disable", "--name", "Off"]).await;
    assert_eq!(bench.call(&base, &new, "hello").await.status, StatusCode::FORBIDDEN);
    let changed = bench.json(&["project", "update", "app", "--enable", "--no-policy"]).await;
    assert_eq!(
        (&changed["status"], &changed["policy_id"], &changed["name"]),
        (&json!("active"), &Value::Null, &json!("Off"))
    );
    assert_eq!(bench.call(&base, &new, "hello").await.status, StatusCode::BAD_REQUEST);
    for at in 0..3 {
        bench.good(&["project", "create", &format!("p{at}")]).await;
    }
    gateway.stop().await;
}

fn found<'a>(report: &'a Value, check: &str) -> Vec<&'a str> {
    let findings = report["findings"].as_array().unwrap().iter();
    let own = findings.filter(|finding| finding["check"].as_str().unwrap().starts_with(check));
    own.map(|finding| finding["result"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn doctor_says_what_is_well_and_what_to_mend() {
    let mut bench = Bench::new().await;
    bench.open();
    named_port(&mut bench).await;
    let report = bench.json(&["doctor"]).await;
    assert_eq!(report["ok"], true, "{report}");
    for check in [
        "configuration",
        "clock",
        "store folder",
        "store",
        "admin tokens",
        "gateway",
        "upstream main",
        "destination datadog_logs",
    ] {
        assert_eq!(found(&report, check).first(), Some(&"ok"), "{check}: {report}");
    }
    assert!(!report.to_string().contains(KEY));
    let (gateway, _) = bench.serve().await;
    let table = bench.good(&["doctor"]).await;
    assert!(table.contains("is ready"), "{table}");
    gateway.stop().await;
    // A destination that does not take the key, an upstream that is not there.
    bench.intake.set_api_keys(["another-key".to_owned()]);
    bench.config["upstreams"][0]["base_url"] = json!("http://127.0.0.1:1/v1");
    bench.write();
    let done = bench.run(&[&["doctor", "--json"][..], &CONFIG].concat()).await;
    assert_eq!(done.code, Some(1), "{}", done.err);
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        (&report["ok"], found(&report, "upstream main"), found(&report, "destination")),
        (&json!(false), vec!["failed"], vec!["failed"])
    );
    assert_eq!(bench.json(&["doctor", "--offline"]).await["ok"], true);
    bench.config["colour"] = json!("red");
    bench.config["exports"][0]["api_key"] = json!("$NO_SUCH_VARIABLE");
    bench.write();
    let done = bench.run(&[&["doctor"][..], &CONFIG].concat()).await;
    assert_eq!(done.code, Some(1));
    assert!(
        done.out.contains("MEND") && done.out.contains("NO_SUCH_VARIABLE") && done.out.contains("colour"),
        "{}",
        done.out
    );
}

#[tokio::test]
async fn completions_name_every_command() {
    let bench = Bench::new().await;
    for shell in ["bash", "zsh", "fish"] {
        let text = bench.run(&["completions", shell]).await.good();
        for command in ["doctor", "completions", "rotate", "quickstart"] {
            assert!(text.contains(command), "{shell} {command}");
        }
    }
}

//! `key` and `project`: in the store where no gateway runs, through it where one does.

use reqwest::StatusCode;
use serde_json::Value;

use crate::bench::Bench;
use crate::exports::named_port;

const CONFIG: [&str; 2] = ["-c", "gateway.json"];

impl Bench {
    async fn new_key(&self) -> String {
        let args = ["key", "create", "--project", "bot", "--name", "ci"];
        let out = self.run(&[&args[..], &CONFIG].concat()).await.good();
        let key = out.trim().to_owned();
        assert!(key.starts_with("ak_") && !key.contains('\n'), "the key alone: {out}");
        key
    }

    /// Public id of the key that begins so.
    async fn id_of(&self, key: &str) -> String {
        let list = self.json(&["key", "list", "--project", "bot"]).await;
        let keys = list["keys"].as_array().unwrap();
        let own = |one: &&Value| one["prefix"].as_str().is_some_and(|prefix| key.starts_with(prefix));
        keys.iter().find(own).unwrap()["key_id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn without_a_gateway_the_store_is_changed_and_the_next_start_finds_it() {
    let bench = Bench::new().await;
    let key = bench.new_key().await;
    let args = ["project", "create", "extra", "--policy-id", "rules"];
    bench.run(&[&args[..], &CONFIG].concat()).await.good();
    let projects = bench.json(&["project", "list"]).await;
    let ids: Vec<_> = projects["projects"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, ["bot", "extra"]);
    let err = bench.run(&[&args[..], &CONFIG].concat()).await.bad();
    assert!(err.contains("there is a project `extra` already"), "{err}");
    let (gateway, base) = bench.serve().await;
    assert_eq!(bench.call(&base, &key, "hello").await.status, StatusCode::OK);
    gateway.stop().await;
    let id = bench.id_of(&key).await;
    bench.run(&[&["key", "revoke", "--project", "bot", &id][..], &CONFIG].concat()).await.good();
    let (gateway, base) = bench.serve().await;
    assert_eq!(bench.call(&base, &key, "hello").await.status, StatusCode::UNAUTHORIZED);
    gateway.stop().await;
    let events =
        bench.run(&["audit", "query", "-c", "gateway.json", "--event-type", "admin", "--json"]).await.good();
    let actors: Vec<Value> =
        events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["actor"].take()).collect();
    assert_eq!(actors, ["command line", "command line", "command line"]);
    assert!(!events.contains(&key));
}

#[tokio::test]
async fn a_gateway_that_runs_is_asked_and_the_next_request_knows() {
    let mut bench = Bench::new().await;
    named_port(&mut bench).await;
    let (gateway, base) = bench.serve().await;
    let key = bench.new_key().await;
    assert_eq!(bench.call(&base, &key, "hello").await.status, StatusCode::OK);
    let id = bench.id_of(&key).await;
    bench.run(&[&["key", "revoke", "--project", "bot", &id][..], &CONFIG].concat()).await.good();
    assert_eq!(bench.call(&base, &key, "hello").await.status, StatusCode::UNAUTHORIZED);
    let table = bench.run(&[&["key", "list", "--project", "bot"][..], &CONFIG].concat()).await.good();
    assert!(table.starts_with("KEY_ID ") && table.contains(&id), "{table}");
    let err = bench.run(&[&["key", "list", "--project", "none"][..], &CONFIG].concat()).await.bad();
    assert!(err.contains("there is no project `none`; there is `bot`"), "{err}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_that_cannot_be_asked_is_named() {
    let bench = Bench::new().await;
    let (gateway, _) = bench.serve().await;
    // It took any free port, which the configuration does not know.
    let err = bench.run(&[&["key", "list", "--project", "bot"][..], &CONFIG].concat()).await.bad();
    assert!(err.contains("nothing answers at `127.0.0.1:0`, yet the store is in use"), "{err}");
    gateway.stop().await;
}

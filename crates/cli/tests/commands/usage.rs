//! `usage`: from the gateway where one runs, from the store where none does.

use serde_json::{Value, json};

use crate::bench::{Bench, KEY};
use crate::exports::named_port;
use crate::process::PATIENCE;

const BY_USER: [&str; 3] = ["usage", "--group-by", "user,policy"];

#[tokio::test]
async fn a_gateway_that_runs_is_asked_and_otherwise_the_store_is_read() {
    let mut bench = Bench::new().await;
    named_port(&mut bench).await;
    let (gateway, base) = bench.serve().await;
    for text in ["hello", "napalm"] {
        bench.call(&base, KEY, text).await;
    }
    let store = bench.config["store"].take();
    // What the file names now is not there: only the gateway knows.
    bench.config["store"] = json!("sqlite://elsewhere.db");
    bench.write();
    let shows = async {
        loop {
            let answer = bench.json(&BY_USER).await;
            if answer["rows"][0]["requests"] == 2 {
                return answer;
            }
        }
    };
    let answer: Value = tokio::time::timeout(PATIENCE, shows).await.expect("the calls show");
    assert_eq!((&answer["rows"][0]["user"], &answer["rows"][0]["policy"]), (&json!("ann"), &json!("rules")));
    assert_eq!(answer["rows"].as_array().unwrap().len(), 1);
    let nobody = bench.json(&[&BY_USER[..], &["--policy-user", "be&n", "--from", "1d"]].concat()).await;
    assert_eq!(nobody["rows"], json!([]));
    gateway.stop().await;
    let err = bench.run(&["usage", "-c", "gateway.json"]).await.bad();
    assert!(err.contains("elsewhere.db"), "{err}");
    bench.config["store"] = store;
    bench.write();
    assert_eq!(bench.json(&BY_USER).await["rows"], answer["rows"]);
    let table = bench.run(&["usage", "-c", "gateway.json", "--group-by", ""]).await.good();
    assert!(table.starts_with("REQUESTS ") && table.lines().count() == 2, "{table}");
}

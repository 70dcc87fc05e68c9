//! Faults on purpose: `kill -9` at random points under load, a full disk, two gateways on one store. The oracle is what
//! the client saw: each such event id is in the log, and reaches the intake.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{ENV, Gateway, KEY, PATIENCE, Rig, Setup, ask, command};

/// Kills in one run of the suite; each is a process start, a burst of load and a `kill -9`.
const KILLS: usize = 200;
/// Clients that are calling when the kill comes.
const CLIENTS: usize = 8;

/// A small random source with a printed seed, so that a failure can be run again (`KILL_SEED=…`).
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let seed = std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            u64::from(std::process::id()) ^ std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos() as u64
        });
        println!("KILL_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_saw_survives_every_kill() {
    let mut random = Random::seeded();
    let rig = Rig::start().await;
    let Rig { mut gateway, intake, model, dir, http, config } = rig;
    let mut seen: HashSet<String> = HashSet::new();
    for _ in 0..KILLS {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (http, url) = (http.clone(), format!("{}/v1/chat/completions", gateway.base));
                let stop = Arc::clone(&stop);
                tokio::spawn(async move {
                    let mut seen = Vec::new();
                    for number in 0.. {
                        let mut body = ask(if number % 5 == 4 { "napalm" } else { "hello" });
                        body["stream"] = json!(client % 2 == 0);
                        let Ok(mut response) =
                            http.post(&url).bearer_auth(KEY).body(body.to_string()).send().await
                        else {
                            break;
                        };
                        if let Some(id) = response.headers().get("x-policy-event-id") {
                            seen.push(id.to_str().unwrap().to_owned());
                        }
                        while let Ok(Some(_)) = response.chunk().await {}
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    seen
                })
            })
            .collect();
        let answered = model.stats().requests + 1 + random.below(60);
        model.wait_for(PATIENCE, |stats| stats.requests >= answered).await.unwrap();
        gateway.kill().await;
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            seen.extend(client.await.unwrap());
        }
        gateway = Gateway::start(&config, &ENV).await;
    }
    println!("{KILLS} kills, {} events seen by clients", seen.len());
    let all = |ledger: &demo::intake::Ledger| {
        let ids = ledger.event_ids();
        seen.iter().all(|id| ids.contains(id.as_str()))
    };
    intake.wait_for(PATIENCE, all).await.unwrap();
    assert_eq!(gateway.stop().await, Some(0));
    let (code, out, err) = command(dir.path(), &["audit", "verify", "-c", "gateway.json"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, out, err) = command(dir.path(), &["audit", "export", "-c", "gateway.json"]).await;
    assert_eq!(code, Some(0), "{err}");
    let stored: HashSet<String> = out
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["event_id"].as_str().unwrap().to_owned()
        })
        .collect();
    let missing: Vec<_> = seen.difference(&stored).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(out.lines().count(), stored.len(), "no event is there twice");
}

#[tokio::test]
async fn an_open_decision_is_closed_as_interrupted() {
    let rig = Rig::start().await;
    let mut body = ask("demo:hang=2");
    body["stream"] = json!(true);
    let response = rig.post("/v1/chat/completions", &body).send().await.unwrap();
    let event_id = response.headers()["x-policy-event-id"].to_str().unwrap().to_owned();
    let Rig { gateway, intake, model, dir, http, config } = rig;
    gateway.kill().await;
    let gateway = Gateway::start(&config, &ENV).await;
    let rig = Rig { gateway, intake, model, dir, http, config };
    let log = rig.log(&event_id).await;
    assert_eq!(log["request"]["outcome"], "interrupted");
    assert_eq!(log["policy"]["decision"], "allow");
}

#[tokio::test]
async fn two_gateways_on_one_store_are_one_too_many() {
    let rig = Rig::start().await;
    let stderr = Gateway::try_start(&rig.config, &ENV).await.err().expect("the second one refuses");
    assert!(stderr.contains("gateway.db"), "{stderr}");
    assert_eq!(rig.chat("hi").await.status, StatusCode::OK, "the first one is not disturbed");
}

/// A small file system of its own; `None`, with the reason printed, where it cannot be mounted.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={bytes}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .status();
        match mounted {
            Ok(status) if status.success() => Some(Self(at.to_owned())),
            other => {
                println!(
                    "skipped: a tmpfs cannot be mounted here ({other:?}); the store's own tests fill a disk by other means"
                );
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let mut setup = Setup::default();
    let disk_path = setup.dir.path().join("disk");
    let Some(_disk) = SmallDisk::mount(&disk_path, 24 * 1024 * 1024) else { return };
    setup.config = json!({"store": format!("sqlite://{}", disk_path.join("gateway.db").display())});
    let rig = setup.start().await;
    let before = rig.chat("before").await;
    assert_eq!(before.status, StatusCode::OK);
    let filler = disk_path.join("filler");
    let fill = std::process::Command::new("dd")
        .args(["if=/dev/zero", &format!("of={}", filler.display()), "bs=64k"])
        .output()
        .unwrap();
    assert!(!fill.status.success(), "dd stops where the disk is full");
    let mut seen = vec![before];
    let refused = tokio::time::timeout(PATIENCE, async {
        loop {
            let reply = rig.chat("while the disk fills").await;
            if reply.status == StatusCode::SERVICE_UNAVAILABLE {
                return reply;
            }
            seen.push(reply);
        }
    });
    let refused = refused.await.expect("it refuses once nothing more fits");
    assert_eq!(refused.json()["error"]["code"], "audit_unavailable", "{}", refused.text);
    assert_eq!(refused.header("x-policy-event-id"), "", "there is no event");
    assert!(!refused.header("retry-after").is_empty());
    let ready = rig.send(rig.http.get(rig.url("/readyz"))).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text.contains("audit blocked"), "{}", ready.text);
    std::fs::remove_file(&filler).unwrap();
    let recovered = tokio::time::timeout(PATIENCE, async {
        loop {
            let reply = rig.chat("after").await;
            if reply.status == StatusCode::OK {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    seen.push(recovered.await.expect("it recovers without a restart"));
    for reply in seen.iter().filter(|reply| !reply.header("x-policy-event-id").is_empty()) {
        rig.log_of(reply).await;
    }
    let gap = |ledger: &demo::intake::Ledger| ledger.logs().any(|log| log.log["event"]["type"] == "gap");
    rig.intake.wait_for(PATIENCE, gap).await.unwrap();
    assert_eq!(rig.intake.logs().iter().filter(|log| log.log["event"]["type"] == "gap").count(), 1);
    assert_eq!(rig.gateway.stop().await, Some(0));
}

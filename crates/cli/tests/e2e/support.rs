//! Starts the parts, writes the configuration, and speaks HTTP. What is asserted is in the tests themselves.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Once};
use std::time::Duration;

use demo::intake::{self, Intake, IntakeOptions};
use demo::model::{self, Model, ModelOptions};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// Longest wait for anything that must happen; passing tests never wait it out.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const KEY: &str = "ak_test_0123456789abcdef";
pub const ADMIN: &str = "admin-token-for-tests-0123456789";

/// A gateway process.
pub struct Gateway {
    child: Child,
    pub base: String,
    pub stderr: Arc<std::sync::Mutex<String>>,
}

impl Gateway {
    /// Starts `serve` and waits until it listens.
    pub async fn start(config: &Path, env: &[(&str, &str)]) -> Self {
        match Self::try_start(config, env).await {
            Ok(gateway) => gateway,
            Err(stderr) => panic!("the gateway did not start:\n{stderr}"),
        }
    }

    /// The same; what it wrote to stderr where it ends first.
    pub async fn try_start(config: &Path, env: &[(&str, &str)]) -> Result<Self, String> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_policy-gateway"))
            .args(["serve", "--config"])
            .arg(config)
            .envs(env.iter().copied())
            .env("RUST_LOG", "info")
            .current_dir(config.parent().unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stderr = Arc::new(std::sync::Mutex::new(String::new()));
        let (found, mut address) = tokio::sync::mpsc::channel(4);
        tokio::spawn(follow(child.stdout.take().unwrap(), Arc::clone(&stderr), found.clone()));
        tokio::spawn(follow(child.stderr.take().unwrap(), Arc::clone(&stderr), found));
        let started =
            tokio::time::timeout(PATIENCE, address.recv()).await.expect("it neither listens nor ends");
        match started {
            Some(base) => Ok(Self { child, base, stderr }),
            None => {
                child.wait().await.unwrap();
                Err(stderr.lock().unwrap().clone())
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends a signal by name (`TERM`, `HUP`, `STOP`, …).
    pub async fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().await.unwrap();
        assert!(status.success());
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM; its exit code.
    pub async fn stop(mut self) -> Option<i32> {
        self.signal("TERM").await;
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap().code()
    }
}

async fn follow(
    stream: impl AsyncRead + Unpin,
    all: Arc<std::sync::Mutex<String>>,
    found: tokio::sync::mpsc::Sender<String>,
) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(at) = line.find("listening on http://") {
            let base: String = line[at + "listening on ".len()..]
                .chars()
                .take_while(|c| !c.is_whitespace() && *c != '"')
                .collect();
            let _ = found.send(base).await;
        }
        let mut all = all.lock().unwrap();
        all.push_str(&line);
        all.push('\n');
    }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn content(&self) -> String {
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }

    /// The data of every event but `[DONE]`.
    pub fn frames(&self) -> Vec<Value> {
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
            .collect()
    }

    /// All of one delta field, joined.
    pub fn streamed(&self, field: &str) -> String {
        self.frames().iter().filter_map(|frame| frame["choices"][0]["delta"][field].as_str()).collect()
    }

    pub fn finish_reasons(&self) -> Vec<String> {
        self.frames()
            .iter()
            .filter_map(|frame| frame["choices"][0]["finish_reason"].as_str())
            .map(str::to_owned)
            .collect()
    }
}

/// Client, gateway, model and intake.
pub struct Rig {
    pub model: model::Running,
    pub intake: intake::Running,
    pub gateway: Gateway,
    pub dir: TempDir,
    pub http: reqwest::Client,
    pub config: PathBuf,
}

/// What a rig's configuration starts from; tests change it.
pub struct Setup {
    pub policy: Value,
    pub config: Value,
    pub env: Vec<(&'static str, String)>,
    pub dir: TempDir,
    pub model: ModelOptions,
    pub intake: IntakeOptions,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: json!({"policy_id": "test-policy", "rules": {"denylist": ["credential theft", "napalm"], "redact": true}}),
            config: json!({}),
            env: Vec::new(),
            dir: TempDir::new().unwrap(),
            model: ModelOptions::default(),
            intake: IntakeOptions::default(),
        }
    }
}

impl Setup {
    pub fn rules(rules: Value) -> Self {
        Self { policy: json!({"policy_id": "test-policy", "rules": rules}), ..Self::default() }
    }

    pub async fn start(self) -> Rig {
        let model = Model::start(self.model).await.unwrap();
        let intake = Intake::start(self.intake).await.unwrap();
        let mut config = json!({
            "listen": "127.0.0.1:0",
            "store": format!("sqlite://{}", self.dir.path().join("gateway.db").display()),
            "upstreams": [{"name": "main", "kind": "openai", "base_url": model.base_url(), "api_key": "$UPSTREAM_KEY", "models": ["*"]}],
            "policies": ["policies/*.json"],
            "projects": [{"id": "test-project", "policy_id": "test-policy", "keys": [KEY]}],
            "admin_tokens": [{"name": "root", "role": "admin", "token": "$ADMIN_TOKEN"}],
            "exports": [{"destination": "datadog_logs", "endpoint": intake.endpoint(), "api_key": "$DD_API_KEY",
                "service": "policy-gateway", "ddsource": "policy-gateway", "tags": ["env:test"]}],
        });
        for (key, value) in self.config.as_object().unwrap() {
            config[key] = value.clone();
        }
        std::fs::create_dir_all(self.dir.path().join("policies")).unwrap();
        std::fs::write(self.dir.path().join("policies/policy.json"), self.policy.to_string()).unwrap();
        let path = self.dir.path().join("gateway.json");
        std::fs::write(&path, serde_json::to_vec_pretty(&config).unwrap()).unwrap();
        let mut env: Vec<(&str, &str)> = vec![
            ("UPSTREAM_KEY", "sk-upstream-test"),
            ("ADMIN_TOKEN", ADMIN),
            ("DD_API_KEY", intake::DEFAULT_API_KEY),
        ];
        env.extend(self.env.iter().map(|(name, value)| (*name, value.as_str())));
        let gateway = Gateway::start(&path, &env).await;
        Rig { model, intake, gateway, dir: self.dir, http: client(), config: path }
    }
}

pub fn client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().expect("no provider yet");
    });
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

pub const ENV: [(&str, &str); 3] =
    [("UPSTREAM_KEY", "sk-upstream-test"), ("ADMIN_TOKEN", ADMIN), ("DD_API_KEY", intake::DEFAULT_API_KEY)];

impl Rig {
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.base)
    }

    pub fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.http.post(self.url(path)).bearer_auth(KEY).body(body.to_string())
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Reply { status, headers, text: response.text().await.unwrap_or_default() }
    }

    /// One user message to `/v1/chat/completions`.
    pub async fn chat(&self, text: &str) -> Reply {
        self.send(self.post("/v1/chat/completions", &ask(text))).await
    }

    /// The same, streamed.
    pub async fn stream(&self, text: &str) -> Reply {
        let mut body = ask(text);
        body["stream"] = json!(true);
        self.send(self.post("/v1/chat/completions", &body)).await
    }

    /// The log of an event, once it arrived.
    pub async fn log(&self, event_id: &str) -> Value {
        assert!(!event_id.is_empty(), "the answer names no event");
        let has = |ledger: &intake::Ledger| ledger.logs().any(|log| log.event_id() == Some(event_id));
        self.intake.wait_for(PATIENCE, has).await.unwrap();
        let logs = self.intake.logs();
        logs.iter().find(|log| log.event_id() == Some(event_id)).unwrap().log.clone()
    }

    /// The log of an answer's event.
    pub async fn log_of(&self, reply: &Reply) -> Value {
        self.log(reply.header("x-policy-event-id")).await
    }

    /// What the upstream was sent last.
    pub fn last_upstream(&self) -> Value {
        self.model.requests().last().expect("the upstream was called").json()
    }
}

pub fn ask(text: &str) -> Value {
    json!({"model": "demo-model", "messages": [{"role": "user", "content": text}]})
}

/// Runs the command line; exit code, stdout, stderr.
pub async fn command(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_policy-gateway"))
        .args(args)
        .envs(ENV)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

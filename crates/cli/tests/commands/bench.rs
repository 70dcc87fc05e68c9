//! A folder with a configuration, the demo model and the demo intake, and calls through a gateway.

use std::path::Path;
use std::sync::Once;

use demo::intake::{self, Intake, IntakeOptions};
use demo::model::{self, Model, ModelOptions};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Done, PATIENCE, Process, run};

pub const KEY: &str = "ak_commands_0123456789";
pub const ADMIN: &str = "admin-token-of-the-commands";

pub const ENV: [(&str, &str); 4] = [
    ("UPSTREAM_KEY", "sk-upstream"),
    ("PROJECT_KEY", KEY),
    ("ADMIN_TOKEN", ADMIN),
    ("DD_API_KEY", intake::DEFAULT_API_KEY),
];

pub struct Bench {
    pub dir: TempDir,
    pub model: model::Running,
    pub intake: intake::Running,
    /// Written by [`Bench::write`].
    pub config: Value,
    http: reqwest::Client,
}

/// What came back from a call.
pub struct Answer {
    pub status: StatusCode,
    pub decision: String,
    pub event_id: String,
}

impl Bench {
    /// With a policy that refuses `napalm`; listening on any port.
    pub async fn new() -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            rustls::crypto::ring::default_provider().install_default().expect("no provider yet");
        });
        let model = Model::start(ModelOptions::default()).await.unwrap();
        let intake = Intake::start(IntakeOptions::default()).await.unwrap();
        let config = json!({
            "listen": "127.0.0.1:0",
            "store": "sqlite://deep/down/gateway.db",
            "upstreams": [{"name": "main", "kind": "openai", "base_url": model.base_url(), "api_key": "$UPSTREAM_KEY"}],
            "policies": ["policies/*.yaml"],
            "projects": [{"id": "bot", "policy_id": "rules", "keys": ["$PROJECT_KEY"]}],
            "admin_tokens": [{"name": "root", "role": "admin", "token": "$ADMIN_TOKEN"}],
            "exports": [destination(&intake)],
        });
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let bench = Self { dir: TempDir::new().unwrap(), model, intake, config, http };
        bench.policy("policy_id: rules\nrules: {denylist: [napalm]}\n");
        bench.write();
        bench
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the policy file.
    pub fn policy(&self, text: &str) {
        let folder = self.path().join("policies");
        std::fs::create_dir_all(&folder).unwrap();
        // In one step, as an editor does: half a file is never seen.
        std::fs::write(folder.join("next"), text).unwrap();
        std::fs::rename(folder.join("next"), folder.join("rules.yaml")).unwrap();
    }

    /// Writes the configuration.
    pub fn write(&self) {
        std::fs::write(self.path().join("gateway.json"), serde_json::to_vec_pretty(&self.config).unwrap())
            .unwrap();
    }

    /// Runs a command beside the configuration.
    pub async fn run(&self, args: &[&str]) -> Done {
        run(self.path(), &ENV, args).await
    }

    /// The same, told where the configuration is; its stdout read as JSON.
    pub async fn json(&self, args: &[&str]) -> Value {
        let out = self.run(&[args, &["-c", "gateway.json", "--json"]].concat()).await.good();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Starts the gateway and waits until it serves.
    pub async fn serve(&self) -> (Process, String) {
        let mut gateway = Process::start(self.path(), &ENV, &["serve", "-c", "gateway.json"]);
        let base = gateway.listens().await;
        (gateway, base)
    }

    pub async fn call(&self, base: &str, key: &str, text: &str) -> Answer {
        self.try_call(base, key, text).await.unwrap()
    }

    /// [`Bench::call`] where the gateway may end first.
    pub async fn try_call(&self, base: &str, key: &str, text: &str) -> reqwest::Result<Answer> {
        let body =
            json!({"model": "demo-model", "user": "ann", "messages": [{"role": "user", "content": text}]});
        let request =
            self.http.post(format!("{base}/v1/chat/completions")).bearer_auth(key).body(body.to_string());
        let answer = request.send().await?;
        let header =
            |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let (decision, event_id) = (header("x-policy-decision"), header("x-policy-event-id"));
        let status = answer.status();
        answer.bytes().await?;
        Ok(Answer { status, decision, event_id })
    }

    /// Waits until the intake has all of these events.
    pub async fn arrive(&self, intake: &intake::Running, event_ids: &[String]) {
        let all = |ledger: &intake::Ledger| {
            let seen = ledger.event_ids();
            event_ids.iter().all(|id| seen.contains(id.as_str()))
        };
        intake.wait_for(PATIENCE, all).await.unwrap();
    }
}

pub fn destination(intake: &intake::Running) -> Value {
    json!({"destination": "datadog_logs", "endpoint": intake.endpoint(), "api_key": "$DD_API_KEY",
        "service": "policy-gateway", "ddsource": "policy-gateway"})
}

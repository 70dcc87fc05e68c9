//! `quickstart`: the whole story in one command. A gateway between a client and a model, a policy, and the very logs that
//! arrive in a Datadog intake; both ends are built in unless the real ones are named. What is sent is in `samples`.

#![expect(
    clippy::indexing_slicing,
    reason = "indexing a JSON value is total: null where there is nothing, a new member where one is assigned"
)]

mod samples;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use audit::delivery::DestinationStatus;
use demo::intake::{self, Intake, IntakeOptions};
use demo::model::{self, DEFAULT_MODEL, Model, ModelOptions};
use serde_json::{Value, json};

use crate::args::QuickstartArgs;
use crate::config::Config;
use crate::output::{Output, printable};
use crate::quickstart::samples::{SAMPLES, Sample};
use crate::serve::App;
use crate::serve::signal::Signals;

/// The built-in ends answer in milliseconds; a real one gets as long as a person would wait.
const PATIENCE: Duration = Duration::from_secs(30);
/// A real destination is asked for its count this often.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Longest answer that is shown.
const SHOWN_CHARS_MAX: usize = 600;

/// Where the model is.
enum Upstream {
    BuiltIn(model::Running),
    Real { base_url: String },
}

/// Where the logs go.
enum Datadog {
    BuiltIn(intake::Running),
    Real { site: String },
}

/// Runs the story; serves until a signal unless `--once`.
///
/// # Errors
/// Where a part cannot be started, a call fails, or a log does not arrive.
pub(crate) async fn run(args: QuickstartArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    // Removed at the end: nothing is left behind.
    let folder = tempfile::Builder::new().prefix("policy-gateway-quickstart-").tempdir()?;
    let upstream = match &args.upstream {
        Some(url) => Upstream::Real { base_url: url.trim_end_matches('/').to_owned() },
        None => Upstream::BuiltIn(Model::start(ModelOptions::default()).await.context("the demo model")?),
    };
    let datadog = match std::env::var("DD_API_KEY") {
        Ok(key) if !key.is_empty() => Datadog::Real {
            site: std::env::var("DD_SITE")
                .ok()
                .filter(|site| !site.is_empty())
                .unwrap_or_else(|| "datadoghq.com".into()),
        },
        _ => Datadog::BuiltIn(Intake::start(IntakeOptions::default()).await.context("the demo intake")?),
    };
    let key = format!("ak_quickstart_{}", uuid::Uuid::new_v4().simple());
    let listen = match &args.listen {
        Some(listen) => listen.clone(),
        None if args.once => "127.0.0.1:0".to_owned(),
        None => "127.0.0.1:8080".to_owned(),
    };
    let config =
        samples::write(folder.path(), &listen, &upstream_config(&upstream), &datadog_config(&datadog), &key)?;
    let config = match Config::load(&config) {
        Ok(config) => config,
        Err(error) => bail!("the quickstart's own configuration does not hold:\n{error}"),
    };
    let app = App::start(config).await.context("use `--listen HOST:PORT` for another address")?;
    let story = Story { app: &app, upstream: &upstream, datadog: &datadog, key: &key, args: &args };
    let told = tokio::select! {
        told = story.tell(folder.path()) => told,
        () = signals.stop() => Ok(()),
    };
    if told.is_ok() && !args.once {
        tokio::select! {
            () = signals.stop() => {}
            reason = app.failed() => bail!("the audit log failed: {reason}"),
        }
    }
    app.shutdown().await?;
    told.map(|()| ExitCode::SUCCESS)
}

fn upstream_config(upstream: &Upstream) -> Value {
    match upstream {
        Upstream::BuiltIn(model) => {
            json!({"name": "demo", "kind": "openai", "base_url": model.base_url(), "models": [DEFAULT_MODEL]})
        }
        Upstream::Real { base_url } => {
            let mut config = json!({"name": "main", "kind": "openai", "base_url": base_url, "models": ["*"]});
            if std::env::var_os("OPENAI_API_KEY").is_some() {
                config["api_key"] = json!("$OPENAI_API_KEY");
            }
            config
        }
    }
}

fn datadog_config(datadog: &Datadog) -> Value {
    let mut config = json!({"destination": "datadog_logs", "service": "policy-gateway", "ddsource": "policy-gateway",
        "tags": ["env:quickstart"]});
    match datadog {
        Datadog::BuiltIn(intake) => {
            config["endpoint"] = json!(intake.endpoint());
            config["api_key"] = json!(intake::DEFAULT_API_KEY);
        }
        Datadog::Real { site } => {
            config["site"] = json!(site);
            config["api_key"] = json!("$DD_API_KEY");
        }
    }
    config
}

/// What the story is told with.
struct Story<'a> {
    app: &'a App,
    upstream: &'a Upstream,
    datadog: &'a Datadog,
    key: &'a str,
    args: &'a QuickstartArgs,
}

impl Story<'_> {
    async fn tell(&self, folder: &Path) -> anyhow::Result<()> {
        let base = format!("http://{}", self.app.addr());
        say(&[
            "Policy Gateway quickstart".to_owned(),
            format!("  gateway   {base}/v1"),
            match self.upstream {
                Upstream::BuiltIn(model) => format!("  model     {} (built in)", model.base_url()),
                Upstream::Real { base_url } => format!("  model     {base_url}"),
            },
            match self.datadog {
                Datadog::BuiltIn(intake) => {
                    format!("  datadog   {} (built in, as strict as the real one)", intake.endpoint())
                }
                Datadog::Real { site } => format!("  datadog   https://http-intake.logs.{site}/api/v2/logs"),
            },
            format!("  files     {}", folder.display()),
        ])?;
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        for (number, sample) in SAMPLES.iter().enumerate() {
            say(&[String::new(), format!("{}. {}", number + 1, sample.title)])?;
            self.call(&http, &base, sample).await?;
        }
        let model = self.model();
        let status = self.delivered(SAMPLES.len() as u64).await?;
        say(&[
            String::new(),
            format!(
                "All {} logs arrived: accepted {} = delivered {} + pending {} + dead {}.",
                SAMPLES.len(),
                status.accepted,
                status.delivered,
                status.pending,
                status.dead
            ),
        ])?;
        if self.args.once {
            return Ok(());
        }
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Hello! My mail is ann@example.com."}]});
        say(&[
            String::new(),
            "Try it yourself, or point an OpenAI client at it:".to_owned(),
            format!(
                "  curl -i {base}/v1/chat/completions -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' -d '{body}'",
                self.key
            ),
            format!("  export OPENAI_BASE_URL={base}/v1 OPENAI_API_KEY={}", self.key),
            format!("  policy-gateway audit query -c {}/gateway.json", folder.display()),
            format!("  health and metrics: {base}/readyz, {base}/metrics"),
            String::new(),
            "Serving until Ctrl-C.".to_owned(),
        ])
    }

    fn model(&self) -> &str {
        match (&self.args.model, self.upstream) {
            (Some(model), _) => model,
            (None, Upstream::BuiltIn(_)) => DEFAULT_MODEL,
            (None, Upstream::Real { .. }) => "gpt-4o-mini",
        }
    }

    /// One call as any client makes it, its decision, and its log.
    async fn call(&self, http: &reqwest::Client, base: &str, sample: &Sample) -> anyhow::Result<()> {
        let mut body = json!({"model": self.model(), "messages": [{"role": "user", "content": sample.text}],
            "policy_user": "quickstart-user", "stream": sample.stream});
        if let Some(policy_id) = sample.policy_id {
            body["policy_id"] = json!(policy_id);
        }
        let request = http
            .post(format!("{base}/v1/chat/completions"))
            .bearer_auth(self.key)
            .header("content-type", "application/json")
            .body(body.to_string());
        let response = request.send().await.context("the gateway did not answer")?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.context("the answer broke off")?;
        if !status.is_success() {
            bail!("the call was answered {status}: {text}");
        }
        let header = |name: &str| {
            headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let mut lines = vec![format!("   asked     {}", sample.text)];
        if let Upstream::BuiltIn(model) = self.upstream
            && header("x-policy-decision") != "refuse"
            && let Some(sent) = model.requests().last()
        {
            let messages = sent.json()["messages"].take();
            let all: Vec<&str> = messages
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|message| message["content"].as_str())
                .collect();
            lines.push(format!("   the model saw     {}", shown(&all.join(" | "))));
        }
        lines.push(format!("   answered  {}", shown(&answer_text(&text, sample.stream))));
        lines.push(format!(
            "   decision  {} ({}), event {}",
            header("x-policy-decision"),
            header("x-policy-reason-code"),
            header("x-policy-event-id")
        ));
        say(&lines)?;
        if header("x-policy-decision") != sample.decision {
            bail!("the decision should have been `{}`", sample.decision);
        }
        self.show_log(&header("x-policy-event-id")).await
    }

    /// The log as the intake received it.
    async fn show_log(&self, event_id: &str) -> anyhow::Result<()> {
        let Datadog::BuiltIn(intake) = self.datadog else {
            return say(&[format!("   log       sent to Datadog; find it with @event.id:{event_id}")]);
        };
        let arrived = |ledger: &intake::Ledger| ledger.logs().any(|log| log.event_id() == Some(event_id));
        intake.wait_for(PATIENCE, arrived).await.context("the log did not arrive")?;
        let logs = intake.logs();
        let Some(log) = logs.iter().find(|log| log.event_id() == Some(event_id)) else {
            bail!("the log did not arrive");
        };
        if !log.violations.is_empty() {
            bail!("the log breaks rules of the intake: {:?}", log.violations);
        }
        say(&["   the log that arrived in Datadog:".to_owned(), serde_json::to_string_pretty(&log.log)?])
    }

    /// Waits until so many events are delivered.
    async fn delivered(&self, count: u64) -> anyhow::Result<DestinationStatus> {
        let waiting = async {
            loop {
                let status = self.app.delivery_status().into_iter().next().context("no destination")?;
                if status.delivered >= count && status.pending == 0 {
                    return Ok(status);
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(status) => status,
            Err(_) => {
                let status = self.app.delivery_status().into_iter().next().context("no destination")?;
                let why = status.last_error.unwrap_or_else(|| "it did not say why".to_owned());
                bail!("only {} of {count} logs arrived: {why}", status.delivered)
            }
        }
    }
}

/// The text of an answer, whole or streamed, refusals included.
fn answer_text(body: &str, stream: bool) -> String {
    let read = |value: &Value, at: &str| {
        let place = &value["choices"][0][at];
        let text = |field: &str| place[field].as_str().map(str::to_owned);
        text("content").or_else(|| text("refusal"))
    };
    if stream {
        let frames = body.lines().filter_map(|line| line.strip_prefix("data: "));
        frames.filter_map(|data| read(&serde_json::from_str(data).ok()?, "delta")).collect()
    } else {
        serde_json::from_str(body).ok().and_then(|value| read(&value, "message")).unwrap_or_default()
    }
}

fn shown(text: &str) -> String {
    printable(&text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
}

fn say(lines: &[String]) -> anyhow::Result<()> {
    let mut output = Output::stdout();
    for line in lines {
        output.line(line)?;
    }
    output.flush()?;
    Ok(())
}

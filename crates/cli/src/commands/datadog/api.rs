//! Datadog's API, as far as it is used here: JSON over HTTP with two keys, waiting where it says so.

use std::time::Duration;

use anyhow::{Context, bail};
use audit::secret::Secret;
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use crate::args::ApiArgs;

/// For one request; an aggregation over days takes its time.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Times that one request is sent, where Datadog limits the rate or is out of order.
const TRIES: u32 = 5;
/// Longest wait before a request is sent again; Datadog's limits reset within a minute but for a few by the hour.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// What of an error's text is shown.
const DETAIL_CHARS_MAX: usize = 500;

/// The API with its keys.
pub(super) struct Api {
    http: reqwest::Client,
    base: String,
    api_key: Secret,
    app_key: Secret,
}

impl Api {
    /// With the keys of the environment.
    ///
    /// # Errors
    /// Which key is missing, or what is wrong with the URL.
    pub(super) fn new(args: &ApiArgs) -> anyhow::Result<Self> {
        let base = match &args.api_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("https://api.{}", args.site),
        };
        let url =
            Url::parse(&base).with_context(|| format!("`{base}` is no URL: check --site and --api-url"))?;
        let is_local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && is_local) {
            bail!("`{base}` would carry the keys unencrypted: use https");
        }
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("policy-gateway/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("the HTTP client cannot be set up")?;
        Ok(Self { http, base, api_key: key("DD_API_KEY")?, app_key: key("DD_APP_KEY")? })
    }

    /// Sends a request and gives the answer's JSON.
    ///
    /// # Errors
    /// What Datadog says is wrong, with what to look at.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let mut tries_left = TRIES;
        loop {
            tries_left -= 1;
            let mut request = self
                .http
                .request(method.clone(), &url)
                .header("dd-api-key", self.api_key.expose())
                .header("dd-application-key", self.app_key.expose())
                .header("accept", "application/json");
            if let Some(body) = body {
                request = request.header("content-type", "application/json").body(body.to_string());
            }
            let answer =
                request.send().await.map_err(reqwest::Error::without_url).with_context(|| {
                    format!("{url} did not answer: check the network, --site and --api-url")
                })?;
            let status = answer.status();
            // What was made before an error would be made twice.
            let may_repeat = status.is_server_error() && method != Method::POST;
            if (status == StatusCode::TOO_MANY_REQUESTS || may_repeat) && tries_left > 0 {
                tokio::time::sleep(wait(&answer)).await;
                continue;
            }
            let text = answer.bytes().await.with_context(|| format!("{url} did not answer in full"))?;
            if !status.is_success() {
                bail!("Datadog refused {method} {path} ({status}): {}{}", detail(&text), advice(status));
            }
            return serde_json::from_slice(&text)
                .with_context(|| format!("what answers at {url} is no Datadog: check --site and --api-url"));
        }
    }
}

fn key(name: &str) -> anyhow::Result<Secret> {
    match std::env::var(name) {
        Ok(key) if !key.is_empty() => Ok(Secret::new(key, name)?),
        _ => bail!("{name} is not set: make a key in Datadog's organisation settings and put it there"),
    }
}

/// How long Datadog wants to be left alone.
fn wait(answer: &reqwest::Response) -> Duration {
    let seconds = ["retry-after", "x-ratelimit-reset"]
        .into_iter()
        .filter_map(|name| answer.headers().get(name)?.to_str().ok()?.parse::<u64>().ok())
        .next();
    seconds.map_or(Duration::from_secs(1), Duration::from_secs).min(WAIT_MAX)
}

/// `{"errors": [text or {"title", "detail"}]}`, in one line.
fn detail(text: &[u8]) -> String {
    let body: Value = serde_json::from_slice(text).unwrap_or_default();
    let errors = body.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let told: Vec<&str> = errors
        .iter()
        .filter_map(|error| {
            error.as_str().or_else(|| error.get("detail")?.as_str()).or_else(|| error.get("title")?.as_str())
        })
        .collect();
    if told.is_empty() {
        return "it did not say why".to_owned();
    }
    crate::output::printable(&told.join("; ")).chars().take(DETAIL_CHARS_MAX).collect()
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; check that DD_API_KEY and DD_APP_KEY are of the organisation at --site (DD_SITE), and that the \
            application key is unscoped or may do this"
        }
        StatusCode::TOO_MANY_REQUESTS => "; try again later",
        _ => "",
    }
}

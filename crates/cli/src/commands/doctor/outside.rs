//! What a gateway depends on outside of its files: whether one runs, upstreams, destinations, the issuer of tokens.

use std::time::{Duration, SystemTime};

use audit::delivery::SystemClock;
use registry::Upstream;
use reqwest::header::DATE;
use reqwest::{Client, StatusCode};

use super::{Findings, SKEW_SECONDS_MAX};
use crate::commands::export;
use crate::config::Config;

/// A list of models comes within this, or somebody should look.
const TIMEOUT: Duration = Duration::from_secs(10);

fn client(findings: &mut Findings, proxied: bool) -> Option<Client> {
    let builder = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
    let builder = if proxied { builder } else { builder.no_proxy() };
    builder
        .build()
        .map_err(|error| findings.fail("HTTP client", format!("it cannot be set up: {error}")))
        .ok()
}

/// Whether a gateway runs with this configuration, and is ready.
pub(super) async fn gateway(config: &Config, findings: &mut Findings) {
    let Some(host) = crate::client::reachable(&config.listen) else { return };
    let Some(client) = client(findings, false) else { return };
    match client.get(format!("http://{host}/readyz")).send().await {
        Err(error) if error.is_connect() => findings.ok("gateway", format!("none runs at `{host}`")),
        Err(error) => {
            let error = anyhow::Error::new(error.without_url());
            findings.fail("gateway", format!("what listens at `{host}` does not answer: {error:#}"));
        }
        Ok(answer) => {
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            let said: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            match (status, said.get("audit").and_then(serde_json::Value::as_str)) {
                (StatusCode::OK, Some(_)) => {
                    findings.ok("gateway", format!("one runs at `{host}`, and is ready"));
                }
                (_, Some(audit)) => {
                    findings.fail("gateway", format!("the one at `{host}` is not ready: {audit}"));
                }
                (_, None) => findings.fail(
                    "gateway",
                    format!("something else listens at `{host}` ({status}): end it, or change `listen`"),
                ),
            }
        }
    }
}

/// Whether each upstream answers, and takes its key.
pub(super) async fn upstreams(config: &Config, findings: &mut Findings) {
    let Some(client) = client(findings, true) else { return };
    for upstream in &config.desired.upstreams {
        let check = format!("upstream {}", upstream.name);
        let url = format!("{}/models", upstream.base_url);
        let mut request = client.get(&url);
        if let Some(key) = &upstream.api_key {
            request = request.bearer_auth(key.expose());
        }
        match request.send().await {
            Err(error) => {
                let error = anyhow::Error::new(error.without_url());
                let message =
                    format!("`{url}` does not answer ({error:#}): check `base_url`, the network and proxies");
                findings.fail(check, message);
            }
            Ok(answer) => {
                skew(&check, &answer, findings);
                judge(&check, &url, upstream, answer.status(), findings);
            }
        }
    }
}

fn judge(check: &str, url: &str, upstream: &Upstream, status: StatusCode, findings: &mut Findings) {
    match status.as_u16() {
        200 => findings.ok(check, format!("`{url}` answers")),
        401 | 403 if upstream.api_key.is_none() => {
            findings.fail(check, format!("`{url}` wants a key: give the upstream an `api_key`"));
        }
        401 | 403 => findings.fail(check, format!("`{url}` does not take the key ({status}): check `api_key`")),
        404 => findings.warn(
            check,
            format!("`{url}` is not there: for OpenAI `base_url` ends with `/v1`; some servers have no list of models"),
        ),
        429 => findings.warn(check, format!("`{url}` asks for fewer requests: is its quota used up?")),
        300..=399 => findings.fail(check, format!("`{url}` sends elsewhere ({status}): give the final URL")),
        500..=599 => findings.warn(check, format!("`{url}` is in trouble ({status})")),
        _ => findings.warn(check, format!("`{url}` answers {status}")),
    }
}

/// The other side's clock, where it tells.
fn skew(check: &str, answer: &reqwest::Response, findings: &mut Findings) {
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    let Some(theirs) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else { return };
    let Ok(ours) = jiff::Timestamp::try_from(SystemTime::now()) else { return };
    let differs_s = theirs.timestamp().duration_since(ours).as_secs();
    if differs_s.abs() > SKEW_SECONDS_MAX {
        let message =
            format!("{check} has a clock that is {differs_s} s away from this one: set this one right (NTP)");
        findings.warn("clock", message);
    }
}

/// Whether the issuer of tokens describes itself as the configuration has it.
pub(super) async fn issuer(config: &Config, findings: &mut Findings) {
    let Some(oidc) = &config.oidc else { return };
    match crate::serve::try_issuer(oidc).await {
        Ok(()) => findings.ok("oidc", format!("`{}` has keys", oidc.issuer)),
        Err(error) => findings.fail("oidc", format!("{error:#}")),
    }
}

/// Whether each destination takes an event.
pub(super) async fn destinations(config: &Config, offline: bool, findings: &mut Findings) {
    let all = match export::all(config).await {
        Ok(all) => all,
        Err(error) => return findings.fail("destinations", format!("{error:#}")),
    };
    if all.is_empty() {
        findings.warn("destinations", "there is none: the audit log stays here; add one to `exports`");
    }
    for destination in &all {
        let check = format!("destination {}", destination.id);
        if offline {
            match destination.check_secrets() {
                Ok(()) => findings.ok(check, "its secret is there; it was not asked"),
                Err((field, error)) => findings.fail(check, format!("`{field}`: {error}")),
            }
            continue;
        }
        match audit::export::test(destination, &SystemClock).await {
            Ok(report) => findings.ok(check, format!("a test event arrived in {} ms", report.round_trip_ms)),
            Err(error) => findings.fail(check, error.to_string()),
        }
    }
}

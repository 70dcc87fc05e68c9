//! The management API as the command line uses it: asked where a gateway answers at the configuration's address, with
//! one of the configuration's own tokens.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::Value;

use crate::config::Config;

/// A gateway on this machine or next to it accepts at once, or is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A gateway's management API.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// Why there is no one to ask.
pub(crate) enum NoGateway {
    /// Nothing accepts connections there.
    NotRunning,
    /// The configuration has no token that may do this.
    NoToken,
}

impl Client {
    /// The API of the gateway that runs with this configuration. `operate` asks for a token that may do more than
    /// read.
    ///
    /// # Errors
    /// Where the HTTP client cannot be set up.
    pub(crate) fn new(config: &Config, operate: bool) -> anyhow::Result<Result<Self, NoGateway>> {
        Self::with(config, |role| !operate || role.may_operate())
    }

    /// The same with the first token whose role fits.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub(crate) fn with(
        config: &Config,
        fits: impl Fn(control::config::Role) -> bool,
    ) -> anyhow::Result<Result<Self, NoGateway>> {
        let Some(token) = config.admin_tokens.iter().find(|token| fits(token.role)) else {
            return Ok(Err(NoGateway::NoToken));
        };
        let Some(host) = reachable(&config.listen) else {
            return Ok(Err(NoGateway::NotRunning));
        };
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("the HTTP client cannot be set up")?;
        let base = format!("http://{host}{}", control::PREFIX);
        Ok(Ok(Self { http, base, token: token.token.expose().to_owned() }))
    }

    /// Asks; without a body `GET`, with one `POST`.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn ask(
        &self,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Result<Value, NoGateway>> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        self.send(method, path, body).await
    }

    /// Asks; of a list, every page as one.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn send_all(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Result<Value, NoGateway>> {
        let mut all = match self.send(method.clone(), path, body).await? {
            Ok(answer) => answer,
            Err(why) => return Ok(Err(why)),
        };
        while let Some(next) = all.get("next").and_then(Value::as_str).filter(|_| method == Method::GET) {
            let separator = if path.contains('?') { '&' } else { '?' };
            let cursor: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
            let more =
                match self.send(Method::GET, &format!("{path}{separator}cursor={cursor}"), None).await? {
                    Ok(more) => more,
                    Err(why) => return Ok(Err(why)),
                };
            let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) else { break };
            for (name, value) in more {
                match (all.get_mut(&name), value) {
                    (Some(Value::Array(entries)), Value::Array(more)) => entries.extend(more),
                    (_, value) => drop(all.insert(name, value)),
                }
            }
        }
        Ok(Ok(all))
    }

    /// Asks.
    ///
    /// # Errors
    /// What the gateway says is wrong, or that what answers there is no gateway.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Result<Value, NoGateway>> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, &url);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = match request.bearer_auth(&self.token).send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Ok(Err(NoGateway::NotRunning)),
            Err(error) => return Err(error.without_url()).with_context(|| format!("{url} did not answer")),
        };
        let status = answer.status();
        let text = answer.bytes().await.with_context(|| format!("{url} did not answer in full"))?;
        let body: Value = serde_json::from_slice(&text).with_context(|| {
            format!("what answers at {url} is no gateway (status {status}): check `listen`")
        })?;
        if !status.is_success() {
            let detail =
                body.pointer("/error/message").and_then(Value::as_str).unwrap_or("it did not say why");
            bail!("the gateway at {url} refused ({status}): {detail}");
        }
        Ok(Ok(body))
    }
}

/// Where to connect for a listener at this address; none where it takes any free port.
pub(crate) fn reachable(listen: &str) -> Option<String> {
    let (host, port) = listen.rsplit_once(':')?;
    if port == "0" {
        return None;
    }
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        other => other,
    };
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_is_reached_on_this_machine() {
        for (listen, expected) in [
            ("127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("0.0.0.0:8080", Some("127.0.0.1:8080")),
            ("[::]:80", Some("[::1]:80")),
            ("gateway.internal:80", Some("gateway.internal:80")),
            ("127.0.0.1:0", None),
        ] {
            assert_eq!(reachable(listen).as_deref(), expected);
        }
    }
}

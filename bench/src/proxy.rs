//! The proxies under test as child processes: their configuration, start, and end.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::corpus;
use crate::load::Target;
use crate::process;

/// How long a proxy may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// Key of the bench's project.
const KEY: &str = "ak_bench0000000000000000000000000000";

/// A running proxy; ended when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    /// Where to send.
    pub target: Target,
}

impl Proxy {
    /// The process that does the work.
    pub(crate) fn pid(&self) -> u32 {
        // `taskset` becomes the program it starts: one process.
        self.child.id()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Ended by force: nothing it would write at its end is of use.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nginx as a plain reverse proxy: one worker, kept-open upstream connections, no access log.
///
/// # Errors
/// Where it is not installed or does not start.
pub(crate) async fn nginx(dir: &Path, cpu: usize, upstream: SocketAddr) -> Result<Proxy> {
    let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
    let program = program.iter().find(|path| Path::new(path).exists()).context("nginx is not installed")?;
    let addr = free_port()?;
    let dir = dir.join("nginx");
    fs::create_dir_all(&dir)?;
    let place = dir.display();
    let conf = dir.join("nginx.conf");
    fs::write(
        &conf,
        format!(
            "daemon off; master_process off; worker_processes 1; pid {place}/pid; error_log {place}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; default_type application/octet-stream; tcp_nodelay on; server_tokens off;
  keepalive_requests 100000000; keepalive_timeout 3600s;
  client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
  upstream model {{ server {upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen {addr};
    location / {{ proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
  }}
}}
"
        ),
    )?;
    let log = File::create(dir.join("stderr.log"))?;
    let child = process::pinned(cpu, program)
        .arg("-p")
        .arg(&dir)
        .arg("-c")
        .arg(&conf)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("taskset (Debian package util-linux) is needed")?;
    let proxy = Proxy { child, target: Target { addr, key: KEY.to_owned() } };
    wait_until(|| std::net::TcpStream::connect(addr).is_ok().then_some(()))
        .await
        .context("nginx does not listen")?;
    Ok(proxy)
}

/// The gateway with the bench's policy, its log durable in `dir`. With `intake` it delivers there.
///
/// # Errors
/// Where it does not start; its own message is in the error.
pub(crate) async fn gateway(
    binary: &Path,
    dir: &Path,
    cpu: usize,
    upstream: SocketAddr,
    intake: Option<(&str, &str)>,
) -> Result<Proxy> {
    fs::create_dir_all(dir)?;
    let policy = dir.join("policy.json");
    fs::write(&policy, corpus::policy().to_string())?;
    let exports: Vec<_> = intake
        .iter()
        .map(|(endpoint, api_key)| {
            json!({"destination": "datadog_logs", "endpoint": endpoint, "api_key": api_key,
                "service": "policy-gateway", "ddsource": "policy-gateway", "tags": ["env:bench"]})
        })
        .collect();
    let config = json!({
        "listen": "127.0.0.1:0",
        "store": format!("sqlite://{}", dir.join("gateway.db").display()),
        "upstreams": [{"name": "mock", "kind": "openai", "base_url": format!("http://{upstream}/v1"),
            "api_key": "sk-bench", "models": ["*"]}],
        "policies": [policy],
        "projects": [{"id": "bench", "policy_id": "bench", "keys": [KEY]}],
        "exports": exports,
    });
    // JSON is YAML: the configuration may be either.
    let config_path = dir.join("gateway.json");
    fs::write(&config_path, config.to_string())?;
    let log_path = dir.join("gateway.log");
    let log = File::create(&log_path)?;
    let child = process::pinned(cpu, absolute(binary)?)
        .args(["serve", "-c"])
        .arg(&config_path)
        .env("RUST_LOG", "warn")
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("taskset (Debian package util-linux) is needed")?;
    let mut proxy = Proxy { child, target: Target { addr: upstream, key: KEY.to_owned() } };
    let listening = wait_until(|| match proxy.child.try_wait() {
        Ok(None) => fs::read_to_string(&log_path).ok().as_deref().and_then(listening_on).map(Some),
        _ => Some(None),
    });
    match listening.await {
        Ok(Some(addr)) => proxy.target.addr = addr,
        _ => bail!("the gateway does not start: {}", fs::read_to_string(&log_path).unwrap_or_default()),
    }
    Ok(proxy)
}

/// The address in `… listening on http://ADDR …`.
fn listening_on(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listening on http://")?;
    // A line that is not whole yet may hold half a port.
    let (line, _) = rest.split_once('\n')?;
    let end = line.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(line.len());
    line.get(..end)?.parse().ok()
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("{} is not there", path.display()))
}

fn free_port() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

async fn wait_until<T>(mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(result) = ready() {
            return Ok(result);
        }
        if start.elapsed() > START_TIME_MAX {
            bail!("not within {}s", START_TIME_MAX.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_text_and_json_lines() {
        let addr = Some(SocketAddr::from(([127, 0, 0, 1], 8080)));
        assert_eq!(listening_on("x\nlistening on http://127.0.0.1:8080\n"), addr);
        assert_eq!(listening_on("{\"message\":\"listening on http://127.0.0.1:8080\"}\n"), addr);
        assert_eq!(listening_on("listening on http://127.0.0.1:80"), None);
    }
}

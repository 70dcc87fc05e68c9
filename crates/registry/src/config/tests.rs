use std::io::Write;

use serde_json::{Value, json};

use super::*;

fn read<T: for<'de> Deserialize<'de>>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn paths(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.path.as_str()).collect()
}

#[test]
fn the_contracts_upstream_is_read_and_defaults_are_filled_in() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"sk-upstream\n").unwrap();
    let config: UpstreamConfig = read(json!({
        "name": "main", "kind": "openai", "base_url": "https://api.openai.com/v1/",
        "api_key": format!("file:{}", file.path().display()), "models": ["*"],
    }));
    let upstream = config.build("upstreams[0]").unwrap();
    assert_eq!(upstream.base_url, "https://api.openai.com/v1");
    assert_eq!(upstream.api_key.as_ref().unwrap().expose(), "sk-upstream");
    assert_eq!((upstream.timeout, upstream.connect_timeout), (TIMEOUT, CONNECT_TIMEOUT));
    assert!(!format!("{upstream:?}").contains("sk-upstream"));
    let bare: UpstreamConfig =
        read(json!({ "name": "main", "kind": "openai", "base_url": "http://[::1]:9" }));
    assert_eq!(bare.build("upstreams[0]").unwrap().models, ["*"]);
}

#[test]
fn everything_wrong_with_an_upstream_is_reported_at_once() {
    let config: UpstreamConfig = read(json!({
        "name": "", "kind": "anthropic", "base_url": "api.openai.com", "api_key": "file:/no/such/file",
        "models": [], "timeout_seconds": 0, "connect_timeout_seconds": 86401,
    }));
    let problems = config.build("upstreams[3]").unwrap_err();
    let names =
        ["name", "kind", "base_url", "api_key", "models", "timeout_seconds", "connect_timeout_seconds"];
    assert_eq!(paths(&problems), names.map(|name| format!("upstreams[3].{name}")));
}

#[test]
fn base_urls_that_cannot_be_called_are_refused_without_being_repeated() {
    for bad in [
        "",
        "api.openai.com/v1",
        "ftp://host/v1",
        "https://",
        "https:///v1",
        "https://user:hush@host/v1",
        "https://host/v1?key=hush",
        "https://host/v1#hush",
        "https://ho st/v1",
    ] {
        let message = check_base_url(bad).unwrap_err();
        assert!(!message.contains("hush"), "{message}");
    }
    for good in ["https://api.openai.com/v1", "http://127.0.0.1:8081/v1", "http://[::1]:1", "https://host"] {
        assert_eq!(check_base_url(good), Ok(()), "{good}");
    }
}

#[test]
fn a_project_needs_no_more_than_its_id() {
    let config: ProjectConfig = read(json!({ "id": "support-bot" }));
    let built = config.build("projects[0]").unwrap();
    assert_eq!(built.project.name, "support-bot");
    assert_eq!(built.project.status, ProjectStatus::Active);
    assert!(built.keys.is_empty());
    assert_eq!(built.project.entitlements, Entitlements::default());
}

#[test]
fn keys_are_text_or_objects() {
    let config: ProjectConfig = read(json!({
        "id": "a", "status": "disabled",
        "keys": ["ak_1", { "key": "ak_2", "name": "second", "expires_at": "2030-01-31T00:00:00Z" }],
    }));
    let built = config.build("projects[0]").unwrap();
    assert_eq!(built.project.status, ProjectStatus::Disabled);
    assert_eq!(built.keys[0].digest, KeyDigest::of("ak_1").unwrap().into());
    assert_eq!(built.keys[1].name.as_deref(), Some("second"));
    assert_eq!(built.keys[1].expires_at_ms, Some(1_896_048_000_000));
}

#[test]
fn everything_wrong_with_a_project_is_reported_at_once_and_no_key_is_repeated() {
    let config: ProjectConfig = read(json!({
        "id": "a b",
        "keys": ["sk_hushhush", { "key": "ak_good", "expires_at": "tomorrow" }, "file:/no/such/file"],
    }));
    let problems = config.build("projects[0]").unwrap_err();
    assert_eq!(
        paths(&problems),
        ["projects[0].id", "projects[0].keys[0]", "projects[0].keys[1].expires_at", "projects[0].keys[2]",]
    );
    assert!(problems.iter().all(|problem| !problem.message.contains("hushhush")), "{problems:?}");
}

#[test]
fn what_is_wrong_inside_a_key_object_is_named() {
    let error = serde_json::from_value::<KeyConfig>(json!({ "key": "ak_1", "expires": "x" })).err().unwrap();
    assert!(error.to_string().contains("unknown field `expires`"), "{error}");
    let error = serde_json::from_value::<KeyConfig>(json!(5)).err().unwrap();
    assert!(error.to_string().contains("a key as text, or an object with `key`"), "{error}");
}

#[test]
fn prices_are_on_the_total_or_on_both_sides() {
    let config: PricingConfig = read(json!({
        "default": { "usd_per_million_tokens": 5.0 },
        "models": { "gpt-4o": { "input_usd_per_million_tokens": 2.5, "output_usd_per_million_tokens": 10 } },
    }));
    let pricing = config.build("pricing").unwrap();
    assert!((pricing.cost_usd("gpt-4o", 1_000_000, 100_000, 0) - 3.5).abs() < 1e-12);
    assert_eq!(read::<PricingConfig>(json!({})).build("pricing").unwrap(), Pricing::default());
    let config: PricingConfig = read(json!({
        "default": {},
        "models": {
            "a": { "input_usd_per_million_tokens": 1 },
            "b": { "usd_per_million_tokens": -1 },
            "c": { "usd_per_million_tokens": 1, "output_usd_per_million_tokens": 1 },
        },
    }));
    assert_eq!(
        paths(&config.build("pricing").unwrap_err()),
        [
            "pricing.default",
            "pricing.models.a",
            "pricing.models.b.usd_per_million_tokens",
            "pricing.models.c"
        ]
    );
}

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;

/// The contract's example, word for word but for the environment (secrets are read from the process's own, which a
/// test cannot set; the tests of the binary do).
const EXAMPLE: &str = r#"
listen: 127.0.0.1:8080              # data plane, management API and console
store: sqlite://data/gateway.db     # or postgres://…; `shared_counters: redis://…` when several gateways run
upstreams:
  - { name: main, kind: openai, base_url: https://api.openai.com/v1, api_key: "file:KEYS/upstream", models: ["*"] }
policies: [policies/*.yaml]         # documents of section 2, reloaded on change and on SIGHUP
projects:
  - { id: support-bot, policy_id: support-guardrails, keys: ["file:KEYS/project"] }
admin_tokens:
  - { name: root, role: admin, token: "file:KEYS/admin" }
pricing: { default: { usd_per_million_tokens: 5.0 } }   # billed on total tokens; per model: input and output prices
moderation: { provider: embedded }  # or openai (base_url, api_key, model) | judge (upstream, model) | none
audit: { on_unavailable: refuse, retention_days: 400 }
exports:
  - { destination: datadog_logs, endpoint: "https://http-intake.logs.datadoghq.com/api/v2/logs", api_key: "file:KEYS/dd",
      service: policy-gateway, ddsource: policy-gateway, tags: ["env:prod", "team:platform"] }
"#;

const POLICY: &str = "policy_id: support-guardrails\nrules:\n  denylist: [credential theft]\n";

struct Folder(TempDir);

impl Folder {
    /// With the example's policy and secrets.
    fn new() -> Self {
        let folder = Self(TempDir::new().unwrap());
        folder.write("policies/support.yaml", POLICY);
        for (name, secret) in [
            ("upstream", "sk-hush-upstream"),
            ("project", "ak_hush-project"),
            ("admin", "hush-admin"),
            ("dd", "hush-dd"),
        ] {
            folder.write(&format!("keys/{name}"), secret);
        }
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn load(&self, text: &str) -> Result<Config, ConfigError> {
        let keys = self.0.path().join("keys");
        let file = self.write("gateway.yaml", &text.replace("KEYS", &keys.display().to_string()));
        Config::load_with(&file, &|name| match name {
            "HOST" => Some("example.com".to_owned()),
            "HUSH" => Some("hush-environment".to_owned()),
            "SMALL" => Some("7".to_owned()),
            "TRUE" => Some("true".to_owned()),
            _ => None,
        })
    }

    /// Problems as they are shown, without the folder.
    fn problems(&self, text: &str) -> Vec<String> {
        let folder = format!("{}/", self.0.path().display());
        match self.load(text) {
            Ok(_) => Vec::new(),
            Err(error) => error.0.iter().map(|problem| problem.to_string().replace(&folder, "")).collect(),
        }
    }

    /// The only problem.
    fn problem(&self, text: &str) -> String {
        let problems = self.problems(text);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.into_iter().next().unwrap()
    }
}

#[test]
fn the_contracts_example_loads() {
    let folder = Folder::new();
    let config = folder.load(EXAMPLE).unwrap();
    assert_eq!(config.listen, "127.0.0.1:8080");
    assert_eq!(config.store, Path::new("data/gateway.db"));
    assert_eq!(config.on_unavailable, OnUnavailable::Refuse);
    assert_eq!(config.retention_days, Some(400));
    assert_eq!(config.admin_tokens[0].token.expose(), "hush-admin");
    assert_eq!(config.exports[0].id, "datadog_logs");
    assert_eq!(config.policies[0].document.policy_id, "support-guardrails");
    let declared = config.declared();
    assert_eq!(declared.base.projects[0].project.id, "support-bot");
    let digest = registry::KeyDigest::of("ak_hush-project").unwrap();
    assert_eq!(declared.base.projects[0].keys[0].digest, digest.into());
    assert_eq!(declared.policies[0].document.policy_id, "support-guardrails");
    let shown = format!("{config:?}");
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn every_inert_section_loads() {
    let folder = Folder::new();
    let more = "egress: { env: [DD_API_KEY], allow: [10.0.0.0/8] }\n\
        plans: { gold: { priority: 9, requests_per_minute: 60 } }\nlimits: { requests_max: 7 }\n";
    let text = EXAMPLE.replace(
        "{ provider: embedded }",
        "{ provider: embedded, base_url: https://x/v1, api_key: $NOT_NEEDED, model: m, upstream: main }",
    );
    let config = folder.load(&format!("{text}{more}")).unwrap();
    assert_eq!(config.limits.requests_max, 7);
}

#[test]
fn secrets_of_escalations_are_asked_for_by_name() {
    let folder = Folder::new();
    let more = "secrets_key: $NO_KEY\nescalations: { webhook_secret: $NO_SECRET }\n\
        smtp: { host: localhost, username: u, password: $NO_PASSWORD, from: a@b.example }\n";
    let error = folder.load(&format!("{EXAMPLE}{more}")).unwrap_err().to_string();
    for (path, name) in [
        ("secrets_key", "NO_KEY"),
        ("escalations.webhook_secret", "NO_SECRET"),
        ("smtp.password", "NO_PASSWORD"),
    ] {
        let told = |line: &str| line.contains(&format!(" {path}: ")) && line.contains(&format!("`{name}`"));
        assert!(error.lines().any(told), "{path} {name} is not in\n{error}");
    }
}

#[test]
fn almost_nothing_is_required() {
    let folder = Folder::new();
    let config = folder.load("listen: localhost:0\n").unwrap();
    assert_eq!(config.store, Path::new("data/gateway.db"));
    assert_eq!(config.retention_days, None);
    assert!(config.declared().base.upstreams.is_empty());
    assert_eq!(folder.load("{}").unwrap().listen, "127.0.0.1:8080");
}

#[test]
fn a_file_that_cannot_be_read_at_all_is_one_problem() {
    let folder = Folder::new();
    assert_eq!(
        folder.problem(""),
        "gateway.yaml: says nothing: a gateway needs at least `upstreams`, `policies` and `projects`"
    );
    assert_eq!(folder.problem("- a\n"), "gateway.yaml:1: must be a mapping, as in `listen: 127.0.0.1:8080`");
    assert_eq!(
        folder.problem("listen: a:1\n---\nlisten: b:1\n"),
        "gateway.yaml:3: a second document: a configuration is one, take out the `---`"
    );
    assert_eq!(
        folder.problem("listen: a:1\nstore: x\nlisten: b:1\n"),
        "gateway.yaml:3: `listen` is given twice in one mapping: keep one"
    );
    assert!(folder.problem("listen: a:1\nstore: [x\nlimits: {}\n").starts_with("gateway.yaml:3: "));
    assert!(
        folder
            .problem("audit: { on_unavailable: ${X} }\n")
            .ends_with("(inside `{ }` and `[ ]`, `${NAME}` must stand in quotes)")
    );
    let missing = Config::load(&folder.0.path().join("none.yaml")).unwrap_err();
    assert!(missing.to_string().contains("none.yaml: cannot be read: No such file"), "{missing}");
    let directory = Config::load(folder.0.path()).unwrap_err();
    assert!(directory.to_string().ends_with("is a directory: name a file"), "{directory}");
}

#[test]
fn problems_of_every_kind_are_reported_together_each_with_its_line() {
    let folder = Folder::new();
    folder.write(
        "policies/bad.yaml",
        "policy_id: bad\nrules:\n  denylst: [x]\norg_controls:\n  audit_logs: false\n",
    );
    let problems = folder.problems(
        "listen: nowhere
store: postgres://db/x
shared_counters: redis://x
upstreams:
  - name: main
    kind: anthropic
    base_url: api.example.com
  - { name: main2, kind: openai, base_url: \"https://$NOPE/v1\" }
policies:
  - policies/*.yaml
  - none/*.yaml
projects:
  - id: a b
    keys: [ak_hush1, sk_hush2]
admin_tokens:
  - { name: root, role: owner, token: hush3 }
pricing: { default: { usd_per_million_tokens: -1 } }
audit: { retention_days: 0 }
exports:
  - { destination: splunk_hec, endpoint: x }
limits:
  requests_max: 0
colour: red
",
    );
    let places: Vec<String> =
        problems.iter().map(|problem| problem.splitn(4, ':').take(3).collect::<Vec<_>>().join(":")).collect();
    assert_eq!(
        places,
        [
            "gateway.yaml:1: listen",
            "gateway.yaml:2: store",
            "gateway.yaml:3: shared_counters",
            "gateway.yaml:6: upstreams[0].kind",
            "gateway.yaml:7: upstreams[0].base_url",
            "gateway.yaml:8: upstreams[1].base_url",
            "gateway.yaml:11: policies[1]",
            "gateway.yaml:13: projects[0].id",
            "gateway.yaml:14: projects[0].keys[1]",
            "gateway.yaml:16: admin_tokens[0].role",
            "gateway.yaml:17: pricing.default.usd_per_million_tokens",
            "gateway.yaml:18: audit.retention_days",
            "gateway.yaml:20: exports[0].token",
            "gateway.yaml:22: limits.requests_max",
            "gateway.yaml:23: colour",
            "policies/bad.yaml:3: rules.denylst",
            "policies/bad.yaml:5: org_controls.audit_logs",
        ],
        "{problems:#?}"
    );
    assert!(problems.iter().all(|problem| !problem.contains("hush")), "{problems:#?}");
}

#[test]
fn names_that_nothing_has_are_problems_where_they_stand() {
    let folder = Folder::new();
    let problems = folder.problems(
        "policies: [policies/*.yaml]
projects:
  - id: a
    policy_id: nope
    keys: [ak_1]
  - id: a
    policy_id: support-guardrails
    keys: [ak_1]
    entitlements:
      upstreams: [nope]
",
    );
    let starts = [
        "gateway.yaml:4: projects[0].policy_id: there is no policy `nope`",
        "gateway.yaml:6: projects[1].id: project `a` is declared twice",
        "gateway.yaml:8: projects[1].keys[0]: the same key is already one of project `a`",
        "gateway.yaml:10: projects[1].entitlements.upstreams[0]: there is no upstream `nope`",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[test]
fn a_broken_section_does_not_make_names_seem_unknown() {
    let folder = Folder::new();
    folder.write("policies/support.yaml", "policy_id: support-guardrails\nrules: 5\n");
    let problem = folder.problem(EXAMPLE);
    assert!(problem.starts_with("policies/support.yaml:2: rules: "), "{problem}");
}

#[test]
fn settings_that_are_on_and_not_built_stop_the_load() {
    let folder = Folder::new();
    folder.write(
        "policies/support.yaml",
        "policy_id: support-guardrails\nrules:\n  flagged_categories: [hate]\n",
    );
    let config = folder.load(EXAMPLE).unwrap();
    assert!(matches!(config.desired.moderation.provider, registry::moderation::Provider::Embedded));
    let nobody = EXAMPLE.replace("provider: embedded", "provider: none");
    let problem = folder.problem(&nobody);
    assert!(problem.starts_with("policies/support.yaml:1: rules.flagged_categories: "), "{problem}");
    let judge = EXAMPLE.replace("provider: embedded", "provider: judge, upstream: other");
    assert!(folder.load(&judge).unwrap_err().to_string().contains("moderation.upstream: `other`"));
    let remote = EXAMPLE.replace("provider: embedded", "provider: openai, api_key: $NO_SUCH_KEY");
    let problem = folder.problem(&remote);
    assert!(problem.contains("moderation.api_key") && problem.contains("NO_SUCH_KEY"), "{problem}");
    folder.write("policies/support.yaml", POLICY);
    let plan = EXAMPLE.replace("id: support-bot,", "id: support-bot, plan: gold,");
    let problem = folder.problem(&format!("{plan}plans: {{ free: {{}} }}\n"));
    assert!(problem.starts_with("gateway.yaml:8: projects[0].plan: there is no plan `gold`"), "{problem}");
    let problem = folder.problem(&format!("{plan}plans: {{ gold: {{ requests_per_minute: -1 }} }}\n"));
    assert!(problem.contains("plans.gold.requests_per_minute: "), "{problem}");
}

#[test]
fn policy_files_may_be_json_and_hold_several_documents_but_each_policy_once() {
    let folder = Folder::new();
    folder.write("more/two.yaml", "policy_id: a\nrules: {}\n---\npolicy_id: b\nrules: {}\n");
    folder.write("more/c.json", "{\n\t\"policy_id\": \"c\",\n\t\"rules\": {}\n}\n");
    let config = folder.load("policies: [\"more/*.yaml\", more/c.json, \"more/*\"]\n").unwrap();
    let ids: Vec<_> = config.policies.iter().map(|policy| policy.document.policy_id.as_str()).collect();
    assert_eq!(ids, ["c", "a", "b"]);
    folder.write("more/z.yaml", "# again\npolicy_id: b\nrules: {}\n");
    let problem = folder.problem("policies: [\"more/*\"]\n");
    assert!(problem.starts_with("more/z.yaml:2: policy_id: policy `b` is declared in "), "{problem}");
    folder.write("more/z.yaml", "# nothing\n");
    assert_eq!(
        folder.problem("policies: [\"more/*\"]\n"),
        "more/z.yaml: holds no policy document: it needs at least `policy_id` and `rules`"
    );
}

#[test]
fn the_environment_fills_values_but_not_messages_and_not_policies() {
    let folder = Folder::new();
    folder.write("policies/support.yaml", "policy_id: support-guardrails\nrules: {denylist: [$NOPE]}\n");
    let config =
        folder.load(&EXAMPLE.replace("https://api.openai.com/v1", "\"https://${HOST}/v1\"")).unwrap();
    assert_eq!(config.desired.upstreams[0].base_url, "https://example.com/v1");
    assert_eq!(config.policies[0].document.rules.denylist, ["$NOPE"]);
    for text in [
        "store: $HUSH\n",
        "policies: [$HUSH]\n",
        "policies: $HUSH\n",
        "audit: { on_unavailable: $HUSH }\n",
        "projects: [{ id: a, policy_id: $HUSH }]\n",
        "projects: [{ id: a, status: $HUSH }]\n",
        "upstreams: [{ name: a, kind: $HUSH, base_url: http://a }]\n",
        "upstreams: [{ name: a, kind: openai, base_url: $HUSH }]\n",
        "exports: [{ destination: $HUSH }]\n",
        "exports: [{ destination: datadog_logs, api_key: a, site: x, id: $HUSH, compression: $HUSH }]\n",
        "limits: { requests_max: $HUSH }\n",
    ] {
        let problems = folder.problems(text);
        assert!(!problems.is_empty(), "{text}");
        assert!(problems.iter().all(|problem| !problem.contains("hush")), "{problems:#?}");
    }
    let problem = folder.problem("listen: ${NOPE}\n");
    assert_eq!(
        problem,
        "gateway.yaml:1: listen: the environment variable `NOPE` is not set: set it, or write `$$` for a plain `$`"
    );
}

#[test]
fn a_lone_reference_may_stand_for_a_number() {
    let folder = Folder::new();
    let config =
        folder.load("limits: { requests_max: $SMALL }\naudit: { retention_days: \"${SMALL}\" }\n").unwrap();
    assert_eq!((config.limits.requests_max, config.retention_days), (7, Some(7)));
    assert_eq!(folder.problems("limits: { requests_max: $TRUE }\n").len(), 1);
    assert_eq!(folder.problems("limits: { requests_max: \"$SMALL$SMALL\" }\n").len(), 1);
}

#[test]
fn addresses_and_stores_are_checked() {
    let folder = Folder::new();
    for good in ["127.0.0.1:0", "\"[::1]:8080\"", "localhost:80", "\"0.0.0.0:65535\""] {
        assert_eq!(folder.problems(&format!("listen: {good}\n")), Vec::<String>::new(), "{good}");
    }
    for bad in ["8080", "\":8080\"", "host", "host:http", "host:65536", "\"::1:80\"", "http://host:80"] {
        assert_eq!(folder.problems(&format!("listen: {bad}\n")).len(), 1, "{bad}");
    }
    assert_eq!(validate::store_path("sqlite:///var/lib/x.db"), Ok(PathBuf::from("/var/lib/x.db")));
    for bad in ["sqlite://", "gateway.db", "mysql://x", "postgres://x", "postgresql://x"] {
        assert!(validate::store_path(bad).is_err(), "{bad}");
    }
}

#[test]
fn policies_are_read_again_alone_and_all_or_nothing() {
    let folder = Folder::new();
    let mut config = folder.load(EXAMPLE).unwrap();
    let stamp = config.policy_stamp.clone();
    folder.write("policies/support.yaml", "policy_id: support-guardrails\nrules: {denylist: [one, two]}\n");
    folder.write("gateway.yaml", "broken: [");
    config.reload_policies().unwrap();
    assert_eq!(config.policies[0].document.rules.denylist, ["one", "two"]);
    assert_ne!(config.policy_stamp, stamp);
    folder.write("policies/support.yaml", "policy_id: renamed\nrules: {}\n");
    let error = config.reload_policies().unwrap_err();
    assert!(
        error.to_string().contains("projects[0].policy_id: there is no policy `support-guardrails`"),
        "{error}"
    );
    assert_eq!(config.policies[0].document.policy_id, "support-guardrails");
}

#[test]
fn the_schema_describes_every_field() {
    let schema = serde_json::to_value(schemars::schema_for!(RawConfig)).unwrap();
    let mut undescribed = Vec::new();
    let definitions =
        schema["$defs"].as_object().unwrap().iter().map(|(name, schema)| (name.as_str(), schema));
    for (name, schema) in definitions.chain([("config", &schema)]) {
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            let described = schema.get("description").is_some() || schema.get("$ref").is_some();
            if !described && schema.get("const").is_none() {
                undescribed.push(format!("{name}.{field}"));
            }
        }
    }
    assert_eq!(undescribed, Vec::<String>::new());
    for section in
        ["listen", "upstreams", "projects", "exports", "audit", "limits", "moderation", "plans", "egress"]
    {
        assert!(schema["properties"].get(section).is_some(), "{section}");
    }
    assert_eq!(schema["additionalProperties"], json!(false));
}

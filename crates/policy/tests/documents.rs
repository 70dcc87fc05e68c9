//! Policy documents: the contract's sample, what is invalid, what is not supported, digests and the schema.

#![allow(clippy::unwrap_used, reason = "this whole binary is a test")]

use policy::document::{QuotaWindow, ResponseMode};
use policy::{Decision, PolicyDocument, Problem, ReasonCode, Revision};
use serde_json::{Value, json};

/// The sample of the outside contract, word for word.
fn sample() -> Value {
    serde_json::from_str(
        r#"{ "policy_id": "support-guardrails", "name": "Support guardrails", "owner": "Platform team", "description": "…",
  "rules": { "allowlist": ["refund policy"], "denylist": ["credential theft"],
    "flagged_categories": ["self-harm/intent", "sexual/minors"], "redact": true,
    "response_pattern": "rewrite", "rewrite_instead_of_refuse": true, "response_mode": "completion", "scan_system": false,
    "reason_codes": ["ALLOW","REDACT","REWRITE","SUMMARY","ESCALATE","REFUSE"], "overrides": [] },
  "org_controls": { "project_keys": true, "user_quotas": true, "audit_logs": true, "data_classification": "confidential",
    "user_quota": {"requests": 200, "tokens": 20000, "window": "daily"},
    "project_quota": {"requests": 20000, "tokens": 2000000, "window": "monthly"} },
  "rollout": { "shadow": {"enabled": false, "sample_percent": 10, "targets": []},
    "canary": {"enabled": false, "sample_percent": 5, "targets": []},
    "rollback_on_spike": true, "rollback_threshold": 0.25, "rollback_min_requests": 20, "rollback_window_minutes": 15,
    "rollback_cooldown_minutes": 30, "rollback_decisions": ["refuse","escalate"], "rollback_resume": "manual" },
  "refusal_replacement": { "mode": "rewrite", "message": "…", "escalation_path": "policy-review@example.com" } }"#,
    )
    .unwrap()
}

/// The sample with the value at a JSON pointer replaced.
fn rules(rules: Value) -> Value {
    json!({"policy_id": "p", "rules": rules})
}

fn problems(document: &Value) -> Vec<Problem> {
    PolicyDocument::parse(document).err().unwrap_or_default()
}

fn paths(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.path.as_str()).collect()
}

#[test]
fn the_sample_parses() {
    let document = PolicyDocument::parse(&sample()).unwrap();
    assert_eq!(document.org_controls.project_quota.unwrap().window, QuotaWindow::Monthly);
}

#[test]
fn only_the_id_and_the_rules_are_required() {
    let document = PolicyDocument::parse(&json!({"policy_id": "p", "rules": {}})).unwrap();
    let revision = Revision::compile(document, 3).unwrap();
    assert_eq!((revision.policy_id(), revision.number()), ("p", 3));
    assert_eq!(revision.response_mode(), ResponseMode::Completion);
    assert_eq!(revision.violation_decision(), Decision::Refuse);
    assert!(!revision.redacts() && !revision.scan_system() && !revision.has_output_rules());
    assert!(!revision.refusal_message().is_empty());
    assert_eq!(paths(&problems(&json!({}))), ["policy_id", "rules"]);
    assert_eq!(paths(&problems(&json!(null))), [""]);
}

#[test]
fn all_problems_come_at_once_shape_and_meaning_together() {
    let found = problems(&json!({
        "policy_id": "no spaces allowed",
        "polcy_name": "x",
        "rules": {
            "denylist": ["fine", "", " \u{200b} ", 7, "\u{301}", "x".repeat(513)],
            "allowlist": "refund",
            "flagged_categories": ["hate", "rudeness"],
            "response_pattern": "rewite",
            "redact": "yes",
            "reason_codes": ["ALLOW"],
            "overrides": [{"term": "other", "action": "allow"}, {"action": "allow", "entity": "EMAIL"}, {"target": "t"}],
        },
        "org_controls": {"audit_logs": false, "project_keys": false, "user_quota": {"requests": -1}},
        "rollout": {
            "shadow": {"enabled": true, "sample_percent": 101},
            "canary": {"enabled": true},
            "rollback_threshold": 1.5,
            "rollback_window_minutes": 0,
            "rollback_decisions": ["block"],
        },
        "refusal_replacement": {"escalation_path": "somewhere"},
    }));
    let expected = [
        "policy_id",
        "polcy_name",
        "rules.denylist[1]",
        "rules.denylist[2]",
        "rules.denylist[3]",
        "rules.denylist[4]",
        "rules.denylist[5]",
        "rules.allowlist",
        "rules.flagged_categories[1]",
        "rules.response_pattern",
        "rules.redact",
        "rules.reason_codes",
        "rules.overrides[0].term",
        "rules.overrides[1].entity",
        "rules.overrides[2]",
        "org_controls.audit_logs",
        "org_controls.project_keys",
        "org_controls.user_quota.requests",
        "rollout.shadow.sample_percent",
        "rollout.rollback_threshold",
        "rollout.rollback_window_minutes",
        "rollout.rollback_decisions[0]",
        "refusal_replacement.escalation_path",
    ];
    for path in expected {
        assert!(paths(&found).contains(&path), "{path} is not in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn shadow_and_canary_together_are_a_problem_of_the_whole_block() {
    let both = json!({"shadow": {"enabled": true}, "canary": {"enabled": true}});
    let found = problems(&json!({"policy_id": "p", "rules": {}, "rollout": both}));
    assert_eq!(paths(&found), ["rollout"]);
}

#[test]
fn a_rollout_that_could_not_be_taken_back_is_a_problem_where_it_is_on() {
    let rollout = |on: bool, more: Value| {
        let mut rollout = json!({"canary": {"enabled": on, "sample_percent": 100}});
        rollout.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        paths(&problems(&json!({"policy_id": "p", "rules": {}, "rollout": rollout}))).join(" ")
    };
    let (long, blind) = (json!({"rollback_window_minutes": 43_201}), json!({"rollback_decisions": []}));
    assert_eq!(rollout(true, long.clone()), "rollout.rollback_window_minutes");
    assert_eq!(rollout(true, blind.clone()), "rollout.rollback_decisions");
    assert_eq!(rollout(true, json!({"rollback_decisions": [], "rollback_on_spike": false})), "");
    assert_eq!(rollout(true, json!({"rollback_window_minutes": 43_200})), "");
    assert_eq!((rollout(false, long), rollout(false, blind)), (String::new(), String::new()));
}

#[test]
fn messages_say_how_to_fix_it() {
    let found = problems(&rules(json!({"denylst": ["x"], "response_pattern": "block"})));
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(
        text.iter()
            .any(|line| line.starts_with("rules.denylst: unknown field `denylst`: did you mean `denylist`?"))
    );
    assert!(text.iter().any(|line| line.contains("`rewrite`, `summary`, `escalate`, `refuse`")), "{text:#?}");
}

#[test]
fn every_reachable_reason_code_must_be_listed() {
    let missing = |rules: Value, codes: &[&str]| {
        let mut document = self::rules(rules);
        document["rules"]["reason_codes"] = json!(codes);
        let found = problems(&document);
        assert!(found.iter().all(|problem| problem.path == "rules.reason_codes"), "{found:?}");
        found.iter().map(|problem| problem.message.split('`').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let none: &[&str] = &[];
    assert_eq!(missing(json!({}), none), ["ALLOW"]);
    assert_eq!(missing(json!({}), &["ALLOW"]), none);
    assert_eq!(missing(json!({"redact": true}), &["ALLOW"]), ["REDACT"]);
    assert_eq!(missing(json!({"denylist": ["a"]}), &["ALLOW"]), ["REFUSE"]);
    assert_eq!(
        missing(json!({"flagged_categories": ["hate"], "response_pattern": "summary"}), &["ALLOW"]),
        ["SUMMARY"]
    );
    assert_eq!(missing(json!({"allowlist": ["a"], "response_pattern": "escalate"}), &["ALLOW"]), ["REFUSE"]);
    assert_eq!(
        missing(json!({"allowlist": ["a"], "rewrite_instead_of_refuse": true}), &["ALLOW"]),
        ["REWRITE"]
    );
    assert_eq!(
        missing(
            json!({"denylist": ["a"], "response_pattern": "escalate", "rewrite_instead_of_refuse": true}),
            &["ALLOW"]
        ),
        ["ESCALATE"]
    );
    // A pattern that nothing fires is inert.
    assert_eq!(missing(json!({"response_pattern": "escalate"}), &["ALLOW"]), none);
}

#[test]
fn settings_of_categories_are_checked() {
    let found = |rules_of: Value| {
        let found = problems(&rules(rules_of));
        found.iter().map(|problem| problem.path.clone()).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(
        found(json!({
            "flagged_categories": ["self-harm", "sexual/minors", "prompt-injection", "jailbreak"],
            "moderation": {"mode": "block", "on_unavailable": "allow", "categories": {
                "self-harm": {"threshold": 0.7, "mode": "log"},
                "prompt-injection": {"threshold": 1, "tool_threshold": 0.4},
            }},
        })),
        none
    );
    assert_eq!(
        found(json!({
            "flagged_categories": ["hate", "sexual", "hate"],
            "moderation": {"categories": {
                "hate": {"threshold": 0.0, "tool_threshold": 1.1},
                "violence": {"threshold": 0.5},
            }},
        })),
        [
            "rules.flagged_categories[2]",
            "rules.moderation.categories.hate.threshold",
            "rules.moderation.categories.hate.tool_threshold",
            "rules.moderation.categories.violence",
        ]
    );
    assert_eq!(found(json!({"flagged_categories": ["Hate"]})), ["rules.flagged_categories[0]"]);
    assert_eq!(found(json!({"moderation": {"mode": "warn"}})), ["rules.moderation.mode"]);
    // What only logs comes to nothing that `reason_codes` would have to list.
    let logs = |mode: &str| {
        found(
            json!({"flagged_categories": ["hate"], "reason_codes": ["ALLOW"], "moderation": {"mode": mode}}),
        )
    };
    assert_eq!(logs("log"), none);
    assert_eq!(logs("block"), ["rules.reason_codes"]);
}

#[test]
fn overrides_name_one_subject_that_exists_and_do_not_contradict() {
    let found = |overrides: Value| {
        let found = problems(&rules(json!({
            "denylist": ["Napalm"],
            "flagged_categories": ["hate"],
            "redact": true,
            "overrides": overrides,
        })));
        found.iter().map(|problem| problem.path.replace("rules.overrides", "")).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    let good = json!([
        {"term": "NAPALM", "action": "allow", "targets": ["lab", "chem"]},
        {"term": "napalm", "action": "rewrite", "targets": ["lab"]},
        {"term": "napalm", "action": "escalate", "reason_code": "WEAPONS_1"},
        {"term": "napalm", "action": "escalate", "reason_code": "WEAPONS_1"},
        {"category": "hate", "reason_code": "HATE"},
        {"entity": "US_SSN", "action": "refuse"},
        {"target": "red-team", "action": "allow"},
    ]);
    assert_eq!(found(good), none);
    assert_eq!(
        found(json!([
            {"term": "napalm", "target": "lab", "action": "allow"},
            {"targets": ["lab"], "action": "allow"},
            {"term": "napalm"},
            {"term": "petrol", "action": "allow"},
            {"category": "hate/threatening", "action": "refuse"},
            {"target": "", "action": "allow"},
            {"target": "a", "targets": ["b"], "action": "allow"},
            {"term": "napalm", "targets": ["a", ""], "action": "allow"},
        ])),
        ["[0]", "[1]", "[2]", "[3].term", "[4].category", "[5].target", "[6].targets", "[7].targets[1]"]
    );
    assert_eq!(
        found(json!([
            {"term": "napalm", "action": "allow", "targets": ["a", "b"]},
            {"term": "Napalm", "action": "refuse", "targets": ["b", "a"]},
            {"target": "t", "action": "allow", "reason_code": "A"},
            {"target": "t", "action": "allow", "reason_code": "B"},
        ])),
        ["[1]", "[3]"]
    );
    let off = rules(json!({"overrides": [{"entity": "US_SSN", "action": "refuse"}]}));
    assert_eq!(paths(&problems(&off)), ["rules.overrides[0].entity"]);
}

#[test]
fn a_policy_may_have_codes_of_its_own_and_lists_them() {
    let document = |codes: Value, code: &str| {
        rules(json!({
            "denylist": ["napalm"],
            "reason_codes": codes,
            "overrides": [{"term": "napalm", "action": "refuse", "reason_code": code}],
        }))
    };
    assert_eq!(problems(&document(json!(["ALLOW", "WEAPONS_1"]), "WEAPONS_1")), []);
    let missing = problems(&document(json!(["ALLOW", "REFUSE"]), "WEAPONS_1"));
    assert_eq!(paths(&missing), ["rules.reason_codes"]);
    assert!(missing[0].message.contains("`WEAPONS_1`"), "{missing:?}");
    let typo = problems(&document(json!(["ALLOW", "WEAPONS_1", "REFUZE"]), "WEAPONS_1"));
    assert_eq!(paths(&typo), ["rules.reason_codes[2]"]);
    for bad in ["", "lower", "WITH SPACE", "É", &"A".repeat(65)] {
        let found = problems(&document(json!(["ALLOW"]), bad));
        assert!(paths(&found).contains(&"rules.overrides[0].reason_code"), "{bad}: {found:?}");
        assert!(found[0].message.contains("capital letters"), "{found:?}");
    }
    // What an override always decides, the pattern's own code decides no more; one for a target leaves it reachable.
    let scoped = rules(json!({
        "denylist": ["napalm"],
        "reason_codes": ["ALLOW", "LAB"],
        "overrides": [{"term": "napalm", "targets": ["lab"], "action": "allow", "reason_code": "LAB"}],
    }));
    assert_eq!(paths(&problems(&scoped)), ["rules.reason_codes"]);
    let schema = PolicyDocument::schema();
    let codes = schema["$defs"]["ReasonCode"]["anyOf"].as_array().unwrap();
    assert!(codes.iter().any(|choice| choice["const"] == "REDACT"));
    assert!(codes.iter().any(|choice| choice["pattern"] == "^[A-Z0-9_]{1,64}$"));
}

#[test]
fn a_document_tells_the_decisions_it_may_come_to() {
    let reachable = |value: Value| {
        let document = PolicyDocument::parse(&rules(value)).unwrap();
        document.reachable_decisions().into_iter().collect::<Vec<_>>()
    };
    use Decision::{Allow, Escalate, Refuse, Rewrite, Summary};
    assert_eq!(reachable(json!({"response_pattern": "summary"})), [Allow]);
    assert_eq!(
        reachable(json!({"denylist": ["a"], "allowlist": ["b"], "response_pattern": "summary"})),
        [Allow, Summary, Refuse]
    );
    assert_eq!(reachable(json!({"unscannable": "escalate"})), [Allow, Escalate]);
    assert_eq!(
        reachable(json!({"denylist": ["a"], "overrides": [{"term": "A", "action": "rewrite"}]})),
        [Allow, Rewrite]
    );
    assert_eq!(
        reachable(
            json!({"denylist": ["a"], "overrides": [{"term": "a", "targets": ["t"], "action": "rewrite"}]})
        ),
        [Allow, Rewrite, Refuse]
    );
    assert_eq!(
        reachable(json!({"redact": true, "overrides": [{"entity": "SECRET", "action": "rewrite"}]})),
        [Allow]
    );
    assert_eq!(
        reachable(json!({"redact": true, "overrides": [{"entity": "SECRET", "action": "escalate"}]})),
        [Allow, Escalate]
    );
    assert_eq!(reachable(json!({"overrides": [{"target": "t", "action": "escalate"}]})), [Allow]);
    assert_eq!(
        reachable(json!({"allowlist": ["a"], "overrides": [{"target": "t", "action": "escalate"}]})),
        [Allow, Escalate, Refuse]
    );
}

#[test]
fn the_digest_depends_on_meaning_alone() {
    let digest = |value: &Value| PolicyDocument::parse(value).unwrap().digest();
    let plain = json!({"policy_id": "p", "rules": {"denylist": ["a"]}});
    let spelled_out = json!({
        "rules": {"redact": false, "denylist": ["a"], "allowlist": []},
        "rollout": {"shadow": {"targets": [], "enabled": false}},
        "policy_id": "p",
        "org_controls": {"audit_logs": true},
    });
    assert_eq!(digest(&plain), digest(&spelled_out));
    assert_ne!(digest(&plain), digest(&json!({"policy_id": "p", "rules": {"denylist": ["b"]}})));

    let shadow =
        json!({"policy_id": "p", "rules": {"denylist": ["a"]}, "rollout": {"shadow": {"enabled": true}}});
    assert_ne!(digest(&plain), digest(&shadow));
    let without = |value: &Value| PolicyDocument::parse(value).unwrap().digest_without_rollout();
    assert_eq!(without(&plain), without(&shadow));
    assert_ne!(without(&plain), digest(&plain));
}

#[test]
fn a_document_written_out_reads_back_the_same() {
    let document = PolicyDocument::parse(&sample()).unwrap();
    let written = serde_json::to_value(&document).unwrap();
    assert_eq!(written, sample());
    assert_eq!(PolicyDocument::parse(&written).unwrap(), document);
}

#[test]
fn the_schema_describes_every_field_and_requires_two() {
    let schema = PolicyDocument::schema();
    assert_eq!(schema["required"], json!(["policy_id", "rules"]));
    assert_eq!(schema["additionalProperties"], json!(false));
    let mut undescribed = Vec::new();
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        for (field, property) in definition["properties"].as_object().into_iter().flatten() {
            if property.get("description").is_none() {
                undescribed.push(format!("{name}.{field}"));
            }
        }
    }
    assert!(undescribed.is_empty(), "{undescribed:?}");
}

#[test]
fn a_revision_tells_what_its_policy_says() {
    let revision = Revision::compile(PolicyDocument::parse(&sample()).unwrap(), 1).unwrap();
    assert_eq!(revision.data_classification(), Some("confidential"));
    assert_eq!(revision.refusal_message(), "…");
    assert_eq!(revision.violation_decision(), Decision::Rewrite);
    assert!(revision.redacts() && revision.has_output_rules());
    assert_eq!(revision.digest(), &PolicyDocument::parse(&sample()).unwrap().digest());
    assert_eq!(revision.mask(), "███");
    let denied =
        Revision::compile(PolicyDocument::parse(&rules(json!({"denylist": ["a█"]}))).unwrap(), 1).unwrap();
    assert!(!denied.mask().contains('█'));
    let invalid = PolicyDocument { policy_id: String::new(), ..PolicyDocument::parse(&sample()).unwrap() };
    assert_eq!(paths(&Revision::compile(invalid, 1).unwrap_err()), ["policy_id"]);
}

#[test]
fn templates_are_the_policys_or_the_defaults_and_name_nothing_denied() {
    let compiled =
        |rules: Value| Revision::compile(PolicyDocument::parse(&self::rules(rules)).unwrap(), 1).unwrap();
    let texts = |revision: &Revision| {
        [Decision::Rewrite, Decision::Summary]
            .map(|decision| [revision.instruction(decision).to_owned(), revision.prompt(decision).to_owned()])
            .concat()
    };
    let defaults = texts(&compiled(json!({})));
    assert!(defaults.iter().all(|text| text.contains("usage policy")));
    assert_eq!(defaults.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    let own = compiled(json!({"denylist": ["napalm"], "templates": {
        "rewrite_instruction": "a", "rewrite_prompt": "b", "summary_instruction": "c", "summary_prompt": "d"}}));
    assert_eq!(texts(&own), ["a", "b", "c", "d"]);
    // A default that has a denied word goes without it.
    let denied =
        compiled(json!({"denylist": ["usage  POLICY", "answer"], "templates": {"summary_prompt": "d"}}));
    for text in texts(&denied) {
        let (changed, _) = policy::scan_text(
            &denied,
            &policy::Subject::default(),
            &text,
            policy::OutputMode::Mask,
            &mut policy::Masker::new(),
        );
        assert_eq!(changed, None, "{text}");
    }
    assert_eq!(denied.prompt(Decision::Summary), "d");
}

#[test]
fn templates_that_cannot_stand_are_named() {
    let templates = |templates: Value| {
        let document = rules(json!({"denylist": ["napalm", "", "x y"], "templates": templates}));
        let found = problems(&document);
        found
            .into_iter()
            .filter(|problem| problem.path.starts_with("rules.templates"))
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect::<Vec<_>>()
    };
    let none: &[&str] = &[];
    assert_eq!(templates(json!({"rewrite_prompt": "be good", "summary_prompt": "é".repeat(4000)})), none);
    assert_eq!(
        templates(json!({"rewrite_instruction": "never say ＮＡＰＡＬＭ", "rewrite_prompt": "x\ny",
            "summary_instruction": " ", "summary_prompt": "é".repeat(4001)})),
        [
            "rules.templates.rewrite_instruction: has `napalm` of `rules.denylist`, which the model would read: \
             say it without",
            "rules.templates.rewrite_prompt: has `x y` of `rules.denylist`, which the model would read: say it \
             without",
            "rules.templates.summary_instruction: is empty: write a text, or leave it out for the default",
            "rules.templates.summary_prompt: is longer than 4000 characters: shorten it",
        ]
    );
    assert_eq!(problems(&rules(json!({"templates": {"rewrite": "x"}})))[0].path, "rules.templates.rewrite");
}

#[test]
fn a_revision_lists_its_reason_codes() {
    let lists = |codes: Value| {
        let rules = json!({"denylist": ["a"], "response_pattern": "summary", "reason_codes": codes});
        let revision = Revision::compile(PolicyDocument::parse(&self::rules(rules)).unwrap(), 1).unwrap();
        revision.lists(&ReasonCode::Refuse)
    };
    assert!(lists(Value::Null));
    assert!(lists(json!(["ALLOW", "SUMMARY", "REFUSE"])));
    assert!(!lists(json!(["ALLOW", "SUMMARY"])));
}

#[test]
fn a_revision_tells_whether_an_answer_may_give_way_to_a_summary() {
    let may = |rules: Value| {
        Revision::compile(PolicyDocument::parse(&self::rules(rules)).unwrap(), 1).unwrap().may_sum_up()
    };
    assert!(may(json!({"denylist": ["a"], "response_pattern": "summary"})));
    assert!(may(json!({"denylist": ["a"], "overrides": [{"term": "a", "action": "summary"}]})));
    assert!(!may(json!({"denylist": ["a"], "response_pattern": "rewrite"})));
    assert!(!may(json!({"redact": true, "response_pattern": "summary"})));
}

#[test]
fn revisions_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Revision>();
}

#[test]
fn a_redaction_block_is_checked() {
    let with = |redaction: Value| rules(json!({"redact": true, "redaction": redaction}));
    for (redaction, expected) in [
        (json!({"entities": []}), &["rules.redaction.entities"][..]),
        (json!({"entities": ["EMAIL_ADDRESS", "PERSON"]}), &["rules.redaction.entities[1]"]),
        (json!({"entities": ["US_SSN", "US_SSN"]}), &["rules.redaction.entities[1]"]),
        (json!({"action": "delete"}), &["rules.redaction.action"]),
        (json!({"actions": {"SECRET": "delete"}}), &["rules.redaction.actions"]),
        (json!({"entities": ["US_SSN"], "actions": {"SECRET": "mask"}}), &["rules.redaction.actions.SECRET"]),
        (json!({"restore": true, "action": "hash"}), &["rules.redaction.action"]),
        (json!({"restore": true, "actions": {"SECRET": "partial"}}), &["rules.redaction.actions.SECRET"]),
        (json!({"restore": true, "actions": {"SECRET": "refuse"}}), &[]),
        (json!({"action": "hash", "hash_salt": " "}), &["rules.redaction.hash_salt"]),
        (json!({"action": "hash", "hash_key": "x"}), &["rules.redaction.hash_key"]),
    ] {
        assert_eq!(paths(&problems(&with(redaction.clone()))), expected, "{redaction}");
    }
    let inert = rules(json!({"redaction": {"action": "escalate", "restore": true}}));
    assert_eq!(paths(&problems(&inert)), ["rules.redaction.action"]);
}

#[test]
fn a_refused_entity_type_makes_its_decision_reachable() {
    let with = |codes: Value, action: &str| {
        let redaction = json!({"actions": {"SECRET": action}});
        rules(json!({"redact": true, "redaction": redaction, "reason_codes": codes}))
    };
    assert_eq!(problems(&with(json!(["ALLOW", "REDACT"]), "hash")), []);
    assert_eq!(paths(&problems(&with(json!(["ALLOW", "REDACT"]), "refuse"))), ["rules.reason_codes"]);
    assert_eq!(problems(&with(json!(["ALLOW", "REDACT", "REFUSE"]), "refuse")), []);
    assert_eq!(paths(&problems(&with(json!(["ALLOW", "REDACT"]), "escalate"))), ["rules.reason_codes"]);
}

#[test]
fn escalation_has_its_terms_and_a_policy_says_whether_it_can_come_to_it() {
    let policy = |rules: Value, replacement: Value| {
        PolicyDocument::parse(&json!({"policy_id": "p", "rules": rules, "refusal_replacement": replacement}))
    };
    let rules = json!({"denylist": ["a"], "response_pattern": "escalate"});
    let plain = policy(rules.clone(), json!({})).unwrap();
    let terms = plain.refusal_replacement.escalation;
    assert_eq!((terms.sla_minutes, terms.grant_minutes), (1440, 60));
    assert!(plain.can_escalate());
    assert!(!policy(json!({"response_pattern": "escalate"}), json!({})).unwrap().can_escalate());
    for (name, minutes) in [("sla_minutes", 0), ("grant_minutes", 0), ("sla_minutes", 525_601)] {
        let problems = policy(rules.clone(), json!({"escalation": {name: minutes}})).unwrap_err();
        assert_eq!(problems[0].path, format!("refusal_replacement.escalation.{name}"));
    }
}

#[test]
fn quotas_apply_unless_switched_off_or_without_a_limit() {
    let quotas = |org: Value| {
        let org = PolicyDocument::parse(&json!({"policy_id": "p", "rules": {}, "org_controls": org}))
            .unwrap()
            .org_controls;
        (
            org.active_user_quota().map(|quota| quota.tokens),
            org.active_project_quota().map(|quota| quota.requests),
        )
    };
    // Absent `user_quotas` counts as on when a limit is given.
    assert_eq!(quotas(json!({"user_quota": {"tokens": 1}})), (Some(1), None));
    assert_eq!(quotas(json!({"user_quotas": true, "project_quota": {"requests": 2}})), (None, Some(2)));
    assert_eq!(quotas(json!({"user_quotas": false, "project_quota": {"requests": 2}})), (None, None));
    assert_eq!(quotas(json!({"user_quota": {"requests": 0, "tokens": 0, "window": "hourly"}})), (None, None));
    let wrong =
        json!({"policy_id": "p", "rules": {}, "org_controls": {"user_quota": {"window": "fortnightly"}}});
    let problems = PolicyDocument::parse(&wrong).unwrap_err();
    let problem = problems.first().unwrap();
    assert_eq!(problem.path, "org_controls.user_quota.window");
    assert!(problem.message.contains("hourly"), "{}", problem.message);
}

"""The published schemas are JSON Schema 2020-12, take what the binary takes and refuse what it refuses."""

import json
import os
import pathlib
import subprocess

import pytest
from jsonschema import Draft202012Validator

BINARY = os.environ["SDK_BINARY"]


def schema(*args):
    done = subprocess.run([BINARY, "config", "schema", *args], capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def policy_schema():
    return Draft202012Validator(schema("--policy"))


@pytest.mark.parametrize("args", [(), ("--policy",)])
def test_schemas_are_valid_2020_12(args):
    found = schema(*args)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(found)


def validates(policy, tmp_path):
    file = pathlib.Path(tmp_path) / "policy.json"
    file.write_text(json.dumps(policy))
    return subprocess.run([BINARY, "policy", "validate", str(file)], capture_output=True).returncode == 0


GOOD = {
    "policy_id": "support",
    "rules": {
        "denylist": ["theft"],
        "redact": True,
        "response_pattern": "rewrite",
        "reason_codes": ["ALLOW", "REDACT", "REWRITE"],
    },
    "refusal_replacement": {"message": "no", "escalation_path": "a@example.com"},
}


def changed(path, value):
    policy = json.loads(json.dumps(GOOD))
    at = policy
    for key in path[:-1]:
        at = at.setdefault(key, {})
    at[path[-1]] = value
    return policy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rules", "denylst"), []),
        (("rules", "denylist"), "theft"),
        (("rules", "response_pattern"), "shout"),
        (("rules", "reason_codes"), ["not a code"]),
        (("rollout", "canary", "sample_percent"), 101),
        (("colour",), "red"),
    ],
)
def test_editor_and_binary_refuse_the_same(policy_schema, tmp_path, path, value):
    assert policy_schema.is_valid(GOOD) and validates(GOOD, tmp_path)
    bad = changed(path, value)
    assert not policy_schema.is_valid(bad)
    assert not validates(bad, tmp_path)

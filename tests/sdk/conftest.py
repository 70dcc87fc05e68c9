"""What the tests are told by `scripts/test-sdk`, and the clients under test.

Clients keep their own defaults but for retries: an error is to be seen the first time.
"""

import json
import os
import urllib.request
from dataclasses import dataclass

import openai
import pytest


@dataclass(frozen=True)
class Places:
    """Base URLs, without a path, and keys."""

    gateway: str
    model: str
    intake: str
    keys: dict
    dd_api_key: str


@pytest.fixture(scope="session")
def places():
    env = os.environ
    return Places(
        gateway=env["SDK_GATEWAY_URL"],
        model=env["SDK_MODEL_URL"],
        intake=env["SDK_INTAKE_URL"],
        keys={name: env[f"SDK_KEY_{name.upper()}"] for name in ("refuse", "error", "rewrite")},
        dd_api_key=env["SDK_DD_API_KEY"],
    )


@pytest.fixture(scope="session")
def client_of(places):
    """Makes clients: `client_of("refuse")` has the key of the project of that name."""

    def make(key, base="/v1", **options):
        api_key = places.keys.get(key, key)
        return openai.OpenAI(base_url=places.gateway + base, api_key=api_key, max_retries=0, timeout=20, **options)

    return make


@pytest.fixture(scope="session")
def client(client_of):
    return client_of("refuse")


@pytest.fixture(scope="session")
def model_client(places):
    return openai.OpenAI(base_url=places.model + "/v1", api_key="sk-test", max_retries=0, timeout=20)


def call_json(url, body=None):
    """GETs, or POSTs a JSON body."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=60) as answer:
        return json.load(answer)


@pytest.fixture(scope="session")
def intake_logs(places):
    """Waits for the log of an event; gives it as the intake received it."""

    def wait(event_id):
        after = 0
        while True:
            page = call_json(f"{places.intake}/demo/logs?after={after}&wait_ms=20000")
            assert page["logs"], f"no log of {event_id} among {after}"
            for received in page["logs"]:
                if received["log"].get("event", {}).get("id") == event_id:
                    return received
            after = page["next"]

    return wait

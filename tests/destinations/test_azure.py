"""The `azure_monitor` destination against the demo's strict ingestion; and that ingestion against Microsoft's own client, so
that it is known to be no friend of ours only."""

import json
import os
import pathlib
import subprocess
import time
import urllib.parse
import urllib.request

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.monitor.ingestion import LogsIngestionClient
from exporting import Gateway, WAIT

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-000000000000"
RULE = "dcr-0123456789abcdef0123456789abcdef"
STREAM = "Custom-PolicyGateway_CL"
TEMPLATE = pathlib.Path(__file__).parents[2] / "deploy/azure/template.json"


@pytest.fixture
def azure():
    process = subprocess.Popen(
        [os.environ["SDK_BINARY"], "demo", "azure-ingestion", "--listen", "127.0.0.1:0", "--template", str(TEMPLATE)],
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process.stdout.readline().split("listening on ")[1].strip()
    process.terminate()
    process.wait(WAIT)


def rows(azure, after=0):
    with urllib.request.urlopen(f"{azure}/demo/rows?after={after}&wait_ms=20000", timeout=WAIT) as answer:
        return json.load(answer)["rows"]


class Credential:
    """Microsoft's own insist on https for the token; this asks the same way over http."""

    def __init__(self, azure, secret="demo-azure-secret"):
        self.azure, self.secret = azure, secret

    def get_token(self, *scopes, **_):
        form = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": self.secret, "scope": scopes[0]}
        url = f"{self.azure}/{TENANT}/oauth2/v2.0/token"
        with urllib.request.urlopen(url, data=urllib.parse.urlencode(form).encode(), timeout=WAIT) as answer:
            token = json.load(answer)
        return AccessToken(token["access_token"], int(time.time()) + token["expires_in"])


def test_microsofts_client_is_taken_by_the_demo(azure):
    client = LogsIngestionClient(azure, Credential(azure), credential_scopes=["https://monitor.azure.com/.default"])
    logs = [{"TimeGenerated": "2026-01-16T18:22:11Z", "PolicyId": f"p{number}", "Seq": number} for number in range(3)]
    client.upload(rule_id=RULE, stream_name=STREAM, logs=logs, enforce_https=False)
    found = rows(azure)
    assert [item["row"]["Seq"] for item in found] == [0, 1, 2]
    with pytest.raises(HttpResponseError) as refused:
        client.upload(rule_id="dcr-other", stream_name=STREAM, logs=logs, enforce_https=False)
    assert refused.value.status_code == 404


def export(azure, **more):
    return {
        "destination": "azure_monitor",
        "endpoint": azure,
        "authority": azure,
        "dcr_id": RULE,
        "stream": STREAM,
        "tenant_id": TENANT,
        "client_id": CLIENT,
        "client_secret": "$AZURE_SECRET",
        **more,
    }


def test_every_event_becomes_a_row_that_azure_keeps_whole(tmp_path, places, azure):
    gateway = Gateway(tmp_path, places.model, [export(azure)], {"AZURE_SECRET": "demo-azure-secret"})
    ids = {gateway.chat(f"call {number}") for number in range(20)} | {gateway.chat("please explain credential theft")}
    assert gateway.drained("azure_monitor")["dead"] == 0
    code, text = gateway.export_test("azure_monitor")
    assert code == 0, text
    gateway.stop()
    found = rows(azure)
    assert ids <= {item["row"]["EventId"] for item in found}
    # Nothing would be dropped, cut, replaced or made null.
    assert [item["silently"] for item in found if item["silently"]] == []
    refused = next(item["row"] for item in found if item["row"]["Decision"] == "refuse")
    assert refused["DenylistHits"] == ["credential theft"] and refused["Message"] == "policy decision: refuse"
    assert "explain" not in json.dumps(found)


@pytest.mark.parametrize(
    "secret, more, said",
    [
        ("wrong", {}, "AADSTS7000215"),
        ("demo-azure-secret", {"client_id": "other"}, "AADSTS700016"),
        ("demo-azure-secret", {"tenant_id": "other"}, "AADSTS90002"),
        ("demo-azure-secret", {"dcr_id": "dcr-" + "f" * 32}, "check `dcr_id`"),
        ("demo-azure-secret", {"stream": "Custom-Other_CL"}, "`stream`"),
    ],
)
def test_export_test_says_what_is_wrong(tmp_path, places, azure, secret, more, said):
    gateway = Gateway(tmp_path, places.model, [export(azure, **more)], {"AZURE_SECRET": secret})
    code, text = gateway.export_test("azure_monitor")
    gateway.stop()
    assert code != 0 and said in text and "wrong-secret" not in text, text

"""The demo intake as Datadog's own client sees it: what deliveries are tested against takes what that client
sends, and refuses in ways that it understands."""

import pytest
from datadog_api_client import ApiClient, Configuration
from datadog_api_client.exceptions import ApiException, ForbiddenException
from datadog_api_client.v1.api.authentication_api import AuthenticationApi
from datadog_api_client.v2.api.logs_api import LogsApi
from datadog_api_client.v2.model.content_encoding import ContentEncoding
from datadog_api_client.v2.model.http_log import HTTPLog
from datadog_api_client.v2.model.http_log_item import HTTPLogItem

from conftest import call_json


@pytest.fixture
def api(places):
    def make(api_key=places.dd_api_key):
        configuration = Configuration(host=places.intake)
        configuration.api_key["apiKeyAuth"] = api_key
        configuration.api_key["appKeyAuth"] = "unused"
        name = places.intake.removeprefix("http://")
        configuration.server_operation_index["submit_log"] = 1
        configuration.server_operation_variables["submit_log"] = {"protocol": "http", "name": name}
        return ApiClient(configuration)

    return make


def item(message, **fields):
    return HTTPLogItem(ddsource="sdk-test", service="sdk", message=message, **fields)


def newest(places):
    """The newest log, and the request it came in."""
    logs, after = [], 0
    while page := call_json(f"{places.intake}/demo/logs?after={after}")["logs"]:
        logs, after = logs + page, page[-1]["index"]
    return logs[-1], call_json(f"{places.intake}/demo/requests")["requests"][-1]


@pytest.mark.parametrize("encoding", [None, "identity", "gzip", "deflate"])
def test_submit_log(api, places, encoding):
    options = {} if encoding is None else {"content_encoding": ContentEncoding(encoding)}
    log = item(f"héllo {encoding}", ddtags="env:test,Team:Core", hostname="h")
    with api() as client:
        assert LogsApi(client).submit_log(HTTPLog([log]), ddtags="from:query", **options) == {}
    received, request = newest(places)
    assert received["log"]["message"] == f"héllo {encoding}"
    assert received["log"]["hostname"] == "h"
    assert received["tags"] == ["env:test", "team:core", "from:query"]
    assert received["violations"] == []
    assert request["status"] == 202
    assert request["encoding"] == (encoding or "identity")
    assert (request["wire_bytes"] == request["inflated_bytes"]) == (encoding in (None, "identity"))


def test_a_thousand_and_one(api):
    with api() as client:
        logs = LogsApi(client)
        logs.submit_log(HTTPLog([item("m")] * 1000))
        with pytest.raises(ApiException) as raised:
            logs.submit_log(HTTPLog([item("m")] * 1001))
    assert raised.value.status == 400
    assert raised.value.body["errors"][0]["status"] == "400"


def test_wrong_key(api):
    with api("wrong") as client, pytest.raises(ForbiddenException) as raised:
        LogsApi(client).submit_log(HTTPLog([item("m")]))
    assert raised.value.status == 403
    with api("wrong") as client, pytest.raises(ForbiddenException):
        AuthenticationApi(client).validate()


def test_right_key(api):
    with api() as client:
        assert AuthenticationApi(client).validate().valid is True


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
def test_too_large(api, encoding):
    logs = HTTPLog([item("x" * 900_000)] * 6)
    with api() as client, pytest.raises(ApiException) as raised:
        LogsApi(client).submit_log(logs, content_encoding=ContentEncoding(encoding))
    assert raised.value.status == 413
    assert raised.value.body["errors"][0]["title"] == "Request Entity Too Large"


def test_retries_are_satisfied(api, places):
    steps = [{"act": "status", "status": 429, "retry_after": "0"}, {"act": "status", "status": 503}]
    call_json(f"{places.intake}/demo/script", {"steps": steps})
    client = api()
    configuration = client.configuration
    configuration.enable_retry, configuration.max_retries, configuration.retry_backoff_factor = True, 3, 2
    with ApiClient(configuration) as retrying:
        assert LogsApi(retrying).submit_log(HTTPLog([item("after all")])) == {}
    received, _ = newest(places)
    assert received["log"]["message"] == "after all"

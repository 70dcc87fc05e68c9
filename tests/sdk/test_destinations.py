"""The demo counterparts of Splunk and Elasticsearch as clients see them that nobody here wrote: what deliveries are
tested against takes what those clients send, and refuses in ways that they understand."""

import logging
import os
import time

import elasticsearch
import pytest
import requests
from elasticsearch import Elasticsearch, helpers
from splunk_hec_handler import SplunkHecHandler

from conftest import call_json

HEC = os.environ["SDK_HEC_URL"]
HEC_TOKEN = "5ac00000-0000-4000-8000-000000000001"
ELASTIC = os.environ["SDK_ELASTIC_URL"]
ELASTIC_KEY = "ZGVtbzpkZW1vLWVsYXN0aWMta2V5"
STREAM = "logs-sdk.test-here"


def emit(message, **options):
    host, port = HEC.removeprefix("http://").split(":")
    token = options.pop("token", HEC_TOKEN)
    handler = SplunkHecHandler(host, token, port=port, proto="http", ssl_verify=False, **options)
    handler.emit(logging.makeLogRecord({"msg": message, "levelname": "INFO"}))


def splunk_events():
    return call_json(f"{HEC}/demo/events")["events"]


def test_splunks_collector_takes_what_a_handler_sends():
    emit({"answer": 42, "fields": {"colour": "yellow"}}, source="sdk", sourcetype="_json", index="ai_audit")
    event = splunk_events()[-1]
    assert event["event"] == {"log_level": "INFO", "answer": 42}
    assert (event["index"], event["fields"]) == ("ai_audit", {"colour": "yellow"})


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [({"token": "0" * 8}, 403, 4), ({"index": "nowhere"}, 400, 7), ({"endpoint": "other"}, 404, 404)],
)
def test_splunks_collector_refuses_in_ways_that_a_handler_understands(options, status, code):
    before = len(splunk_events())
    with pytest.raises(requests.HTTPError) as refused:
        emit("hello", **options)
    assert refused.value.response.status_code == status
    assert refused.value.response.json()["code"] == code
    assert len(splunk_events()) == before


@pytest.fixture
def elastic():
    return Elasticsearch(ELASTIC, api_key=ELASTIC_KEY, max_retries=0, request_timeout=20)


def action(number, **more):
    document = {"@timestamp": "2026-01-16T18:22:11Z", "number": number}
    return {"_op_type": "create", "_index": STREAM, "_id": f"sdk-{number}", **document, **more}


@pytest.mark.parametrize("compress", [False, True])
def test_bulk_takes_what_the_official_helper_sends(compress):
    client = Elasticsearch(ELASTIC, api_key=ELASTIC_KEY, max_retries=0, http_compress=compress)
    numbers = range(500) if compress else range(1000, 1500)
    assert helpers.bulk(client, [action(number) for number in numbers], chunk_size=100) == (500, [])


def test_bulk_judges_document_by_document(elastic):
    wrong = {**action(5001), "@timestamp": "soon"}
    index = {**action(5002), "_op_type": "index"}
    twice = [action(5000), action(5000), wrong, index, {**action(5003), "_index": "nowhere"}]
    taken, errors = helpers.bulk(elastic, twice, raise_on_error=False)
    assert taken == 1
    assert [list(error.values())[0]["status"] for error in errors] == [409, 400, 400, 404]
    assert errors[0]["create"]["error"]["type"] == "version_conflict_engine_exception"


def test_bulk_knows_its_key():
    client = Elasticsearch(ELASTIC, api_key="wrong", max_retries=0)
    with pytest.raises(elasticsearch.AuthenticationException):
        helpers.bulk(client, [action(9000)])


def test_the_gateway_delivers_to_both(client):
    reply = client.chat.completions.with_raw_response.create(
        model="demo-model", messages=[{"role": "user", "content": "hello"}]
    )
    event_id = reply.headers["x-policy-event-id"]
    until = time.monotonic() + 20
    found = set()
    while found != {"splunk", "elastic"}:
        assert time.monotonic() < until, found
        if any(event.get("fields", {}).get("event_id") == event_id for event in splunk_events()):
            found.add("splunk")
        documents = call_json(f"{ELASTIC}/demo/documents")["documents"]
        if any(document["id"] == event_id for document in documents):
            found.add("elastic")

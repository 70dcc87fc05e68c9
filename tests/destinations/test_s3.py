"""The `s3` destination against moto's server: objects, encryption, conditional puts, Object Lock, and a kill between the
object and the cursor."""

import gzip
import hashlib
import json
import re
import subprocess
import sys

import boto3
import pytest
from botocore.config import Config
from exporting import Gateway, free_port, listening, until


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    port = free_port()
    log = (tmp_path_factory.mktemp("moto") / "log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)],
        stdout=log,
        stderr=log,
    )
    listening(port)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(20)


@pytest.fixture(scope="module")
def s3(endpoint):
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="secret",
        config=Config(s3={"addressing_style": "path"}),
    )


def export(endpoint, bucket, **more):
    return {
        "destination": "s3",
        "bucket": bucket,
        "prefix": "pg/",
        "region": "us-east-1",
        "endpoint": endpoint,
        "access_key_id": "AKIAEXAMPLE",
        "secret_access_key": "$S3_SECRET",
        "linger_ms": 200,
        **more,
    }


def start(tmp_path, places, exports):
    return Gateway(tmp_path, places.model, exports, {"S3_SECRET": "secret"})


def objects(s3, bucket):
    found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {item["Key"]: s3.get_object(Bucket=bucket, Key=item["Key"]) for item in found}


def lines(objects, unpack=gzip.decompress):
    events = {}
    for key, found in objects.items():
        body = unpack(found["Body"].read())
        assert found["Metadata"]["sha256"] == hashlib.sha256(body).hexdigest()
        events[key] = [json.loads(line) for line in body.splitlines()]
        bounds = re.fullmatch(r"pg/date=\d{4}-\d\d-\d\d/part-([0-9a-f-]{36})-(\d+)-(\d+)\.jsonl(\.gz)?", key)
        assert bounds, key
        seqs = [event["seq"] for event in events[key]]
        assert (seqs[0], seqs[-1]) == (int(bounds[2]), int(bounds[3]))
        assert {event["chain"] for event in events[key]} == {bounds[1]}
    return events


def test_every_event_is_in_exactly_one_object(tmp_path, places, s3, endpoint):
    s3.create_bucket(Bucket="plain")
    gateway = start(tmp_path, places, [export(endpoint, "plain")])
    ids = [gateway.chat(f"call {number}") for number in range(30)]
    gateway.drained("s3")
    gateway.stop()
    found = objects(s3, "plain")
    assert {item["ContentType"] for item in found.values()} == {"application/gzip"}
    events = [event for part in lines(found).values() for event in part]
    assert sorted(event["event_id"] for event in events if event["event_type"] == "enforcement") == sorted(ids)
    seqs = sorted(event["seq"] for event in events)
    assert len(seqs) == len(set(seqs))
    # What is in the bucket is what the log holds, so the chain can be checked from it.
    in_order = sorted(events, key=lambda event: event["seq"])
    for before, after in zip(in_order, in_order[1:]):
        assert after["prev_hash"] == before["hash"]


def test_encryption_and_lock_are_set(tmp_path, places, s3, endpoint):
    s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    more = {
        "sse": "aws:kms",
        "kms_key_id": "arn:aws:kms:us-east-1:123456789012:key/abcd",
        "object_lock": {"mode": "GOVERNANCE", "retain_days": 30},
        "compression": "none",
    }
    gateway = start(tmp_path, places, [export(endpoint, "locked", **more)])
    gateway.chat("one call")
    gateway.drained("s3")
    gateway.stop()
    found = objects(s3, "locked")
    lines(found, unpack=bytes)
    for item in found.values():
        assert (item["ServerSideEncryption"], item["SSEKMSKeyId"]) == ("aws:kms", more["kms_key_id"])
        assert item["ObjectLockMode"] == "GOVERNANCE"
        kept = item["ObjectLockRetainUntilDate"] - item["LastModified"]
        assert 29 <= kept.days <= 30
        assert item["ContentType"] == "application/x-ndjson"


def test_a_kill_makes_no_second_object(tmp_path, places, s3, endpoint):
    s3.create_bucket(Bucket="killed")
    gateway = start(tmp_path, places, [export(endpoint, "killed", linger_ms=0, batch_events_max=5)])
    ids = []
    for round in range(6):
        ids += [gateway.chat(f"call {round} {number}") for number in range(7)]
        # At whatever point of a delivery it is just then.
        gateway.kill()
        gateway.start()
    gateway.drained("s3")
    gateway.stop()
    events = [event for part in lines(objects(s3, "killed")).values() for event in part]
    seen = [event["event_id"] for event in events if event["event_type"] == "enforcement"]
    assert sorted(seen) == sorted(ids), "an event is missing, or stands in two objects"


def test_an_object_that_is_there_is_not_written_again(tmp_path, places, s3, endpoint):
    """The answer to a PUT is lost and the gateway killed: the next process meets its own object and lets it be."""
    s3.create_bucket(Bucket="again")
    s3.put_bucket_versioning(Bucket="again", VersioningConfiguration={"Status": "Enabled"})
    gateway = start(tmp_path, places, [export(endpoint, "again")])
    gateway.chat("one call")
    gateway.drained("s3")
    gateway.kill()
    # The cursor as it was before the answer.
    import sqlite3

    store = sqlite3.connect(tmp_path / "gateway.db")
    tables = {row[0] for row in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    table = next(name for name in tables if "cursor" in name)
    columns = [row[1] for row in store.execute(f"PRAGMA table_info({table})")]
    before = store.execute(f"SELECT * FROM {table}").fetchall()
    assert before, (table, columns)
    store.execute(f"UPDATE {table} SET position = start")
    store.commit()
    store.close()
    gateway.start()
    gateway.drained("s3")
    gateway.stop()
    versions = s3.list_object_versions(Bucket="again")["Versions"]
    assert len(versions) == len({version["Key"] for version in versions}), versions


@pytest.mark.parametrize(
    "more, said",
    [
        ({"bucket": "nowhere"}, "NoSuchBucket"),
        ({"endpoint": "http://127.0.0.1:9"}, "no connection to `127.0.0.1:9`"),
    ],
)
def test_export_test_says_what_is_wrong(tmp_path, places, endpoint, more, said):
    gateway = start(tmp_path, places, [{**export(endpoint, "plain"), **more}])
    code, text = gateway.export_test("s3")
    gateway.stop()
    assert code != 0 and said in text, text


def test_export_test_writes_an_object(tmp_path, places, s3, endpoint):
    s3.create_bucket(Bucket="tested")
    gateway = start(tmp_path, places, [export(endpoint, "tested")])
    code, text = gateway.export_test("s3")
    gateway.stop()
    assert code == 0, text
    assert until(lambda: objects(s3, "tested"), "object")

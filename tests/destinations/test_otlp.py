"""The `otlp` destination into rotel, an OpenTelemetry collector that nobody here wrote, over HTTP and over gRPC. What rotel
understood, it sends on to the receiver of this test, which reads it with the official Protocol Buffers classes."""

import gzip
import importlib.util
import json
import pathlib
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from exporting import Gateway, free_port, listening, until
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse


def value(any_value):
    kind = any_value.WhichOneof("value")
    if kind == "array_value":
        return [value(item) for item in any_value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: value(item.value) for item in any_value.kvlist_value.values}
    return getattr(any_value, kind) if kind else None


class Receiver:
    """Takes what a collector passes on."""

    def __init__(self):
        self.records = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                request = ExportLogsServiceRequest()
                body = self.whole_body()
                packed = self.headers.get("content-encoding") == "gzip"
                request.ParseFromString(gzip.decompress(body) if packed else body)
                for resource_logs in request.resource_logs:
                    resource = {item.key: value(item.value) for item in resource_logs.resource.attributes}
                    for scope_logs in resource_logs.scope_logs:
                        for record in scope_logs.log_records:
                            attributes = {item.key: value(item.value) for item in record.attributes}
                            outer.records.append((resource, scope_logs.scope.name, record, attributes))
                body = ExportLogsServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def whole_body(self):
                if "content-length" in self.headers:
                    return self.rfile.read(int(self.headers["content-length"]))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector(tmp_path):
    receiver = Receiver()
    agent = pathlib.Path(importlib.util.find_spec("rotel").origin).parent / "rotel-agent"
    agent.chmod(0o755)
    http, grpc = free_port(), free_port()
    log = (tmp_path / "rotel.log").open("w")
    process = subprocess.Popen(
        [agent, "start", "--exporter", "otlp", "--otlp-exporter-endpoint", receiver.url]
        + ["--otlp-exporter-protocol", "http", "--otlp-exporter-compression", "none", "--batch-timeout", "100ms"]
        + ["--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"],
        stdout=log,
        stderr=log,
    )
    listening(http)
    listening(grpc)
    yield receiver, {"http": f"http://127.0.0.1:{http}", "grpc": f"http://127.0.0.1:{grpc}"}
    process.terminate()
    process.wait(20)
    receiver.server.shutdown()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_every_event_arrives_as_a_log_record(tmp_path, places, collector, protocol, compression):
    receiver, endpoints = collector
    export = {
        "destination": "otlp",
        "endpoint": endpoints[protocol],
        "protocol": protocol,
        "compression": compression,
        "resource": {"deployment.environment.name": "test"},
    }
    gateway = Gateway(tmp_path, places.model, [export])
    ids = [gateway.chat(f"call {number}") for number in range(20)]
    ids.append(gateway.chat("please explain credential theft"))
    assert gateway.drained("otlp")["dead"] == 0
    until(lambda: set(ids) <= {item[3]["log.record.uid"] for item in receiver.records}, "records")
    code, text = gateway.export_test("otlp")
    assert code == 0, text
    gateway.stop()
    resource, scope, record, attributes = next(item for item in receiver.records if item[3]["event.id"] == ids[-1])
    assert resource["service.name"] == "policy-gateway" and resource["deployment.environment.name"] == "test"
    assert scope == "policy-gateway.audit"
    assert record.body.string_value == "policy decision: refuse"
    assert (record.severity_number, record.severity_text) == (13, "WARN")
    assert record.time_unix_nano > 0 and record.observed_time_unix_nano >= record.time_unix_nano
    assert attributes["policy.decision"] == "refuse" and attributes["policy.enforced"] is True
    assert attributes["policy.denylist_hits"] == ["credential theft"]
    assert attributes["event.type"] == "enforcement" and isinstance(attributes["event.seq"], int)
    assert len(attributes["audit.hash"]) == 64 and attributes["request.http_status"] == 200
    assert "explain" not in json.dumps(attributes)


def test_nothing_is_lost_while_the_collector_is_away(tmp_path, places):
    port = free_port()
    gateway = Gateway(
        tmp_path, places.model, [{"destination": "otlp", "endpoint": f"http://127.0.0.1:{port}", "protocol": "grpc"}]
    )
    ids = [gateway.chat(f"call {number}") for number in range(5)]
    until(lambda: gateway.status("otlp")["state"] == "retrying", "trouble")
    code, text = gateway.export_test("otlp")
    assert code != 0 and f"no connection to `127.0.0.1:{port}`" in text, text
    gateway.kill()
    receiver = Receiver()
    agent = pathlib.Path(importlib.util.find_spec("rotel").origin).parent / "rotel-agent"
    process = subprocess.Popen(
        [agent, "start", "--exporter", "otlp", "--otlp-exporter-endpoint", receiver.url]
        + ["--otlp-exporter-protocol", "http", "--otlp-exporter-compression", "none", "--batch-timeout", "100ms"]
        + ["--otlp-http-endpoint", f"127.0.0.1:{free_port()}", "--otlp-grpc-endpoint", f"127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    gateway.start()
    gateway.drained("otlp")
    until(lambda: set(ids) <= {item[3]["log.record.uid"] for item in receiver.records}, "records")
    gateway.stop()
    process.terminate()
    process.wait(20)
    receiver.server.shutdown()

"""The management API against its own description, by a tool that nobody here wrote: whatever is sent, no server error, no
status, type or body that is not described."""

import os
import pathlib
import subprocess
import sys

PREFIX = "^/api/policy-gateway/"
CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    ]
)


def test_no_request_finds_a_server_error_or_an_answer_that_is_not_described(places):
    schemathesis = pathlib.Path(sys.executable).parent / "schemathesis"
    done = subprocess.run(
        [
            schemathesis,
            "run",
            f"{places.gateway}/openapi.json",
            "--url",
            places.gateway,
            "--include-path-regex",
            PREFIX,
            "--header",
            f"Authorization: Bearer {os.environ['SDK_ADMIN_TOKEN']}",
            "--checks",
            CHECKS,
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "30",
            "--generation-deterministic",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]

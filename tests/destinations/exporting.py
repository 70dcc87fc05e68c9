"""A gateway of a test's own with destinations of the test's choice, on a store that outlives it."""

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

WAIT = 60
KEY = "ak_export_0123456789abcdef"


def free_port():
    """A port that nobody listens on now, for servers that cannot say which one they took."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(look, what):
    """Asks `look` until it gives something, and gives that."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"no {what} within {WAIT} s")


def listening(port):
    """Waits until somebody listens there."""

    def there():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    until(there, f"listener on port {port}")


class Gateway:
    def __init__(self, folder, model, exports, env=None):
        self.folder = folder
        self.env = {**os.environ, **(env or {})}
        policy = {"policy_id": "p", "rules": {"denylist": ["credential theft"]}}
        (folder / "policy.json").write_text(json.dumps(policy))
        self.config = {
            "listen": "127.0.0.1:0",
            "store": f"sqlite://{folder}/gateway.db",
            "upstreams": [{"name": "demo", "kind": "openai", "base_url": model + "/v1", "models": ["*"]}],
            "policies": ["policy.json"],
            "projects": [{"id": "p", "policy_id": "p", "keys": [KEY]}],
            "admin_tokens": [{"name": "root", "role": "admin", "token": "admin-token"}],
            "exports": exports,
        }
        self.start()

    def start(self):
        (self.folder / "gateway.json").write_text(json.dumps(self.config))
        self.process = subprocess.Popen(
            [os.environ["SDK_BINARY"], "serve", "-c", "gateway.json"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "stderr.log").open("a"),
            text=True,
        )
        for line in self.process.stdout:
            found = re.search(r"listening on (http://\S+)", line)
            if found:
                self.url = found.group(1)
                return
        raise AssertionError((self.folder / "stderr.log").read_text())

    def kill(self):
        self.process.kill()
        self.process.wait(WAIT)

    def stop(self):
        self.process.terminate()
        self.process.wait(WAIT)

    def chat(self, text):
        """Sends a call; its event's id."""
        body = {"model": "demo-model", "messages": [{"role": "user", "content": text}], "user": "user-1"}
        request = urllib.request.Request(
            self.url + "/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"authorization": f"Bearer {KEY}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            answer.read()
            return answer.headers["x-policy-event-id"]

    def status(self, destination):
        url = f"{self.url}/api/policy-gateway/exports/{destination}/status"
        request = urllib.request.Request(url, headers={"authorization": "Bearer admin-token"})
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            return json.load(answer)

    def drained(self, destination):
        """Waits until nothing is pending; the balance then."""

        def look():
            status = self.status(destination)
            return status if status["pending"] == 0 else None

        status = until(look, f"end of the backlog of {destination}: {self.status(destination)}")
        assert status["accepted"] == status["delivered"] + status["dead"], status
        return status

    def export_test(self, destination):
        """`export test`: its exit code and what it said."""
        done = subprocess.run(
            [os.environ["SDK_BINARY"], "export", "test", destination, "-c", "gateway.json"],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=WAIT,
        )
        return done.returncode, done.stdout + done.stderr

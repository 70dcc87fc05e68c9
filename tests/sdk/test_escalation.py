"""Reviewers are told: by a mail server that nobody here wrote (aiosmtpd, with STARTTLS and a password) and by a webhook
whose signature the Standard Webhooks library checks. Whoever does not answer is told later, over a restart."""

import asyncio
import email
import json
import os
import queue
import re
import secrets
import base64
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from standardwebhooks.webhooks import Webhook

MODEL = "demo-model"
WAIT = 60
PROMPT = "please explain credential theft to CANARY-7431"


class MailServer:
    """Takes mails over STARTTLS from who knows the password; or turns every one away for now."""

    def __init__(self, certificate):
        self.mails = queue.Queue()
        self.refused = queue.Queue()
        self.is_down = False
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

        def factory():
            return SMTP(
                self,
                hostname="localhost",
                tls_context=context,
                require_starttls=True,
                auth_required=True,
                authenticator=self.authenticate,
                loop=self.loop,
            )

        async def serve():
            return await self.loop.create_server(factory, "127.0.0.1", 0)

        self.server = asyncio.run_coroutine_threadsafe(serve(), self.loop).result(WAIT)
        self.port = self.server.sockets[0].getsockname()[1]

    def authenticate(self, server, session, envelope, mechanism, data):
        fits = (data.login, data.password) == (b"gateway", b"mail-password")
        return AuthResult(success=fits)

    async def handle_DATA(self, server, session, envelope):
        if self.is_down:
            self.refused.put(envelope)
            return "451 try again later"
        self.mails.put((envelope, session.ssl is not None))
        return "250 taken"


class Receiver:
    """Keeps what is posted, and answers with `status`."""

    def __init__(self):
        self.posts = queue.Queue()
        self.status = 204
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status = outer.status
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()
                outer.posts.put((status, dict(self.headers.items()), body))

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


class Gateway:
    """A gateway of this test's own, on a store that outlives it."""

    def __init__(self, folder, env):
        self.folder = folder
        self.env = env
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [os.environ["SDK_BINARY"], "serve", "-c", "gateway.json"],
            cwd=self.folder,
            env={**os.environ, **self.env},
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

    def chat(self, key, text, **fields):
        client = openai.OpenAI(base_url=self.url + "/v1", api_key=key, max_retries=0, timeout=20)
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.with_raw_response.create(model=MODEL, messages=messages, **fields)

    def api(self, path, body=None):
        request = urllib.request.Request(
            f"{self.url}/api/policy-gateway/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": "Bearer admin-token"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-keyout", key, "-out", cert, "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture
def world(tmp_path, places, certificate):
    mail, hook = MailServer(certificate), Receiver()
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    policies = tmp_path / "policies"
    policies.mkdir()
    for name, path in [("mail", "Reviewers <review@example.com>"), ("hook", hook.url)]:
        document = {
            "policy_id": name,
            "rules": {"denylist": ["credential theft"], "response_pattern": "escalate"},
            "refusal_replacement": {"escalation_path": path, "message": "This waits for a review."},
        }
        (policies / f"{name}.json").write_text(json.dumps(document))
    config = {
        "listen": "127.0.0.1:0",
        "store": f"sqlite://{tmp_path}/gateway.db",
        "upstreams": [{"name": "demo", "kind": "openai", "base_url": places.model + "/v1", "models": ["*"]}],
        "policies": ["policies/*.json"],
        "projects": [{"id": name, "policy_id": name, "keys": [f"ak_{name}"]} for name in ("mail", "hook")],
        "admin_tokens": [{"name": "rita", "role": "reviewer", "token": "admin-token"}],
        "smtp": {
            "host": "localhost",
            "port": mail.port,
            "tls": "starttls",
            "username": "gateway",
            "password": "$SMTP_PASSWORD",
            "from": "Policy Gateway <gateway@example.com>",
        },
        "escalations": {"webhook_secret": "$HOOK_SECRET", "public_url": "https://gateway.example.com"},
    }
    (tmp_path / "gateway.json").write_text(json.dumps(config))
    env = {"SMTP_PASSWORD": "mail-password", "HOOK_SECRET": secret, "SSL_CERT_FILE": str(certificate[0])}
    gateway = Gateway(tmp_path, env)
    yield gateway, mail, hook, secret
    gateway.kill()
    hook.server.shutdown()
    mail.loop.call_soon_threadsafe(mail.server.close)


def test_a_mail_tells_reviewers_and_their_word_lets_the_client_pass(world):
    gateway, mail, _, _ = world
    raw = gateway.chat("ak_mail", PROMPT, user="user-1")
    message = raw.parse().choices[0].message
    assert (message.content, message.refusal) == (None, "This waits for a review.")
    ticket = raw.headers["x-policy-escalation-id"]
    envelope, is_encrypted = mail.mails.get(timeout=WAIT)
    assert is_encrypted
    assert envelope.mail_from == "gateway@example.com" and envelope.rcpt_tos == ["review@example.com"]
    parsed = email.message_from_bytes(envelope.content)
    text = parsed.get_payload(decode=True).decode()
    assert parsed["subject"] == "Review wanted: mail"
    assert ticket in parsed["message-id"]
    for wanted in [ticket, "credential theft", "user-1", f"https://gateway.example.com/api/policy-gateway/escalations/{ticket}"]:
        assert wanted in text, wanted
    assert "CANARY" not in envelope.content.decode()
    assert gateway.api(f"escalations/{ticket}/approve", {"reason": "training material"})["decided_by"] == "rita"
    raw = gateway.chat("ak_mail", PROMPT, user="user-1")
    assert "credential theft" in raw.parse().choices[0].message.content
    assert raw.headers["x-policy-effective-decision"] == "allow"
    assert raw.headers["x-policy-escalation-id"] == ticket


def test_a_webhook_is_signed(world):
    gateway, _, hook, secret = world
    ticket = gateway.chat("ak_hook", PROMPT).headers["x-policy-escalation-id"]
    _, headers, body = hook.posts.get(timeout=WAIT)
    told = Webhook(secret).verify(body, headers)
    assert told["type"] == "escalation.opened"
    assert told["data"]["escalation_id"] == ticket
    assert told["data"]["denylist_hits"] == ["credential theft"]
    assert b"CANARY" not in body
    with pytest.raises(Exception):
        Webhook("whsec_" + base64.b64encode(b"x" * 32).decode()).verify(body, headers)


def test_what_nobody_took_is_told_after_a_kill(world):
    gateway, mail, hook, secret = world
    mail.is_down, hook.status = True, 500
    tickets = {name: gateway.chat(f"ak_{name}", PROMPT).headers["x-policy-escalation-id"] for name in ("mail", "hook")}
    mail.refused.get(timeout=WAIT)
    _, first, _ = hook.posts.get(timeout=WAIT)
    gateway.kill()
    while not hook.posts.empty():
        hook.posts.get()
    mail.is_down, hook.status = False, 204
    gateway.start()
    envelope, _ = mail.mails.get(timeout=WAIT)
    assert tickets["mail"].encode() in envelope.content
    _, second, body = hook.posts.get(timeout=WAIT)
    assert Webhook(secret).verify(body, second)["data"]["escalation_id"] == tickets["hook"]
    lower = lambda headers: {name.lower(): value for name, value in headers.items()}
    assert lower(first)["webhook-id"] == lower(second)["webhook-id"]
    deadline = time.monotonic() + WAIT
    while True:
        with urllib.request.urlopen(gateway.url + "/metrics", timeout=20) as answer:
            metrics = answer.read().decode()
        if "policy_gateway_escalation_notices_sent_total 2" in metrics:
            break
        assert time.monotonic() < deadline, metrics
        time.sleep(0.05)
    assert "policy_gateway_escalations_open 2" in metrics

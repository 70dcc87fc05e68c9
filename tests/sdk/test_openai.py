"""OpenAI's own Python client through the gateway: nothing about it is changed but the base URL and the key."""

import asyncio
import json

import openai
import pytest

from conftest import call_json

MODEL = "demo-model"
REFUSAL = "This is not something I can help with."

# Said by the model and not by the prompt: the demo model reads JSON escapes, the policy does not.
SAY_DENIED = r'demo:say="How \u0063redential theft is done"'


def ask(text, **fields):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def content_of(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_answer(client):
    answer = client.chat.completions.create(**ask("hello there"))
    assert answer.choices[0].message.content == "Glad to help. You said: hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > 0
    assert answer.model_extra.get("policy") is None
    assert answer._request_id


def test_stream(client):
    chunks = list(client.chat.completions.create(**ask("hello there", stream=True)))
    assert content_of(chunks) == "Glad to help. You said: hello there"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks), "usage was not asked for"


@pytest.mark.parametrize("script", ["chunk=1", "chunk=2,7", "tear=1", "tear=100", "crlf", "comment"])
def test_stream_however_it_is_cut(client, script):
    chunks = list(client.chat.completions.create(**ask(f"grüße 日本 demo:{script}", stream=True)))
    assert content_of(chunks) == "Glad to help. You said: grüße 日本"


def test_stream_with_usage(client):
    asked = ask("hello there", stream=True, stream_options={"include_usage": True})
    chunks = list(client.chat.completions.create(**asked))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_stream_helper(client):
    with client.chat.completions.stream(**ask("hello there")) as stream:
        answer = stream.get_final_completion()
    assert answer.choices[0].message.content == "Glad to help. You said: hello there"


def test_parts_and_several_choices(client):
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    answer = client.chat.completions.create(model=MODEL, n=2, messages=[{"role": "user", "content": parts}])
    assert [choice.message.content for choice in answer.choices] == ["Glad to help. You said: hello"] * 2
    chunks = list(client.chat.completions.create(**ask("hello", n=2, stream=True)))
    assert sorted({choice.index for chunk in chunks for choice in chunk.choices}) == [0, 1]


def test_moderations(client, intake_logs):
    raw = client.moderations.with_raw_response.create(input=["a quiet day", "you are a worthless idiot"])
    answer = raw.parse()
    assert answer.id.startswith("modr-") and answer.model.startswith("embedded/")
    quiet, rude = answer.results
    assert quiet.flagged is False and quiet.categories.self_harm_intent is False
    assert rude.category_scores.harassment > quiet.category_scores.harassment
    assert quiet.category_applied_input_types.sexual_minors == ["text"]
    assert intake_logs(raw.headers["x-policy-event-id"])["log"]["policy"]["reason_code"] == "MODERATION"


def test_moderations_of_parts(client):
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    answer = client.moderations.create(
        model="omni-moderation-latest", input=[{"type": "text", "text": "a quiet day"}, image]
    )
    assert [result.flagged for result in answer.results] == [False]
    with pytest.raises(openai.BadRequestError):
        client.moderations.create(input=[])


def test_redaction_is_what_the_upstream_sees(client, places, intake_logs):
    address = "alice.canary@example.com"
    raw = client.chat.completions.with_raw_response.create(**ask(f"write to {address} today"))
    said = raw.parse().choices[0].message.content
    assert said.startswith("Glad to help. You said: write to ") and said.endswith(" today")
    assert address not in said
    requests = call_json(f"{places.model}/demo/requests")["requests"]
    assert "today" in json.dumps(requests)
    assert address not in json.dumps(requests)
    received = intake_logs(raw.headers["x-policy-event-id"])
    assert received["log"]["policy"]["reason_code"] == "REDACT"
    assert address not in json.dumps(received)


def test_redaction_of_the_output_across_chunks(client):
    said = r'demo:say="ask alice\u0040example.com now" demo:chunk=2'
    assert "example.com" not in client.chat.completions.create(**ask(said)).choices[0].message.content
    text = content_of(client.chat.completions.create(**ask(said, stream=True)))
    assert text.startswith("ask ") and text.endswith(" now")
    assert "alice" not in text and "example.com" not in text


def test_refusal(client, places):
    before = call_json(f"{places.model}/demo/stats")["requests"]
    answer = client.chat.completions.create(**ask("explain credential theft"))
    choice = answer.choices[0]
    assert choice.finish_reason == "content_filter"
    assert choice.message.refusal == REFUSAL
    assert choice.message.content is None
    assert answer.usage.total_tokens == 0
    assert call_json(f"{places.model}/demo/stats")["requests"] == before


def test_streamed_refusal(client):
    asked = ask("explain credential theft", stream=True, stream_options={"include_usage": True})
    chunks = list(client.chat.completions.create(**asked))
    refusal = "".join(choice.delta.refusal or "" for chunk in chunks for choice in chunk.choices)
    assert refusal == REFUSAL
    assert content_of(chunks) == ""
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert finishes == ["content_filter"]
    assert chunks[-1].usage.total_tokens == 0


def test_refused_output(client):
    choice = client.chat.completions.create(**ask(SAY_DENIED)).choices[0]
    assert (choice.finish_reason, choice.message.refusal) == ("content_filter", REFUSAL)
    assert choice.message.content is None


@pytest.mark.parametrize("chunk", [1, 3, 9])
def test_refused_stream_never_shows_the_term(client, chunk):
    chunks = list(client.chat.completions.create(**ask(f"{SAY_DENIED} demo:chunk={chunk}", stream=True)))
    assert "credential" not in content_of(chunks).lower()
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert finishes == ["content_filter"]


def test_error_mode(client_of, intake_logs):
    with pytest.raises(openai.PermissionDeniedError) as raised:
        client_of("error").chat.completions.create(**ask("explain credential theft"))
    assert raised.value.status_code == 403
    assert raised.value.code == "policy_refused"
    log = intake_logs(raised.value.response.headers["x-policy-event-id"])["log"]
    assert log["policy"]["decision"] == "refuse"


def test_rewrite(client_of):
    rewriting = client_of("rewrite")
    answer = rewriting.chat.completions.create(**ask("before credential theft after"))
    said = answer.choices[0].message.content
    assert "credential" not in said and "before" in said and "after" in said
    assert said.startswith("Within the instructions given.")


def test_rewritten_output(client_of):
    told = f'{SAY_DENIED} demo:instructed="something else"'
    answer = client_of("rewrite").chat.completions.create(**ask(told))
    assert answer.choices[0].message.content == "something else"
    chunks = list(client_of("rewrite").chat.completions.create(**ask(f"{SAY_DENIED} demo:chunk=4", stream=True)))
    text = content_of(chunks)
    assert "credential" not in text.lower() and text.startswith("How ") and text.endswith(" is done")


@pytest.mark.parametrize("key", ["ak_wrong", "sk-not-ours"])
def test_wrong_key(client_of, key):
    with pytest.raises(openai.AuthenticationError) as raised:
        client_of(key).chat.completions.create(**ask("hi"))
    assert "Authorization: Bearer" in raised.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"messages": []}, "messages"), ({"messages": "hi"}, "messages"), ({"model": "no-such-model"}, "model")],
)
def test_bad_body(client, fields, param):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{**ask("hi"), **fields})
    assert raised.value.param == param
    assert raised.value.response.headers["x-policy-event-id"]


def test_upstream_rate_limit(client, intake_logs):
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(**ask("demo:status=429 demo:retry_after=7"))
    assert raised.value.response.headers["retry-after"] == "7"
    assert raised.value.code == "rate_limit_exceeded"
    log = intake_logs(raised.value.response.headers["x-policy-event-id"])["log"]
    assert log["request"]["outcome"] == "upstream_error"


def test_upstream_gone(client):
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(**ask("demo:cut"))
    assert raised.value.status_code == 502


def test_stream_cut_by_the_upstream(client):
    stream = client.chat.completions.create(**ask("demo:words=20 demo:cut=5", stream=True))
    with pytest.raises(openai.APIError):
        for _ in stream:
            pass


def test_unknown_path(client, client_of):
    with pytest.raises(openai.NotFoundError) as raised:
        client.get("/nothing/here", cast_to=object)
    assert "/chat/completions" in raised.value.message
    with pytest.raises(openai.NotFoundError) as raised:
        client_of("refuse", base="").chat.completions.create(**ask("hi"))
    assert "/v1" in raised.value.message


def test_policy_twin(client_of):
    twin = client_of("refuse", base="/policy/v1")
    policy = twin.chat.completions.create(**ask("hello")).policy
    assert policy["decision"] == "allow" and policy["policy_id"] == "refuse" and policy["event_id"]
    refused = twin.chat.completions.create(**ask("explain credential theft"))
    assert refused.policy["denylist_hits"] == ["credential theft"]
    chunks = list(twin.chat.completions.create(**ask("hello", stream=True)))
    assert {chunk.policy["decision"] for chunk in chunks} == {"allow"}
    assert len({chunk.policy["event_id"] for chunk in chunks}) == 1
    short = client_of("refuse", base="/policy").chat.completions.create(**ask("hello"))
    assert short.policy["decision"] == "allow"


def test_headers(client):
    raw = client.chat.completions.with_raw_response.create(**ask("explain credential theft"))
    headers = raw.headers
    assert headers["x-policy-id"] == "refuse"
    assert headers["x-policy-decision"] == headers["x-policy-effective-decision"] == "refuse"
    assert headers["x-policy-reason-code"] == "REFUSE"
    assert headers["x-policy-rollout-mode"] == "enforced"
    assert headers["x-policy-enforced"] == "true"
    assert headers["x-policy-revision"] == "1"
    assert headers["x-policy-event-id"] and headers["x-request-id"]


def test_metadata_stays_with_the_gateway(client, places, intake_logs):
    raw = client.chat.completions.with_raw_response.create(
        **ask("who am I"),
        user="openai-user",
        extra_headers={"X-Policy-User": "header-user", "X-Policy-Target": "target-1"},
        extra_body={"policy_user": "body-user", "vendor_field": {"kept": True}},
    )
    policy = intake_logs(raw.headers["x-policy-event-id"])["log"]["policy"]
    assert (policy["policy_user"], policy["policy_target"]) == ("header-user", "target-1")
    body = call_json(f"{places.model}/demo/requests")["requests"][-1]["body"]
    assert (body["vendor_field"], body["user"]) == ({"kept": True}, "openai-user")
    assert not [name for name in body if name.startswith("policy")]


TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}]


def test_tool_calls(client):
    told = 'demo:tool=find args={"q": "cats"} demo:chunk=2'
    first = client.chat.completions.create(**ask(told, tools=TOOLS))
    call = first.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("find", {"q": "cats"})
    assert first.choices[0].finish_reason == "tool_calls"

    messages = [
        {"role": "user", "content": told},
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "mail bob@example.com"},
    ]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    said = second.choices[0].message.content
    assert said.startswith("The tool answered: mail ") and "bob@example.com" not in said

    with client.chat.completions.stream(**ask(told, tools=TOOLS)) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert json.loads(streamed.function.arguments) == {"q": "cats"}


def test_refused_tool_call(client):
    told = r'demo:tool=find args={"q": "\u0063redential theft"} demo:chunk=2'
    choice = client.chat.completions.create(**ask(told, tools=TOOLS)).choices[0]
    assert choice.finish_reason == "content_filter" and not choice.message.tool_calls
    chunks = list(client.chat.completions.create(**ask(told, tools=TOOLS, stream=True)))
    choices = [c for chunk in chunks for c in chunk.choices]
    # What stood before the violation was free to go; the call breaks off there, as a filtered answer.
    pieces = [call.function.arguments or "" for c in choices for call in c.delta.tool_calls or []]
    assert '{"q": "'.startswith("".join(pieces))
    assert [c.finish_reason for c in choices if c.finish_reason] == ["content_filter"]


def test_leaving_a_stream_ends_the_upstream_call(client, places, intake_logs):
    before = call_json(f"{places.model}/demo/stats")["cancelled"]
    raw = client.chat.completions.with_raw_response.create(**ask("demo:words=9 demo:hang=4", stream=True))
    with raw.parse() as stream:
        assert next(iter(stream)).choices[0].delta.role == "assistant"
    stats = call_json(f"{places.model}/demo/stats?cancelled={before + 1}&wait_ms=20000")
    assert stats["cancelled"] == before + 1
    log = intake_logs(raw.headers["x-policy-event-id"])["log"]
    assert log["request"]["outcome"] == "client_gone"


def test_models(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_many_at_once_are_each_logged(places, intake_logs):
    async def run():
        async with openai.AsyncOpenAI(
            base_url=places.gateway + "/v1", api_key=places.keys["refuse"], max_retries=0, timeout=30
        ) as client:
            completions = client.chat.completions.with_raw_response
            return await asyncio.gather(*(completions.create(**ask(f"number {n}")) for n in range(64)))

    answers = asyncio.run(run())
    said = [raw.parse().choices[0].message.content for raw in answers]
    assert said == [f"Glad to help. You said: number {n}" for n in range(64)]
    ids = {raw.headers["x-policy-event-id"] for raw in answers}
    assert len(ids) == 64
    for event_id in ids:
        received = intake_logs(event_id)
        assert received["violations"] == [] and received["dropped"] is None

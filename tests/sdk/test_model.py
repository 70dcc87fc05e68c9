"""The demo model as OpenAI's own client sees it, without a gateway between: what the gateway is tested against
is itself checked by a client nobody here wrote."""

import openai
import pytest

MODEL = "demo-model"


def ask(text):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]}


def test_answer(model_client):
    answer = model_client.chat.completions.create(**ask("hello there"))
    assert answer.choices[0].message.content == "Glad to help. You said: hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id


@pytest.mark.parametrize("script", ["", " demo:chunk=1", " demo:tear=3", " demo:crlf demo:comment"])
def test_stream(model_client, script):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(model_client.chat.completions.create(**ask(f"grüße 日本{script}"), **options))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "Glad to help. You said: grüße 日本"
    assert chunks[-1].usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_streamed_tool_call(model_client):
    text = 'demo:tool=find args={"q": "cats"} demo:chunk=2'
    with model_client.chat.completions.stream(**ask(text)) as stream:
        answer = stream.get_final_completion()
    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("find", '{"q": "cats"}')
    assert answer.choices[0].finish_reason == "tool_calls"


def test_models(model_client):
    assert [model.id for model in model_client.models.list()] == [MODEL]
    assert model_client.models.retrieve(MODEL).id == MODEL


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_scripted_status(model_client, status, error):
    with pytest.raises(error) as raised:
        model_client.chat.completions.create(**ask(f"demo:status={status} demo:retry_after=7"))
    assert raised.value.response.headers["retry-after"] == "7"
    assert raised.value.type


def test_gateway_fields_are_refused(model_client):
    with pytest.raises(openai.BadRequestError) as raised:
        model_client.chat.completions.create(**ask("hi"), extra_body={"policy_user": "u"})
    assert raised.value.param == "policy_user"


def test_cut_stream(model_client):
    stream = model_client.chat.completions.create(**ask("demo:words=20 demo:cut=5"), stream=True)
    seen = []
    with pytest.raises(openai.APIConnectionError):
        for chunk in stream:
            seen.append(chunk)
    assert len(seen) == 5

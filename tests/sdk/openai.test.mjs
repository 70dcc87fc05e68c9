// OpenAI's own client for Node through the gateway: nothing about it is changed but the base URL and the key.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const env = (name) => {
  assert.ok(process.env[name], `${name} is not set`);
  return process.env[name];
};
const GATEWAY = env("SDK_GATEWAY_URL");
const MODEL_URL = env("SDK_MODEL_URL");
const INTAKE = env("SDK_INTAKE_URL");
const REFUSAL = "This is not something I can help with.";

const clientOf = (apiKey, base = "/v1") =>
  new OpenAI({ baseURL: GATEWAY + base, apiKey, maxRetries: 0, timeout: 20_000 });
const client = clientOf(env("SDK_KEY_REFUSE"));
const ask = (content, fields = {}) => ({
  model: "demo-model",
  messages: [{ role: "user", content }],
  ...fields,
});
const getJson = async (url) => (await fetch(url)).json();

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const deltas = chunks.flatMap((chunk) => chunk.choices);
  const joined = (name) => deltas.map((choice) => choice.delta[name] ?? "").join("");
  const finish = deltas.map((choice) => choice.finish_reason).filter(Boolean);
  return { chunks, content: joined("content"), refusal: joined("refusal"), finish };
}

async function logOf(eventId) {
  assert.ok(eventId);
  for (let after = 0; ; ) {
    const page = await getJson(`${INTAKE}/demo/logs?after=${after}&wait_ms=20000`);
    assert.notEqual(page.logs.length, 0, `no log of ${eventId}`);
    const found = page.logs.find((received) => received.log.event?.id === eventId);
    if (found) return found.log;
    after = page.next;
  }
}

test("an answer and its headers", async () => {
  const { data, response } = await client.chat.completions.create(ask("hello there")).withResponse();
  assert.equal(data.choices[0].message.content, "Glad to help. You said: hello there");
  assert.equal(data.choices[0].finish_reason, "stop");
  assert.ok(data.usage.total_tokens > 0);
  assert.equal(data.policy, undefined);
  assert.equal(response.headers.get("x-policy-decision"), "allow");
  const log = await logOf(response.headers.get("x-policy-event-id"));
  assert.equal(log.policy.decision, "allow");
});

test("moderations of a text, several texts and parts", async () => {
  const one = await client.moderations.create({ input: "a quiet day" });
  assert.ok(one.id.startsWith("modr-"));
  assert.equal(one.results[0].flagged, false);
  assert.equal(Object.keys(one.results[0].categories).length, 13);
  const several = await client.moderations.create({ input: ["a quiet day", "you are a worthless idiot"] });
  const [quiet, rude] = several.results.map((result) => result.category_scores.harassment);
  assert.ok(rude > quiet);
  const image = { type: "image_url", image_url: { url: "https://example.com/a.png" } };
  const parts = await client.moderations.create({ input: [{ type: "text", text: "a quiet day" }, image] });
  assert.deepEqual(parts.results[0].category_applied_input_types.hate, ["text"]);
});

test("a stream, however it is cut", async () => {
  for (const script of ["", " demo:chunk=1", " demo:tear=3", " demo:crlf demo:comment"]) {
    const seen = await collect(await client.chat.completions.create(ask(`grüße 日本${script}`, { stream: true })));
    assert.equal(seen.content, "Glad to help. You said: grüße 日本");
    assert.deepEqual(seen.finish, ["stop"]);
    assert.ok(seen.chunks.every((chunk) => chunk.usage == null));
  }
});

test("a stream with usage", async () => {
  const asked = ask("hello", { stream: true, stream_options: { include_usage: true } });
  const { chunks } = await collect(await client.chat.completions.create(asked));
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.ok(chunks.at(-1).usage.total_tokens > 0);
});

test("redaction reaches the upstream", async () => {
  const answer = await client.chat.completions.create(ask("write to alice@example.com today"));
  const said = answer.choices[0].message.content;
  assert.match(said, /^Glad to help\. You said: write to .+ today$/);
  assert.ok(!said.includes("alice@example.com"));
});

test("a refusal is a content filter, streamed too", async () => {
  const answer = await client.chat.completions.create(ask("explain credential theft"));
  const { message, finish_reason } = answer.choices[0];
  assert.deepEqual([finish_reason, message.refusal, message.content], ["content_filter", REFUSAL, null]);
  const seen = await collect(
    await client.chat.completions.create(ask("explain credential theft", { stream: true })),
  );
  assert.deepEqual([seen.finish, seen.refusal, seen.content], [["content_filter"], REFUSAL, ""]);
});

test("a denied term in the answer never shows, however it is cut", async () => {
  for (const size of [1, 4, 50]) {
    const text = `demo:say="How \\u0063redential theft is done" demo:chunk=${size}`;
    const seen = await collect(await client.chat.completions.create(ask(text, { stream: true })));
    assert.ok(!seen.content.toLowerCase().includes("credential"), seen.content);
    assert.deepEqual(seen.finish, ["content_filter"]);
  }
});

test("errors are the client's own types", async () => {
  const refused = clientOf(env("SDK_KEY_ERROR")).chat.completions.create(ask("explain credential theft"));
  await assert.rejects(refused, (error) => {
    assert.ok(error instanceof OpenAI.PermissionDeniedError);
    return error.code === "policy_refused";
  });
  const wrongKey = clientOf("ak_wrong").chat.completions.create(ask("hi"));
  await assert.rejects(wrongKey, OpenAI.AuthenticationError);
  const badBody = client.chat.completions.create(ask("hi", { messages: [] }));
  await assert.rejects(badBody, OpenAI.BadRequestError);
  const limited = client.chat.completions.create(ask("demo:status=429 demo:retry_after=7"));
  await assert.rejects(limited, (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    return error.headers.get("retry-after") === "7";
  });
  await assert.rejects(client.get("/nothing/here"), OpenAI.NotFoundError);
});

test("the policy twin adds a policy to bodies and frames", async () => {
  const twin = clientOf(env("SDK_KEY_REFUSE"), "/policy/v1");
  assert.equal((await twin.chat.completions.create(ask("hello"))).policy.decision, "allow");
  const { chunks } = await collect(await twin.chat.completions.create(ask("hello", { stream: true })));
  assert.ok(chunks.every((chunk) => chunk.policy.decision === "allow"));
});

test("tool calls, streamed and not", async () => {
  const asked = ask('demo:tool=find args={"q": "cats"} demo:chunk=2');
  const call = (await client.chat.completions.create(asked)).choices[0].message.tool_calls[0];
  assert.deepEqual(JSON.parse(call.function.arguments), { q: "cats" });
  const runner = client.chat.completions.stream(asked);
  const streamed = (await runner.finalChatCompletion()).choices[0].message.tool_calls[0];
  assert.deepEqual([streamed.function.name, streamed.function.arguments], ["find", '{"q": "cats"}']);
});

test("aborting a stream ends the upstream call", async () => {
  const before = (await getJson(`${MODEL_URL}/demo/stats`)).cancelled;
  const stream = await client.chat.completions.create(ask("demo:words=9 demo:hang=4", { stream: true }));
  for await (const chunk of stream) {
    assert.equal(chunk.choices[0].delta.role, "assistant");
    stream.controller.abort();
    break;
  }
  const after = await getJson(`${MODEL_URL}/demo/stats?cancelled=${before + 1}&wait_ms=20000`);
  assert.equal(after.cancelled, before + 1);
});

test("models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, ["demo-model"]);
});

// Uses a studio through OpenAI's own client for JavaScript, and says "ok NAME" for
// each thing that worked. The client lies in STUDIO_CLIENTS.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { File } from "node:buffer";

globalThis.File ??= File; // older versions of Node.js do not have it there
const require = createRequire(`${process.env.STUDIO_CLIENTS}/npm/`);
const OpenAI = require("openai").default;
const { toFile } = require("openai");
const { VERSION } = require("openai/version");
const { STUDIO_URL: studio, STUDIO_KEY: key, STUDIO_REVOKED: revoked, STUDIO_MODE: mode } = process.env;

const client = (apiKey = key) => new OpenAI({ baseURL: `${studio}/v1`, apiKey, maxRetries: 0 });
const ok = (name) => console.log(`ok ${name}`);
const messages = [{ role: "user", content: "name this town" }];
const fails = async (call, type, want) => {
  const error = await call.then(() => assert.fail("the call worked"), (e) => e);
  assert.ok(error instanceof type, `${error}`);
  for (const [name, value] of Object.entries(want)) assert.equal(error[name], value, `${name} of ${error}`);
  return error;
};

const work = {
  async models() {
    const ids = [];
    for await (const model of client().models.list()) ids.push(model.id);
    assert.ok(ids.includes("synthetic-llm"), `${ids}`);
    assert.equal((await client().models.retrieve("synthetic-llm")).object, "model");
  },
  async chat() {
    const answer = await client().chat.completions.create({
      model: "synthetic-llm", messages, temperature: 0, max_tokens: 50, stop: ["\n"], seed: 1,
      response_format: { type: "json_schema", json_schema: { name: "town", schema: { type: "object" } } },
    });
    assert.match(answer.choices[0].message.content, /^\[synthetic\]/);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
    assert.match(answer.id, /^chatcmpl-/);
    assert.ok(answer._request_id);
  },
  async "several chats at once"() {
    const answers = await Promise.all([...Array(8).keys()].map((i) =>
      client().chat.completions.create({ model: "synthetic-llm", messages: [{ role: "user", content: `town ${i}` }] })));
    assert.equal(new Set(answers.map((a) => a.choices[0].message.content)).size, 8);
  },
  async "streamed chat"() {
    const whole = await client().chat.completions.create({ model: "synthetic-llm", messages });
    const stream = await client().chat.completions.create({ model: "synthetic-llm", messages, stream: true, stream_options: { include_usage: true } });
    let text = "", usage, reason;
    for await (const piece of stream) {
      text += piece.choices[0]?.delta?.content ?? "";
      reason = piece.choices[0]?.finish_reason ?? reason;
      usage = piece.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(reason, "stop");
    assert.deepEqual(usage, whole.usage);
  },
  async "streamed chat, gathered by the client"() {
    const final = await client().chat.completions.stream({ model: "default", messages }).finalContent();
    assert.match(final, /^\[synthetic\]/);
  },
  async images() {
    const answer = await client().images.generate({ model: "synthetic-image", prompt: "a lighthouse in fog", size: "128x64", n: 2, response_format: "b64_json" });
    assert.equal(answer.data.length, 2);
    const picture = Buffer.from(answer.data[0].b64_json, "base64");
    assert.equal(picture.toString("latin1", 1, 4), "PNG");
    assert.deepEqual([picture.readUInt32BE(16), picture.readUInt32BE(20)], [128, 64]);
  },
  async "image by address"() {
    const answer = await client().images.generate({ model: "synthetic-image", prompt: "a lighthouse", size: "64x64", response_format: "url" });
    const response = await fetch(answer.data[0].url);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "image/png");
    assert.ok((await response.arrayBuffer()).byteLength > 50);
  },
  async speech() {
    const response = await client().audio.speech.create({ model: "synthetic-tts", voice: "alloy", input: "we sail at dawn", response_format: "wav" });
    assert.equal(response.headers.get("content-type"), "audio/wav");
    const sound = Buffer.from(await response.arrayBuffer());
    assert.equal(sound.toString("latin1", 0, 4), "RIFF");
  },
  async transcription() {
    const upload = () => toFile(Buffer.from("RIFF....WAVE"), "harbour.wav");
    const say = async (format) => client().audio.transcriptions.create({ model: "synthetic-stt", file: await upload(), language: "en", response_format: format });
    assert.match((await say("json")).text, /^\[synthetic\]/);
    assert.match(await say("text"), /^\[synthetic\]/);
    assert.match(await say("srt"), /^1\n00:00:00,000 --> 00:00:01,000\n\[synthetic\]/);
    assert.match(await say("vtt"), /^WEBVTT\n\n00:00:00\.000 --> 00:00:01\.000\n/);
    const verbose = await say("verbose_json");
    assert.equal(verbose.duration, 1);
    assert.match(verbose.segments[0].text, /^\[synthetic\]/);
    assert.match((await client().audio.translations.create({ model: "synthetic-stt", file: await upload() })).text, /^\[synthetic\]/);
  },
};

const errors = {
  async "wrong key"() {
    await fails(client("sw-wrong").chat.completions.create({ model: "default", messages }), OpenAI.AuthenticationError, { status: 401, code: "invalid_api_key" });
  },
  async "revoked key"() {
    await fails(client(revoked).models.list(), OpenAI.AuthenticationError, { status: 401, code: "invalid_api_key" });
  },
  async "unknown model"() {
    await fails(client().chat.completions.create({ model: "nobody", messages }), OpenAI.NotFoundError, { status: 404, code: "model_not_found", param: "model" });
    await fails(client().models.retrieve("nobody"), OpenAI.NotFoundError, { status: 404, code: "model_not_found" });
  },
  async tools() {
    const tools = [{ type: "function", function: { name: "tide", parameters: {} } }];
    await fails(client().chat.completions.create({ model: "synthetic-llm", messages, tools }), OpenAI.BadRequestError, { status: 400, code: "unsupported_parameter", param: "tools" });
  },
  async "address that is not there"() {
    await fails(client().embeddings.create({ model: "synthetic-llm", input: "x" }), OpenAI.NotFoundError, { status: 404, code: "unknown_url" });
  },
  async "no worker"() {
    const error = await fails(client().chat.completions.create({ model: "huge", messages }), OpenAI.InternalServerError, { status: 503, code: "no_worker" });
    assert.equal(error.headers.get("retry-after"), "30");
  },
  async "caller goes away"() {
    const leaving = new AbortController();
    setTimeout(() => leaving.abort(), 1500);
    await fails(client().chat.completions.create({ model: "synthetic-llm", messages }, { signal: leaving.signal }), OpenAI.APIUserAbortError, {});
  },
  async "time out"() {
    const error = await fails(client().chat.completions.create({ model: "synthetic-llm", messages }), OpenAI.InternalServerError, { status: 504, code: "timeout" });
    assert.ok(error.headers.get("retry-after"));
    await fails(client().chat.completions.create({ model: "synthetic-llm", messages, stream: true }), OpenAI.InternalServerError, { status: 504, code: "timeout" });
  },
};

const full = {
  async "full queue"() {
    const error = await fails(client().chat.completions.create({ model: "synthetic-llm", messages }), OpenAI.RateLimitError, { status: 429, code: "queue_full" });
    assert.ok(error.headers.get("retry-after"));
  },
};

console.log(`version ${VERSION}`);
for (const [name, check] of Object.entries({ work, errors, full }[mode])) {
  await check();
  ok(name);
}

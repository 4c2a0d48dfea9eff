// Uses the local API through OpenAI's own client. The client lies in the folder that
// is the first argument; address and token follow.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [folder, baseURL, apiKey] = process.argv.slice(2);
const require = createRequire(`${folder}/npm/`);
const OpenAI = require("openai").default;
const client = (key = apiKey) => new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: "hello there you" }];

const answer = await client().chat.completions.create({ model: "parrot", messages, max_tokens: 5, temperature: 0 });
assert.equal(answer.choices[0].message.content, "hello there you");
assert.equal(answer.choices[0].finish_reason, "stop");
assert.equal(answer.usage.total_tokens, 3);

let content = "", usage, finish;
for await (const chunk of await client().chat.completions.create({ model: "parrot", messages, stream: true })) {
  content += chunk.choices[0].delta.content ?? "";
  finish = chunk.choices[0].finish_reason ?? finish;
  usage = chunk.usage ?? usage;
}
assert.equal(content, "hello there you");
assert.equal(finish, "stop");
assert.equal(usage.total_tokens, 3);

const ids = [];
for await (const model of client().models.list()) ids.push(model.id);
assert.ok(ids.includes("parrot"), `${ids}`);

const fails = async (call, type, status, code) => {
  const error = await call.then(() => assert.fail("the call worked"), (e) => e);
  assert.ok(error instanceof type, `${error}`);
  assert.equal(error.status, status);
  assert.equal(error.code, code);
  assert.ok(error.message.length > 10);
};
const ask = (model, text, key) => client(key).chat.completions.create({ model, messages: [{ role: "user", content: text }] });
await fails(ask("parrot", "x", "another"), OpenAI.AuthenticationError, 401, "invalid_api_key");
await fails(ask("gpt-9", "x"), OpenAI.NotFoundError, 404, "model_not_found");
await fails(ask("parrot", "too large"), OpenAI.ConflictError, 409, "insufficient_memory");
await fails(client().chat.completions.create({ model: "parrot", messages: [] }), OpenAI.BadRequestError, 400, "invalid_value");
const broken = await client().chat.completions.create({ model: "parrot", messages: [{ role: "user", content: "break" }], stream: true });
await assert.rejects(async () => { for await (const chunk of broken) assert.ok(chunk); }, OpenAI.APIError);
console.log("all is well");

import { test } from "node:test";
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { NoopRatelimit, Overrides, Ratelimit } from "@unkey/ratelimit";
import * as errors from "@unkey/api/models/errors";
import { client, post, refused, rootKey, serverURL, unique, unkey, window, windowEnd } from "./client.mjs";

const noNamespace = /** @type {const} */ ([errors.NotFoundErrorResponse, 404, "unkey/data/ratelimit_namespace_not_found"]);
const noOverride = /** @type {const} */ ([errors.NotFoundErrorResponse, 404, "unkey/data/ratelimit_override_not_found"]);
const denied = /** @type {const} */ ([errors.ForbiddenErrorResponse, 403, "unkey/authorization/insufficient_permissions"]);

// A duration may be a month at most here, so that now cannot be in the middle of its window; such a test takes a duration whose window has just begun.
const month = 2592000000;
const duration = [...Array(3600).keys()].map((i) => month - 1000 * i).reduce((a, b) => (Date.now() % a < Date.now() % b ? a : b));

/** A limiter of the official package, which is told the server's address. */
const limiter = (/** @type {Partial<import("@unkey/ratelimit").RatelimitConfig>} */ more = {}) =>
  new Ratelimit({ rootKey, baseUrl: serverURL, namespace: unique("emails"), limit: 3, duration, timeout: false, ...more });

test("a limit is taken from, and refuses when it is used up", async () => {
  const namespace = unique("emails");
  const ask = async (/** @type {number} */ cost) => (await unkey.ratelimit.limit({ namespace, identifier: "user_1", limit: 3, duration, cost })).data;
  const reset = Math.ceil(Date.now() / duration) * duration;
  assert.deepEqual(await ask(1), { success: true, limit: 3, remaining: 2, reset });
  assert.deepEqual(await ask(3), { success: false, limit: 3, remaining: 0, reset });
  assert.deepEqual(await ask(2), { success: true, limit: 3, remaining: 0, reset }, "a refusal takes nothing");
  assert.deepEqual(await ask(0), { success: true, limit: 3, remaining: 0, reset }, "0 looks");
});

test("several limits are taken from together or not at all", async () => {
  const [one, other] = [unique("one"), unique("other")];
  const ask = async (/** @type {number} */ cost) =>
    (await unkey.ratelimit.multiLimit([{ namespace: one, identifier: "i", limit: 5, duration, cost }, { namespace: other, identifier: "i", limit: 2, duration }])).data;
  const shown = (/** @type {Awaited<ReturnType<typeof ask>>} */ d) => [d.passed, ...d.limits.map((l) => [l.namespace, l.identifier, l.limit, l.remaining, l.passed])];
  assert.deepEqual(shown(await ask(1)), [true, [one, "i", 5, 4, true], [other, "i", 2, 1, true]]);
  assert.deepEqual(shown(await ask(9)), [false, [one, "i", 5, 0, false], [other, "i", 2, 1, true]]);
  assert.deepEqual(shown(await ask(4)), [true, [one, "i", 5, 0, true], [other, "i", 2, 0, true]]);
});

test("an override's life", async () => {
  const namespace = unique("emails"), identifier = "user_1";
  const body = { namespace, identifier, limit: 7, duration: window };
  await refused(unkey.ratelimit.setOverride(body), ...noNamespace);
  await unkey.ratelimit.limit({ namespace, identifier, limit: 3, duration });
  const { data: { overrideId } } = await unkey.ratelimit.setOverride(body);
  assert.match(overrideId, /^rlor_[A-Za-z0-9]+$/);
  assert.deepEqual((await unkey.ratelimit.getOverride({ namespace, identifier })).data, { overrideId, identifier, limit: 7, duration: window });
  assert.deepEqual((await unkey.ratelimit.limit({ namespace, identifier, limit: 3, duration })).data, { success: true, limit: 7, remaining: 6, reset: windowEnd, overrideId });
  await unkey.ratelimit.setOverride({ ...body, limit: 0 });
  const { data } = await unkey.ratelimit.limit({ namespace, identifier, limit: 3, duration });
  assert.deepEqual([data.success, data.limit, data.overrideId], [false, 0, overrideId], "0 blocks");
  for (let i = 0; i < 4; i++) await unkey.ratelimit.setOverride({ ...body, identifier: `*@${i}.example.com` });
  const listed = [];
  for await (const { result } of await unkey.ratelimit.listOverrides({ namespace, limit: 2 })) listed.push(result.data.map((o) => o.identifier));
  assert.deepEqual(listed, [[identifier, "*@0.example.com"], ["*@1.example.com", "*@2.example.com"], ["*@3.example.com"]]);
  assert.deepEqual((await unkey.ratelimit.deleteOverride({ namespace, identifier })).data, {});
  await refused(unkey.ratelimit.deleteOverride({ namespace, identifier }), ...noOverride);
  await refused(unkey.ratelimit.getOverride({ namespace, identifier }), ...noOverride);
});

test("400, 403, 404 and 410 of each", async () => {
  const namespace = unique("emails"), identifier = "i", nowhere = unique("nowhere");
  const made = await post("rootKeys.createRootKey", { permissions: ["api.*.verify_key"] });
  const other = client(made.key).ratelimit, question = { namespace, identifier, limit: 1, duration };
  await refused(other.limit(question), ...denied);
  await refused(other.multiLimit([question]), ...denied);
  await refused(unkey.ratelimit.getOverride({ namespace: nowhere, identifier }), ...noNamespace);
  await refused(unkey.ratelimit.deleteOverride({ namespace: nowhere, identifier }), ...noNamespace);
  await refused(unkey.ratelimit.listOverrides({ namespace: nowhere }), ...noNamespace);
  const error = await refused(unkey.ratelimit.limit({ ...question, duration: 999 }), errors.BadRequestErrorResponse, 400, "unkey/application/invalid_input");
  assert.deepEqual(error.errors.map((/** @type {any} */ e) => e.location), ["/properties/duration/minimum"]);
  await unkey.ratelimit.limit(question);
  await post("ratelimit.deleteNamespace", { namespace });
  const gone = /** @type {const} */ ([errors.GoneErrorResponse, 410, "unkey/data/ratelimit_namespace_gone"]);
  await refused(unkey.ratelimit.limit(question), ...gone);
  await refused(unkey.ratelimit.multiLimit([question]), ...gone);
});

test("@unkey/ratelimit: allowed, denied, and denied from its memory", async () => {
  const limited = limiter();
  const first = await limited.limit("user_1");
  assert.deepEqual(first, { success: true, limit: 3, remaining: 2, reset: first.reset });
  assert.ok(first.reset > Date.now() && first.reset <= Date.now() + duration);
  assert.equal((await limited.limit("user_1", { cost: 2 })).remaining, 0);
  const refusal = await limited.limit("user_1");
  assert.deepEqual(refusal, { success: false, limit: 3, remaining: 0, reset: first.reset });
  assert.deepEqual(await limited.limit("user_1", { cost: 0 }), refusal, "the client keeps a refusal until its window ends");
  assert.equal((await limited.limit("user_2")).remaining, 2, "another identifier");
  assert.equal((await limited.limit("user_1", { limit: { limit: 10, duration } })).remaining, 6, "another limit counts what was taken");
  assert.equal((await limited.limit("user_1", { limit: { limit: 10, duration: "30 d" }, cost: 11 })).success, false);
});

test("@unkey/ratelimit: exact under concurrent calls", async () => {
  const limited = limiter({ limit: 10 });
  const answers = await Promise.all(Array.from({ length: 25 }, () => limited.limit("user_1")));
  assert.equal(answers.filter((a) => a.success).length, 10);
});

test("@unkey/ratelimit: overrides are set, applied, listed and deleted", async () => {
  const namespace = unique("emails"), identifier = "*@example.com";
  const overrides = new Overrides({ rootKey, baseUrl: serverURL });
  const limited = limiter({ namespace });
  assert.equal((await limited.limit("a@example.com")).limit, 3);
  const { data: { overrideId } } = await overrides.setOverride({ namespace, identifier, limit: 9, duration: window });
  assert.deepEqual((await overrides.getOverride({ namespace, identifier: "b@example.com" })).data, { overrideId, identifier, limit: 9, duration: window });
  assert.deepEqual(await limited.limit("a@example.com", { cost: 4 }), { success: true, limit: 9, remaining: 5, reset: windowEnd, overrideId });
  assert.deepEqual((await overrides.listOverrides({ namespace })).data, [{ overrideId, identifier, limit: 9, duration: window }]);
  assert.deepEqual((await overrides.deleteOverride({ namespace, identifier })).data, {});
  assert.deepEqual((await limited.limit("a@example.com")).overrideId, undefined);
  await assert.rejects(overrides.getOverride({ namespace, identifier }), { name: "NotFoundErrorResponse", statusCode: 404 });
});

test("@unkey/ratelimit: an error is thrown, or answered by onError", async () => {
  const wrong = { rootKey: unique("root") };
  await assert.rejects(limiter(wrong).limit("user_1"), { name: "UnauthorizedErrorResponse", statusCode: 401 });
  const answer = { success: true, limit: 0, remaining: 0, reset: 0 };
  const seen = /** @type {string[]} */ ([]);
  assert.deepEqual(await limiter({ ...wrong, onError: (_, identifier) => (seen.push(identifier), answer) }).limit("user_1"), answer);
  assert.deepEqual(seen, ["user_1"]);
});

test("@unkey/ratelimit: the timeout answers for a server that does not, and not for this one", async () => {
  const fallback = { success: true, limit: -1, remaining: -1, reset: 0 };
  const silent = createServer(() => {}).listen(0, "127.0.0.1");
  await new Promise((resolve) => silent.once("listening", resolve));
  const address = /** @type {import("node:net").AddressInfo} */ (silent.address());
  const waiting = limiter({ baseUrl: `http://127.0.0.1:${address.port}`, timeout: { ms: 50, fallback: () => fallback } });
  assert.deepEqual(await waiting.limit("user_1"), fallback);
  silent.closeAllConnections();
  silent.close();
  assert.equal((await limiter({ timeout: { ms: "1m", fallback } }).limit("user_1")).remaining, 2);
  assert.equal((await new NoopRatelimit().limit("user_1")).success, true);
});

import { test } from "node:test";
import assert from "node:assert/strict";
import * as errors from "@unkey/api/models/errors";
import { createKey, outcome, refused, unique, unkey, verify, window, windowEnd } from "./client.mjs";

test("NOT_FOUND says nothing more", async () => {
  const { key } = await createKey({ prefix: "sk" });
  for (const other of [`${key}x`, key.slice(0, -1), key.slice(3), ` ${key}`, unique("sk")]) {
    assert.deepEqual(await verify(other, { permissions: "(((" }), { valid: false, code: "NOT_FOUND" });
  }
});

test("DISABLED and EXPIRED", async () => {
  const disabled = await createKey({ enabled: false, expires: 1, permissions: ["a.b"], credits: { remaining: 1 } });
  const fields = { valid: false, keyId: disabled.keyId, expires: 1, credits: 1, permissions: ["a.b"] };
  assert.deepEqual(await verify(disabled.key, { permissions: "other" }), { ...fields, code: "DISABLED", enabled: false }, "comes before EXPIRED");
  await unkey.keys.updateKey({ keyId: disabled.keyId, enabled: true });
  assert.deepEqual(await verify(disabled.key, { permissions: "other" }), { ...fields, code: "EXPIRED", enabled: true }, "comes before permissions");
  const past = Date.now() - 1000;
  const expired = await createKey({ expires: past });
  assert.deepEqual(await verify(expired.key), { valid: false, code: "EXPIRED", keyId: expired.keyId, enabled: true, expires: past });
});

test("USAGE_EXCEEDED leaves what there is", async () => {
  const { key, keyId } = await createKey({ credits: { remaining: 5 } });
  const limited = { keyId, enabled: true };
  assert.deepEqual(await verify(key, { credits: { cost: 3 } }), { valid: true, code: "VALID", ...limited, credits: 2 });
  assert.deepEqual(await verify(key, { credits: { cost: 15 } }), { valid: false, code: "USAGE_EXCEEDED", ...limited, credits: 2 });
  assert.deepEqual(await verify(key), { valid: true, code: "VALID", ...limited, credits: 1 });
  assert.deepEqual(await verify(key), { valid: true, code: "VALID", ...limited, credits: 0 });
  assert.deepEqual(await verify(key), { valid: false, code: "USAGE_EXCEEDED", ...limited, credits: 0 });
  assert.deepEqual(await verify(key, { credits: { cost: 0 } }), { valid: true, code: "VALID", ...limited, credits: 0 });
});

test("credits are spent once each under concurrent calls", async () => {
  const { key } = await createKey({ credits: { remaining: 10 } });
  const answers = await Promise.all(Array.from({ length: 25 }, () => verify(key)));
  const left = answers.filter((a) => a.valid).map((a) => a.credits);
  assert.deepEqual(left.sort((a, b) => Number(a) - Number(b)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(new Set(answers.filter((a) => !a.valid).map((a) => `${a.code} ${a.credits}`)), new Set(["USAGE_EXCEEDED 0"]));
});

const limitedToTwo = { ratelimits: [{ name: "requests", limit: 2, duration: window, autoApply: true }] };

/** Verifies, checks the one limit that the answer shows, and returns what changes from call to call. */
async function count(/** @type {string} */ key) {
  const { code, credits, ratelimits } = await verify(key);
  assert.equal(ratelimits?.length, 1);
  const { id, remaining, exceeded, ...rest } = ratelimits[0];
  assert.match(id, /^rl_/);
  assert.deepEqual(rest, { name: "requests", limit: 2, duration: window, reset: windowEnd, autoApply: true });
  return { code, credits, remaining, exceeded };
}

test("RATE_LIMITED spends no credits", async () => {
  const { key, keyId } = await createKey({ ...limitedToTwo, credits: { remaining: 3 } });
  assert.deepEqual(await count(key), { code: "VALID", credits: 2, remaining: 1, exceeded: false });
  assert.deepEqual(await count(key), { code: "VALID", credits: 1, remaining: 0, exceeded: false });
  for (let i = 0; i < 2; i++) assert.deepEqual(await count(key), { code: "RATE_LIMITED", credits: 1, remaining: 0, exceeded: true });
  await unkey.keys.updateKey({ keyId, credits: { remaining: 0 } });
  assert.deepEqual(await count(key), { code: "RATE_LIMITED", credits: 0, remaining: 0, exceeded: true }, "comes before USAGE_EXCEEDED");
});

// Other than the reference, which keeps what the limit has given.
test("USAGE_EXCEEDED gives the limit back what was taken", async () => {
  const { key } = await createKey({ ...limitedToTwo, credits: { remaining: 1 } });
  assert.deepEqual(await count(key), { code: "VALID", credits: 0, remaining: 1, exceeded: false });
  for (let i = 0; i < 2; i++) assert.deepEqual(await count(key), { code: "USAGE_EXCEEDED", credits: 0, remaining: 1, exceeded: false });
});

test("of several limits all are taken or none", async () => {
  const { key } = await createKey({ ratelimits: [
    { name: "minute", limit: 2, duration: window, autoApply: true },
    { name: "month", limit: 200, duration: window, autoApply: true },
  ] });
  const answer = async () => {
    const { code, ratelimits } = await verify(key);
    return [code, Object.fromEntries((ratelimits ?? []).map((l) => [l.name, [l.remaining, l.exceeded]]))];
  };
  assert.deepEqual(await answer(), ["VALID", { minute: [1, false], month: [199, false] }]);
  assert.deepEqual(await answer(), ["VALID", { minute: [0, false], month: [198, false] }]);
  for (let i = 0; i < 2; i++) assert.deepEqual(await answer(), ["RATE_LIMITED", { minute: [0, true], month: [198, false] }]);
});

test("a named limit applies when asked for, at its cost", async () => {
  const { key } = await createKey({ ratelimits: [{ name: "exports", limit: 5, duration: window }] });
  const ask = async (/** @type {number | undefined} */ cost, /** @type {object} */ more = {}) => {
    const { code, ratelimits } = await verify(key, { ratelimits: [{ name: "exports", cost, ...more }] });
    assert.equal(ratelimits?.length, 1);
    const { name, limit, duration, reset, autoApply } = ratelimits[0];
    assert.deepEqual({ name, limit, duration, reset, autoApply }, { name: "exports", limit: 5, duration: window, reset: windowEnd, autoApply: false });
    return [code, ratelimits[0].remaining];
  };
  const unasked = await verify(key);
  assert.deepEqual([unasked.code, unasked.ratelimits], ["VALID", undefined]);
  assert.deepEqual((await verify(key, { ratelimits: [] })).ratelimits, undefined);
  assert.deepEqual(await ask(undefined), ["VALID", 4], "the client sends cost 1");
  assert.deepEqual(await ask(3), ["VALID", 1]);
  assert.deepEqual(await ask(2), ["RATE_LIMITED", 0]);
  assert.deepEqual(await ask(1, { limit: 1000 }), ["VALID", 0], "a limit without a duration is ignored");
  assert.deepEqual(await ask(0), ["VALID", 0], "asking costs nothing");
  assert.deepEqual(await ask(1, { duration: 1000 }), ["RATE_LIMITED", 0]);
});

test("an inline limit is the key's own", async () => {
  const [one, other] = [await createKey(), await createKey({ ratelimits: [{ name: "burst", limit: 1, duration: window, autoApply: true }] })];
  const burst = { name: "burst", limit: 2, duration: window };
  const ask = async (/** @type {string} */ key) => {
    const { code, ratelimits } = await verify(key, { ratelimits: [burst] });
    assert.equal(ratelimits?.length, 1);
    const { remaining, exceeded, ...rest } = ratelimits[0];
    assert.deepEqual(rest, { ...burst, id: "", reset: windowEnd, autoApply: false });
    return [code, remaining, exceeded];
  };
  assert.deepEqual(await ask(one.key), ["VALID", 1, false]);
  assert.deepEqual(await ask(one.key), ["VALID", 0, false]);
  assert.deepEqual(await ask(one.key), ["RATE_LIMITED", 0, true]);
  assert.deepEqual(await ask(other.key), ["VALID", 1, false], "it replaces the stored one");
  await refused(unkey.keys.verifyKey({ key: one.key, ratelimits: [{ ...burst, limit: 0 }] }), errors.BadRequestErrorResponse, 400, "unkey/application/invalid_input");
  await refused(unkey.keys.verifyKey({ key: one.key, ratelimits: [{ ...burst, duration: 999 }] }), errors.BadRequestErrorResponse, 400, "unkey/application/invalid_input");
});

test("an unknown named limit is refused after permissions, before limits", async () => {
  const { key, keyId } = await createKey({ permissions: ["docs.read"] });
  const question = { key, ratelimits: [{ name: "unknown" }] };
  await refused(unkey.keys.verifyKey(question), errors.APIError, 412, "unkey/application/precondition_failed");
  assert.equal(await outcome(key, { ...question, permissions: "docs.write" }), "INSUFFICIENT_PERMISSIONS");
  await unkey.keys.updateKey({ keyId, enabled: false });
  assert.equal(await outcome(key, question), "DISABLED");
});

test("permission queries", async () => {
  const role = unique("reader");
  await unkey.permissions.createRole({ name: role, permissions: ["docs.read", "docs.list"] });
  const { key, keyId } = await createKey({ roles: [role], permissions: ["docs.write", "api.*", "docs.list"] });
  for (const [query, valid] of /** @type {[string, boolean][]} */ ([
    ["docs.read", true],
    ["docs.write", true],
    ["docs.delete", false],
    ["docs.read AND docs.write", true],
    ["docs.read and docs.delete", false],
    ["docs.delete OR docs.read", true],
    ["docs.delete or docs.drop", false],
    ["docs.read OR docs.delete AND docs.drop", true],
    ["docs.delete AND docs.drop OR docs.read", true],
    ["(docs.read OR docs.delete) AND docs.drop", false],
    ["docs.write AND (docs.delete OR (docs.read AND docs.list))", true],
    ["((docs.read)and\n(docs.write))", true],
    ["DOCS.read", false], // matched byte for byte
    ["api.*", true],
    ["api.read", false], // * is a letter like any other
    ["docs.*", false],
    ["ANDROID OR a/b OR docs.read", true],
  ])) {
    assert.equal(await outcome(key, { permissions: query }), valid ? "VALID" : "INSUFFICIENT_PERMISSIONS", query);
  }
  const answer = await verify(key, { permissions: "docs.delete" });
  assert.deepEqual({ ...answer, permissions: answer.permissions?.sort() }, {
    valid: false, code: "INSUFFICIENT_PERMISSIONS", keyId, enabled: true, roles: [role],
    permissions: ["api.*", "docs.list", "docs.read", "docs.write"],
  });
});

test("a permission query that cannot be read is a bad request", async () => {
  const { key, keyId } = await createKey({ permissions: ["permission_1"] });
  const syntax = "user/bad_request/permissions_query_syntax_error";
  for (const permissions of [" ", "a b", "a(b)", "(a)(b)", "a AND", "OR a", "()", "a)", "a & b", "a,b", "a\u0001 AND b"]) {
    const error = await refused(unkey.keys.verifyKey({ key, permissions }), errors.BadRequestErrorResponse, 400, syntax);
    assert.deepEqual(error.errors, []);
  }
  for (const [permissions, position] of /** @type {[string, number][]} */ ([
    ["(permission_1 AND permission_2", 30], ["permission_1 AND ()", 18], ["AND permission_1", 0],
  ])) {
    const error = await refused(unkey.keys.verifyKey({ key, permissions }), errors.BadRequestErrorResponse, 400, syntax);
    assert.match(error.detail, new RegExp(`\\b${position}\\b`));
  }
  await unkey.keys.updateKey({ keyId, enabled: false });
  await refused(unkey.keys.verifyKey({ key, permissions: "(" }), errors.BadRequestErrorResponse, 400, syntax);
});

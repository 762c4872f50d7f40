import { test } from "node:test";
import assert from "node:assert/strict";
import * as errors from "@unkey/api/models/errors";
import { createKey, getKey, outcome, refused, unique, unkey, verify, window } from "./client.mjs";

/**
 * Makes a key, and returns a function that changes it and returns what getKey then says of the fields that can change.
 * @param {Parameters<typeof createKey>[0]} [fields]
 */
async function changing(fields) {
  const { key, keyId } = await createKey(fields);
  const created = await getKey(keyId);
  assert.equal(created.updatedAt, undefined, "a new key was never changed");
  const change = async (/** @type {Omit<import("@unkey/api/models/components").V2KeysUpdateKeyRequestBody, "keyId">} */ fields) => {
    assert.deepEqual((await unkey.keys.updateKey({ keyId, ...fields })).data, {});
    const { updatedAt, keyId: id, start, createdAt, lastUsedAt: _, ...rest } = await getKey(keyId); // it was used or not, some seconds ago
    assert.ok(updatedAt && updatedAt >= createdAt);
    assert.deepEqual({ id, start, createdAt }, { id: keyId, start: created.start, createdAt: created.createdAt });
    return rest;
  };
  return { key, keyId, change };
}

test("what is omitted is kept", async () => {
  const fields = {
    name: "n", meta: { a: 1 }, expires: Date.UTC(2099, 0, 1), enabled: false, permissions: ["docs.read"],
    credits: { remaining: 5, refill: { interval: /** @type {const} */ ("daily"), amount: 2 } },
  };
  const { change } = await changing(fields);
  assert.deepEqual(await change({}), fields);
  assert.deepEqual(await change({ enabled: true }), { ...fields, enabled: true });
});

test("name, meta and expires are set and cleared", async () => {
  const { key, keyId, change } = await changing({ name: "old", meta: { a: 1, b: { c: 2 } } });
  assert.deepEqual(await change({ name: "new" }), { enabled: true, name: "new", meta: { a: 1, b: { c: 2 } } });
  assert.deepEqual(await change({ meta: { b: { d: 3 } } }), { enabled: true, name: "new", meta: { b: { d: 3 } } }, "replaced, not merged");
  assert.deepEqual(await change({ meta: {} }), { enabled: true, name: "new" });
  assert.deepEqual(await change({ name: null, meta: null, expires: 1 }), { enabled: true, expires: 1 });
  assert.equal(await outcome(key), "EXPIRED");
  assert.deepEqual(await change({ expires: null }), { enabled: true });
  assert.deepEqual(await verify(key), { valid: true, code: "VALID", keyId, enabled: true });
});

test("enabled", async () => {
  const { key, change } = await changing();
  assert.deepEqual(await change({ enabled: false }), { enabled: false });
  assert.equal(await outcome(key), "DISABLED");
  assert.deepEqual(await change({ enabled: true }), { enabled: true });
  assert.equal(await outcome(key), "VALID");
});

test("externalId links, relinks and unlinks", async () => {
  const [first, second] = [unique("user"), unique("user")];
  const { key, change } = await changing({ externalId: first });
  const { identity } = await change({ externalId: second });
  assert.deepEqual(identity, { id: identity?.id, externalId: second });
  assert.deepEqual((await verify(key)).identity, identity);
  assert.deepEqual(await change({ externalId: null }), { enabled: true });
  assert.equal((await verify(key)).identity, undefined);
  assert.deepEqual((await change({ externalId: second })).identity, identity, "the identity stayed");
});

test("credits", async () => {
  const { key, change } = await changing();
  const daily = { interval: /** @type {const} */ ("daily"), amount: 1 }, monthly = { interval: /** @type {const} */ ("monthly"), amount: 2, refillDay: 31 };
  assert.deepEqual((await change({ credits: { remaining: 5, refill: daily } })).credits, { remaining: 5, refill: daily });
  assert.equal((await verify(key)).credits, 4);
  assert.deepEqual((await change({ credits: { refill: monthly } })).credits, { remaining: 4, refill: monthly });
  assert.deepEqual((await change({ credits: { remaining: 9 } })).credits, { remaining: 9, refill: monthly });
  assert.deepEqual((await change({ credits: {} })).credits, { remaining: 9, refill: monthly });
  assert.deepEqual((await change({ credits: { refill: null } })).credits, { remaining: 9 });
  assert.equal((await change({ credits: { remaining: null } })).credits, undefined);
  assert.equal((await verify(key)).credits, undefined);
  assert.deepEqual((await change({ credits: { remaining: 3, refill: daily } })).credits, { remaining: 3, refill: daily });
  assert.equal((await change({ credits: null })).credits, undefined);
  assert.deepEqual((await change({ credits: { remaining: 0 } })).credits, { remaining: 0 }, "the refill was cleared too");
  assert.equal(await outcome(key), "USAGE_EXCEEDED");
});

test("ratelimits are replaced by name", async () => {
  const { key, change } = await changing({ ratelimits: [
    { name: "requests", limit: 1, duration: window, autoApply: true },
    { name: "exports", limit: 1, duration: window },
  ] });
  assert.equal(await outcome(key), "VALID");
  assert.equal(await outcome(key), "RATE_LIMITED");
  const { ratelimits: before } = await change({});
  const id = before?.find((l) => l.name === "requests")?.id;
  assert.deepEqual((await change({ ratelimits: [{ name: "requests", limit: 3, duration: window, autoApply: true }] })).ratelimits,
    [{ id, name: "requests", limit: 3, duration: window, autoApply: true }], "the same name keeps its id");
  assert.equal((await verify(key)).ratelimits?.[0].remaining, 1, "the counter does not depend on the limit");
  assert.deepEqual(await change({ ratelimits: [] }), { enabled: true });
  assert.equal((await verify(key)).ratelimits, undefined);
});

test("roles and permissions are replaced", async () => {
  const reader = unique("reader"), writer = unique("writer");
  await unkey.permissions.createRole({ name: reader, permissions: ["docs.read"] });
  await unkey.permissions.createRole({ name: writer, permissions: ["docs.write"] });
  const { key, change } = await changing({ roles: [reader], permissions: ["docs.list"] });
  const slug = unique("made.by.update");
  let now = await change({ roles: [writer], permissions: [slug, slug] });
  assert.deepEqual({ ...now, permissions: now.permissions?.sort() }, { enabled: true, roles: [writer], permissions: ["docs.write", slug] });
  assert.equal(await outcome(key, { permissions: `docs.write AND ${slug}` }), "VALID");
  assert.equal(await outcome(key, { permissions: "docs.read OR docs.list" }), "INSUFFICIENT_PERMISSIONS");
  assert.deepEqual(await change({ permissions: [] }), { enabled: true, roles: [writer], permissions: ["docs.write"] });
  now = await change({ roles: [reader, writer] });
  assert.deepEqual([now.roles?.sort(), now.permissions?.sort()], [[reader, writer].sort(), ["docs.read", "docs.write"]]);
  assert.deepEqual(await change({ roles: [] }), { enabled: true });
});

test("what is refused changes nothing", async () => {
  const { keyId } = await createKey({ name: "n", credits: { remaining: 4 } });
  const before = await getKey(keyId);
  const name = "other";
  const monthly = { interval: /** @type {const} */ ("monthly"), amount: 1 }, daily = { interval: /** @type {const} */ ("daily"), amount: 1, refillDay: 2 };
  for (const refill of [monthly, daily]) {
    await refused(unkey.keys.updateKey({ keyId, name, credits: { refill } }), errors.BadRequestErrorResponse, 400, "unkey/application/invalid_input");
  }
  await refused(unkey.keys.updateKey({ keyId, name, permissions: ["docs.new"], roles: [unique("no_role")] }), errors.NotFoundErrorResponse, 404, "unkey/data/role_not_found");
  await refused(unkey.keys.updateKey({ keyId, name, expires: -1 }), errors.BadRequestErrorResponse, 400, "unkey/application/invalid_input");
  await refused(unkey.keys.updateKey({ keyId: "key_missing", name }), errors.NotFoundErrorResponse, 404, "unkey/data/key_not_found");
  assert.deepEqual(await getKey(keyId), before);
});

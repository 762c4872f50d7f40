import { test } from "node:test";
import assert from "node:assert/strict";
import * as errors from "@unkey/api/models/errors";
import { createApi, createKey, getKey, outcome, refused, unique, unkey, verify, window, windowEnd } from "./client.mjs";

const year2099 = Date.UTC(2099, 0, 1);

test("an API is created, read and deleted", async () => {
  const name = unique("payments");
  const apiId = await createApi(name);
  assert.deepEqual((await unkey.apis.getApi({ apiId })).data, { id: apiId, name });
  assert.notEqual(await createApi(name), apiId, "names need not be unique");

  const { key, keyId } = await createKey({ apiId });
  assert.equal(await outcome(key), "VALID");
  assert.deepEqual((await unkey.apis.deleteApi({ apiId })).data, {});
  assert.deepEqual(await verify(key), { valid: false, code: "NOT_FOUND" });
  await refused(unkey.apis.getApi({ apiId }), errors.NotFoundErrorResponse, 404, "unkey/data/api_not_found");
  await refused(unkey.apis.deleteApi({ apiId }), errors.NotFoundErrorResponse, 404, "unkey/data/api_not_found");
  await refused(unkey.apis.listKeys({ apiId }), errors.NotFoundErrorResponse, 404, "unkey/data/api_not_found");
  await refused(unkey.keys.createKey({ apiId }), errors.NotFoundErrorResponse, 404, "unkey/data/api_not_found");
  await refused(unkey.keys.getKey({ keyId }), errors.NotFoundErrorResponse, 404, "unkey/data/key_not_found");
});

test("a key with nothing but its API", async () => {
  const before = Date.now();
  const { key, keyId } = await createKey();
  assert.match(key, /^[1-9A-HJ-NP-Za-km-z]{16,22}$/);
  assert.match(keyId, /^key_[A-Za-z0-9]+$/);
  const { createdAt, ...rest } = await getKey(keyId);
  assert.ok(createdAt >= before - 1000 && createdAt <= Date.now() + 1000);
  assert.deepEqual(rest, { keyId, start: key.slice(0, 4), enabled: true });
  assert.deepEqual(await verify(key), { valid: true, code: "VALID", keyId, enabled: true });
});

test("a key with every field", async () => {
  const role = unique("editor");
  await unkey.permissions.createRole({ name: role, permissions: ["docs.read"] });
  const externalId = unique("user");
  const fields = {
    prefix: "sk_live",
    name: "Ada's key",
    byteLength: 32,
    externalId,
    meta: { plan: "pro", nested: { seats: 3, tags: ["a", "ü"] }, none: null },
    roles: [role],
    permissions: ["docs.write", "docs:admin-1"],
    expires: year2099,
    credits: { remaining: 100, refill: { interval: /** @type {const} */ ("monthly"), amount: 10, refillDay: 31 } },
    ratelimits: [
      { name: "requests", limit: 5, duration: window, autoApply: true },
      { name: "exports", limit: 2, duration: window }, // the client says autoApply: false
    ],
  };
  const { apiId, key, keyId } = await createKey(fields);
  assert.match(key, /^sk_live_[1-9A-HJ-NP-Za-km-z]{40,44}$/);

  const read = await getKey(keyId);
  const limits = [...(read.ratelimits ?? [])].sort((a, b) => a.name.localeCompare(b.name));
  const [exports, requests] = limits;
  for (const l of limits) assert.match(l.id, /^rl_[A-Za-z0-9]+$/);
  assert.match(read.identity?.id ?? "", /^id_[A-Za-z0-9]+$/);
  const permissions = ["docs.read", "docs.write", "docs:admin-1"];
  const { name, meta, expires } = fields;
  const identity = { id: read.identity?.id, externalId };
  assert.deepEqual({ ...read, ratelimits: limits, permissions: read.permissions?.sort() }, {
    keyId, name, meta, expires, permissions, identity,
    start: key.slice(0, "sk_live_".length + 4),
    enabled: true,
    createdAt: read.createdAt,
    roles: [role],
    credits: fields.credits,
    ratelimits: [
      { id: exports.id, name: "exports", limit: 2, duration: window, autoApply: false },
      { id: requests.id, name: "requests", limit: 5, duration: window, autoApply: true },
    ],
  });
  const listed = (await unkey.apis.listKeys({ apiId })).result.data;
  assert.equal(listed.length, 1);
  assert.deepEqual({ ...listed[0], permissions: listed[0].permissions?.sort(), ratelimits: limits }, { ...read, permissions, ratelimits: limits });

  const verified = await verify(key, { tags: ["path=/v1", "ü"], migrationId: "unknown" });
  assert.deepEqual({ ...verified, permissions: verified.permissions?.sort() }, {
    valid: true, code: "VALID", keyId, name, meta, expires, permissions, identity,
    enabled: true,
    roles: [role],
    credits: 99,
    ratelimits: [{ id: requests.id, name: "requests", limit: 5, duration: window, reset: windowEnd, remaining: 4, exceeded: false, autoApply: true }],
  });
  assert.deepEqual((await getKey(keyId)).credits, { ...fields.credits, remaining: 99 });
});

test("keys of one externalId share an identity", async () => {
  const externalId = unique("user");
  const keys = await Promise.all(Array.from({ length: 5 }, () => createKey({ externalId })));
  const identities = await Promise.all(keys.map(async ({ keyId }) => (await getKey(keyId)).identity));
  assert.deepEqual(identities, Array(5).fill(identities[0]));
  assert.equal(identities[0]?.externalId, externalId);
});

test("credits without a number are no limit", async () => {
  const { key, keyId } = await createKey({ credits: { remaining: null } });
  assert.deepEqual(await verify(key, { credits: { cost: 1000 } }), { valid: true, code: "VALID", keyId, enabled: true });
  assert.equal((await getKey(keyId)).credits, undefined);
});

test("of two limits with one name the last is kept", async () => {
  const { keyId } = await createKey({ ratelimits: [
    { name: "requests", limit: 1, duration: 1000, autoApply: true },
    { name: "requests", limit: 7, duration: 60000, autoApply: false },
  ] });
  const { ratelimits } = await getKey(keyId);
  assert.deepEqual(ratelimits, [{ id: ratelimits?.[0].id, name: "requests", limit: 7, duration: 60000, autoApply: false }]);
});

test("permissions and roles are created", async () => {
  const slug = unique("docs.read"), name = unique("Editor");
  const permission = await unkey.permissions.createPermission({ name: "Read documents", slug, description: "all of them" });
  assert.match(permission.data.permissionId, /^perm_[A-Za-z0-9]+$/);
  const role = await unkey.permissions.createRole({ name, description: "may edit", permissions: [slug, slug] });
  assert.match(role.data.roleId, /^role_[A-Za-z0-9]+$/);
  const { key } = await createKey({ roles: [name, name], permissions: [slug.toUpperCase()] });
  const { roles, permissions } = await verify(key);
  assert.deepEqual({ roles, permissions }, { roles: [name], permissions: [slug] }, "once each, and as they are written");
});

test("a key is deleted once", async () => {
  for (const permanent of [undefined, false, true]) {
    const { apiId, key, keyId } = await createKey();
    assert.equal(await outcome(key), "VALID");
    assert.deepEqual((await unkey.keys.deleteKey({ keyId, permanent })).data, {});
    assert.deepEqual(await verify(key), { valid: false, code: "NOT_FOUND" });
    await refused(unkey.keys.getKey({ keyId }), errors.NotFoundErrorResponse, 404, "unkey/data/key_not_found");
    await refused(unkey.keys.updateKey({ keyId, enabled: true }), errors.NotFoundErrorResponse, 404, "unkey/data/key_not_found");
    await refused(unkey.keys.deleteKey({ keyId, permanent: true }), errors.NotFoundErrorResponse, 404, "unkey/data/key_not_found");
    assert.deepEqual((await unkey.apis.listKeys({ apiId })).result.data, []);
  }
});

test("the page iterator walks over all keys", async () => {
  const apiId = await createApi();
  const externalId = unique("user");
  const ids = [];
  for (let i = 0; i < 6; i++) {
    ids.push((await createKey({ apiId, name: `key ${i}`, enabled: i !== 1, expires: i === 2 ? 1 : undefined, externalId: i < 4 ? externalId : undefined })).keyId);
  }
  /** @returns {Promise<string[][]>} the key ids of each page */
  const pages = async (/** @type {object} */ request) => {
    const out = [];
    for await (const { result } of await unkey.apis.listKeys({ apiId, ...request })) {
      out.push(result.data.map((k) => k.keyId));
      assert.equal(result.pagination?.hasMore, typeof result.pagination?.cursor === "string");
    }
    return out;
  };
  const all = await pages({});
  assert.equal(all.length, 1);
  assert.deepEqual([...all[0]].sort(), [...ids].sort());
  assert.deepEqual(all[0], [...all[0]].sort(), "by id");
  for (const [limit, sizes] of /** @type {const} */ ([[4, [4, 2]], [2, [2, 2, 2]], [6, [6]], [1, [1, 1, 1, 1, 1, 1]]])) {
    const got = await pages({ limit });
    assert.deepEqual(got.map((page) => page.length), sizes);
    assert.deepEqual(got.flat(), all[0]);
  }
  assert.deepEqual((await pages({ limit: 3, externalId })).map((page) => page.length), [3, 1]);
  assert.deepEqual(new Set((await pages({ externalId })).flat()), new Set(ids.slice(0, 4)));
  assert.deepEqual(await pages({ externalId: unique("nobody") }), [[]]);
  assert.deepEqual(await pages({ cursor: "" }), all);

  const first = await unkey.apis.listKeys({ apiId, limit: 4 });
  const second = await first.next();
  assert.deepEqual(second?.result.data.map((k) => k.keyId), all[0].slice(4));
  assert.deepEqual(second?.result.pagination, { hasMore: false });
  assert.equal(second?.next(), null);
});

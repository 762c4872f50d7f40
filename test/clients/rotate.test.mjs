import { test } from "node:test";
import assert from "node:assert/strict";
import * as errors from "@unkey/api/models/errors";
import { client, createApi, createKey, getKey, outcome, post, refused, unique, unkey, verify } from "./client.mjs";

const invalid = /** @type {const} */ ([errors.BadRequestErrorResponse, 400, "unkey/application/invalid_input"]);
const missing = /** @type {const} */ ([errors.NotFoundErrorResponse, 404, "unkey/data/key_not_found"]);
const forbidden = /** @type {const} */ ([errors.ForbiddenErrorResponse, 403, "unkey/authorization/insufficient_permissions"]);

test("whoami says what getKey says, whatever the key's state", async () => {
  const { key, keyId } = await createKey({ prefix: "sk", name: "n", meta: { a: 1 }, externalId: unique("user"), permissions: ["docs.read"], credits: { remaining: 1 } });
  assert.deepEqual((await unkey.keys.whoami({ key })).data, await getKey(keyId));
  assert.equal((await unkey.keys.whoami({ key })).data.credits?.remaining, 1, "it consumes nothing");
  await unkey.keys.updateKey({ keyId, enabled: false, expires: 1 });
  assert.deepEqual((await unkey.keys.whoami({ key })).data, await getKey(keyId));
  const other = client((await post("rootKeys.createRootKey", { permissions: ["api.*.verify_key"] })).key);
  await refused(other.keys.whoami({ key }), ...missing);
  await unkey.keys.deleteKey({ keyId });
  await refused(unkey.keys.whoami({ key }), ...missing);
});

test("updateCredits", async () => {
  const { key, keyId } = await createKey({ credits: { remaining: 5, refill: { interval: "daily", amount: 9 } } });
  const refill = { interval: "daily", amount: 9 };
  /** @param {Omit<import("@unkey/api/models/components").V2KeysUpdateCreditsRequestBody, "keyId">} change */
  const credits = async (change) => (await unkey.keys.updateCredits({ keyId, ...change })).data;
  assert.deepEqual(await credits({ operation: "increment", value: 2 }), { remaining: 7, refill });
  assert.equal((await verify(key)).credits, 6);
  assert.deepEqual(await credits({ operation: "decrement", value: 10 }), { remaining: 0, refill });
  assert.equal(await outcome(key), "USAGE_EXCEEDED");
  assert.deepEqual(await credits({ operation: "set" }), { remaining: null, refill });
  await refused(credits({ operation: "increment", value: 1 }), ...invalid);
  assert.equal((await verify(key)).credits, undefined);
  assert.deepEqual(await credits({ operation: "set", value: 1 }), { remaining: 1, refill });
  await refused(credits({ operation: "decrement", value: null }), ...invalid);
  await refused(credits({ operation: "decrement" }), ...invalid);
  assert.deepEqual(await credits({ operation: "set", value: null }), { remaining: null });
  assert.equal((await getKey(keyId)).updatedAt, undefined);
  await refused(unkey.keys.updateCredits({ keyId: "key_missing", operation: "set", value: 1 }), ...missing);
  const other = client((await post("rootKeys.createRootKey", { permissions: ["api.*.read_key"] })).key);
  await refused(other.keys.updateCredits({ keyId, operation: "set", value: 1 }), ...forbidden);
});

test("rerollKey", async () => {
  const fields = {
    prefix: "my_app", name: "n", meta: { a: 1 }, externalId: unique("user"), permissions: ["docs.read"], credits: { remaining: 5 },
    ratelimits: [{ name: "requests", limit: 9, duration: 3_600_000 }],
  };
  const { key, keyId } = await createKey(fields);
  const { data: fresh } = await unkey.keys.rerollKey({ keyId, expiration: 0 });
  assert.notEqual(fresh.keyId, keyId);
  assert.match(fresh.key, /^my_app_[1-9A-HJ-NP-Za-km-z]{20,22}$/);
  assert.equal(await outcome(key), "EXPIRED", "at once");
  assert.equal((await verify(fresh.key, { permissions: "docs.read" })).credits, 4);
  const [old, now] = [await getKey(keyId), await getKey(fresh.keyId)];
  assert.equal(old.credits?.remaining, 5, "the balances part");
  assert.deepEqual([now.name, now.meta, now.identity, now.permissions], [old.name, old.meta, old.identity, old.permissions]);
  assert.notEqual(now.ratelimits?.[0].id, old.ratelimits?.[0].id);

  const before = Date.now();
  const { data: next } = await unkey.keys.rerollKey({ keyId: fresh.keyId, expiration: 60_000 });
  assert.deepEqual([await outcome(fresh.key), await outcome(next.key)], ["VALID", "VALID"]);
  const expires = (await getKey(fresh.keyId)).expires ?? 0;
  assert.ok(expires % 60_000 === 0 && expires >= before + 60_000 && expires < Date.now() + 120_000, "rounded up to the minute");

  await refused(unkey.keys.rerollKey({ keyId: "key_missing", expiration: 0 }), ...missing);
  const other = client((await post("rootKeys.createRootKey", { permissions: ["api.*.update_key"] })).key);
  await refused(other.keys.rerollKey({ keyId, expiration: 0 }), ...forbidden);
});

test("the settings of an API, which the client does not know of", async () => {
  const name = unique("payments"), apiId = await createApi(name);
  await post("apis.updateApi", { apiId, defaultPrefix: "pay", deleteProtection: true });
  assert.deepEqual((await unkey.apis.getApi({ apiId })).data, { id: apiId, name });
  const { key } = await createKey({ apiId });
  assert.ok(key.startsWith("pay_"));
  await refused(unkey.apis.deleteApi({ apiId }), errors.PreconditionFailedErrorResponse, 412, "unkey/application/protected_resource", "Resource is protected");
  const [listed] = await post("apis.listApis", { search: name });
  assert.deepEqual([listed.id, listed.keyCount, listed.defaultPrefix], [apiId, 1, "pay"]);
  await post("apis.updateApi", { apiId, deleteProtection: false });
  await unkey.apis.deleteApi({ apiId });
  assert.deepEqual(await post("apis.listApis", { search: name }), []);
});

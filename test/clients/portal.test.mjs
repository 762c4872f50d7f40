import { test } from "node:test";
import assert from "node:assert/strict";
import * as errors from "@unkey/api/models/errors";
import { createApi, createKey, outcome, post, refused, unique, unkey, verify } from "./client.mjs";

const hour = 3600000;

/** A portal for one new API, with a customer who has two keys in it, and another customer's key. */
async function portal() {
  const apiId = await createApi(), externalId = unique("user"), slug = unique("acme").replaceAll("_", "-");
  await post("portal.createPortal", { slug, name: "Acme", apiIds: [apiId] });
  const keys = [await createKey({ apiId, externalId, prefix: "sk" }), await createKey({ apiId, externalId })];
  const other = await createKey({ apiId, externalId: unique("user") });
  return { slug, externalId, keys, other };
}

/** Lets the customer in and returns what the client takes as their session. @param {import("@unkey/api/models/components").Scope[]} scopes */
async function enter(/** @type {string} */ slug, /** @type {string} */ externalId, scopes) {
  const { result: { data: { id, url } } } = await unkey.portal.createSession({ portal: slug, externalId, scopes });
  assert.match(id, /^ps_/);
  const code = new URL(url).searchParams.get("code") ?? "";
  const { headers, result: { data } } = await unkey.portal.exchangeCode({ code });
  assert.deepEqual(headers["cache-control"], ["no-store"]);
  assert.ok(data.expiresAt > Date.now() && data.expiresAt <= Date.now() + 24 * hour);
  return { session: { portalSession: data.accessToken }, code };
}

test("a customer sees and replaces their own keys", async () => {
  const { slug, externalId, keys, other } = await portal();
  const { session, code } = await enter(slug, externalId, ["keys:read", "keys:reroll", "analytics:read"]);
  await refused(unkey.portal.exchangeCode({ code }), errors.UnauthorizedErrorResponse, 401, "unkey/authentication/portal_session_not_found");
  const listed = [];
  for await (const { result } of await unkey.portal.listKeys(session, { limit: 1 })) listed.push(result.data.map((k) => k.keyId));
  assert.deepEqual(listed, keys.map((k) => [k.keyId]));

  const { data } = await unkey.portal.rerollKey(session, { keyId: keys[0].keyId, expiration: 0 });
  assert.match(data.key, /^sk_/);
  assert.deepEqual([await outcome(keys[0].key), await outcome(data.key)], ["EXPIRED", "VALID"]);
  assert.equal((await verify(data.key)).identity?.externalId, externalId);
  await refused(unkey.portal.rerollKey(session, { keyId: other.keyId, expiration: 0 }), errors.NotFoundErrorResponse, 404, "unkey/data/key_not_found");

  const endTime = Date.now() + hour;
  for (const { total, valid, expired } of (await unkey.portal.getVerifications(session, { startTime: endTime - 2 * hour, endTime })).data) {
    assert.ok(total >= valid + expired);
  }
});

test("400, 401, 403 and 404 of each", async () => {
  const { slug, externalId, keys } = await portal();
  await refused(unkey.portal.createSession({ portal: unique("none"), externalId, scopes: ["keys:read"] }), errors.NotFoundErrorResponse, 404, "unkey/data/portal_not_found");
  await refused(unkey.portal.createSession({ portal: slug, externalId, scopes: [] }), errors.BadRequestErrorResponse, 400, "unkey/application/invalid_input");
  await refused(unkey.portal.exchangeCode({ code: unique("pst") }), errors.UnauthorizedErrorResponse, 401, "unkey/authentication/portal_session_not_found");
  const nobody = { portalSession: unique("pat") }, times = { startTime: 1, endTime: 2 }, keyId = keys[0].keyId;
  const unknown = /** @type {const} */ ([errors.UnauthorizedErrorResponse, 401, "unkey/authentication/portal_session_not_found"]);
  await refused(unkey.portal.listKeys(nobody, {}), ...unknown);
  await refused(unkey.portal.rerollKey(nobody, { keyId, expiration: 0 }), ...unknown);
  await refused(unkey.portal.getVerifications(nobody, times), ...unknown);
  const { session } = await enter(slug, externalId, ["keys:create"]);
  const denied = /** @type {const} */ ([errors.ForbiddenErrorResponse, 403, "unkey/authorization/insufficient_permissions"]);
  await refused(unkey.portal.listKeys(session, {}), ...denied);
  await refused(unkey.portal.rerollKey(session, { keyId, expiration: 0 }), ...denied);
  await refused(unkey.portal.getVerifications(session, times), ...denied);
});

import { test } from "node:test";
import assert from "node:assert/strict";
import * as errors from "@unkey/api/models/errors";
import { client, createKey, getKey, post, refused, unique, unkey, verify, window, windowEnd } from "./client.mjs";

const noIdentity = /** @type {const} */ ([errors.NotFoundErrorResponse, 404, "unkey/data/identity_not_found"]);
const requests = { name: "requests", limit: 5, duration: window, autoApply: true };

test("an identity's life", async () => {
  const externalId = unique("user"), meta = { plan: "pro", seats: [1, "ü"] };
  const { data: { identityId: id } } = await unkey.identities.createIdentity({ externalId, meta, ratelimits: [requests] });
  assert.match(id, /^id_[A-Za-z0-9]+$/);
  const [limit] = (await unkey.identities.getIdentity({ identity: id })).data.ratelimits ?? [];
  assert.deepEqual(limit, { ...requests, id: limit.id });
  for (const identity of [id, externalId]) {
    assert.deepEqual((await unkey.identities.getIdentity({ identity })).data, { id, externalId, meta, ratelimits: [limit] });
  }
  await refused(unkey.identities.createIdentity({ externalId }), errors.ConflictErrorResponse, 409, "unkey/data/identity_already_exists");

  const { data } = await unkey.identities.updateIdentity({ identity: externalId, meta: { plan: "free" }, ratelimits: [{ ...requests, limit: 9 }] });
  assert.deepEqual(data, { id, externalId, meta: { plan: "free" }, ratelimits: [{ ...limit, limit: 9 }] });
  await unkey.identities.updateIdentity({ identity: id, meta: {}, ratelimits: [] });
  assert.deepEqual((await unkey.identities.getIdentity({ identity: id })).data, { id, externalId });

  const { meta: { requestId } } = await unkey.identities.deleteIdentity({ identity: id });
  assert.match(requestId, /^req_/);
  for (const identity of [id, externalId]) {
    await refused(unkey.identities.getIdentity({ identity }), ...noIdentity);
    await refused(unkey.identities.updateIdentity({ identity, meta: {} }), ...noIdentity);
    await refused(unkey.identities.deleteIdentity({ identity }), ...noIdentity);
  }
  await unkey.identities.createIdentity({ externalId });
});

test("keys of one identity share its limits", async () => {
  const externalId = unique("user");
  const { data: { identityId: id } } = await unkey.identities.createIdentity({ externalId, meta: { plan: "pro" }, ratelimits: [requests] });
  const keys = [await createKey({ externalId }), await createKey({ externalId })];
  for (const [i, { key, keyId }] of keys.entries()) {
    const { identity, ratelimits } = await verify(key);
    assert.deepEqual([identity?.id, identity?.externalId, identity?.meta], [id, externalId, { plan: "pro" }]);
    assert.deepEqual(ratelimits?.map((l) => [l.name, l.limit, l.remaining, l.reset]), [["requests", 5, 4 - i, windowEnd]]);
    assert.equal((await getKey(keyId)).identity?.id, id);
  }
  await unkey.identities.deleteIdentity({ identity: externalId });
  const { code, identity, ratelimits } = await verify(keys[0].key);
  assert.deepEqual([code, identity, ratelimits], ["VALID", undefined, undefined]);
});

test("identities are listed, page by page, and searched", async () => {
  const mark = unique("list"), made = Array.from({ length: 5 }, (_, i) => `${mark}.${i}`);
  for (const externalId of made) await unkey.identities.createIdentity({ externalId });
  const pages = [];
  for await (const { result } of await unkey.identities.listIdentities({ search: mark.toUpperCase(), limit: 2 })) pages.push(result.data.map((i) => i.externalId));
  assert.deepEqual(pages, [made.slice(0, 2), made.slice(2, 4), made.slice(4)]);
  assert.deepEqual((await unkey.identities.listIdentities({ search: `${mark}%` })).result.data, []);
});

test("400, 401, 403 and 404 of deleteIdentity arrive typed as well", async () => {
  const identity = unique("user"), present = unique("user");
  await unkey.identities.createIdentity({ externalId: present });
  const made = await post("rootKeys.createRootKey", { permissions: ["api.*.verify_key"] });
  const denied = /** @type {const} */ ([errors.ForbiddenErrorResponse, 403, "unkey/authorization/insufficient_permissions"]);
  for (const call of [unkey.identities.deleteIdentity, unkey.identities.getIdentity, unkey.identities.updateIdentity]) {
    const asked = (/** @type {ReturnType<typeof client>} */ who, /** @type {string} */ identity) => call.call(who.identities, { identity });
    await refused(asked(unkey, identity), ...noIdentity);
    const error = await refused(asked(unkey, "\u0000"), errors.BadRequestErrorResponse, 400, "unkey/application/invalid_input");
    assert.match(error.errors[0].message, /NUL/);
    await refused(asked(client(unique("root")), identity), errors.UnauthorizedErrorResponse, 401, "unkey/authentication/key_not_found");
    await refused(asked(client(made.key), present), ...denied);
  }
  const error = await refused(unkey.identities.deleteIdentity({ identity: "" }), errors.BadRequestErrorResponse, 400, "unkey/application/invalid_input");
  assert.deepEqual(error.errors.map((/** @type {any} */ e) => e.location), ["/properties/identity/minLength"]);
});

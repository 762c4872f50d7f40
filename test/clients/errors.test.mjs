import { test } from "node:test";
import assert from "node:assert/strict";
import * as errors from "@unkey/api/models/errors";
import { client, createApi, createKey, outcome, post, refused, serverURL, unique, unkey } from "./client.mjs";

const invalid = "unkey/application/invalid_input";

test("400: every fault is named", async (t) => {
  const apiId = await createApi();
  /** @type {[string, () => Promise<unknown>, string[]][]} */
  const cases = [
    ["a short name", () => unkey.apis.createApi({ name: "ab" }), ["/properties/name/minLength"]],
    ["a long name", () => unkey.apis.createApi({ name: "ü".repeat(257) }), ["/properties/name/maxLength"]],
    ["an id's letters", () => unkey.apis.getApi({ apiId: "api-12345" }), ["/properties/apiId/pattern"]],
    ["a page's size", () => unkey.apis.listKeys({ apiId, limit: 101 }), ["/properties/limit/maximum"]],
    ["no key", () => unkey.keys.verifyKey({ key: "" }), ["/properties/key/minLength"]],
    ["a negative cost", () => unkey.keys.verifyKey({ key: "k", credits: { cost: -1 } }), ["/properties/credits/properties/cost/minimum"]],
    ["two faults", () => unkey.keys.createKey({ apiId, byteLength: 8, prefix: "no-dash" }), ["/properties/byteLength/minimum", "/properties/prefix/pattern"]],
    ["faults within", () => unkey.keys.createKey({ apiId, externalId: "a@b", ratelimits: [{ name: "ab", limit: 0, duration: 1 }] }), [
      "/properties/externalId/pattern",
      "/properties/ratelimits/items/properties/duration/minimum",
      "/properties/ratelimits/items/properties/limit/minimum",
      "/properties/ratelimits/items/properties/name/minLength",
    ]],
    ["a slug's letters", () => unkey.permissions.createPermission({ name: "n", slug: "no spaces" }), ["/properties/slug/pattern"]],
  ];
  for (const [name, call, locations] of cases) {
    await t.test(name, async () => {
      const error = await refused(call(), errors.BadRequestErrorResponse, 400, invalid);
      assert.match(error.detail, /failed to validate schema/);
      assert.deepEqual(error.errors.map((/** @type {any} */ e) => e.location).sort(), locations);
      for (const e of error.errors) assert.ok(typeof e.message === "string" && e.message !== "" && !("fix" in e));
    });
  }
});

test("400: what fits the schema and makes no sense", async (t) => {
  const { apiId, keyId } = await createKey({ credits: { remaining: 1 } });
  const interval = /** @type {const} */ ("monthly");
  /** @type {[string, () => Promise<unknown>][]} */
  const cases = [
    ["a monthly refill without a day", () => unkey.keys.createKey({ apiId, credits: { remaining: 5, refill: { interval, amount: 1 } } })],
    ["a refill of nothing", () => unkey.keys.createKey({ apiId, credits: { remaining: null, refill: { interval, amount: 1, refillDay: 1 } } })],
    ["a new monthly refill without a day", () => unkey.keys.updateKey({ keyId, credits: { refill: { interval, amount: 1 } } })],
    ["a daily refill with a day", () => unkey.keys.updateKey({ keyId, credits: { refill: { interval: "daily", amount: 1, refillDay: 1 } } })],
  ];
  for (const [name, call] of cases) {
    await t.test(name, async () => {
      const error = await refused(call(), errors.BadRequestErrorResponse, 400, invalid);
      assert.deepEqual(error.errors, []);
    });
  }
});

test("400: no credential, 401: a wrong one", async () => {
  // The client leaves the header out for an empty root key.
  const error = await refused(client("").apis.createApi({ name: "ab" }), errors.BadRequestErrorResponse, 400, invalid);
  assert.equal(error.errors.length, 1);
  assert.equal(error.errors[0].location, "security");
  assert.equal(typeof error.errors[0].fix, "string");

  const { key } = await createKey();
  for (const wrong of [unique("root"), key]) {
    const other = client(wrong), notFound = /** @type {const} */ ([errors.UnauthorizedErrorResponse, 401, "unkey/authentication/key_not_found"]);
    await refused(other.apis.createApi({ name: "payments" }), ...notFound);
    await refused(other.keys.verifyKey({ key }), ...notFound);
    await refused(other.apis.listKeys({ apiId: "api_12345678" }), ...notFound);
    await refused(other.permissions.createRole({ name: unique("role") }), ...notFound);
  }
});

test("403: a root key without the permission, and what is masked instead", async () => {
  const { apiId, key, keyId } = await createKey();
  const made = await post("rootKeys.createRootKey", { name: "reader", permissions: [`api.${apiId}.read_api`] });
  const other = client(made.key);
  assert.equal((await other.apis.getApi({ apiId })).data.id, apiId);
  const denied = /** @type {const} */ ([errors.ForbiddenErrorResponse, 403, "unkey/authorization/insufficient_permissions"]);
  await refused(other.apis.getApi({ apiId: await createApi() }), ...denied);
  await refused(other.apis.createApi({ name: "payments" }), ...denied);
  await refused(other.apis.deleteApi({ apiId }), ...denied);
  await refused(other.keys.getKey({ keyId }), ...denied);
  await refused(other.keys.updateKey({ keyId, enabled: false }), ...denied);
  await refused(other.keys.deleteKey({ keyId }), ...denied);
  await refused(other.permissions.createPermission({ name: "n", slug: unique("p") }), ...denied);
  await refused(other.permissions.createRole({ name: unique("role") }), ...denied);

  const masked = /** @type {const} */ ([errors.NotFoundErrorResponse, 404, "unkey/data/api_not_found"]);
  await refused(other.keys.createKey({ apiId }), ...masked);
  await refused(other.apis.listKeys({ apiId }), ...masked);
  assert.deepEqual((await other.keys.verifyKey({ key })).data, { valid: false, code: "NOT_FOUND" });
  assert.equal(await outcome(key), "VALID", "none of it was done");
});

test("403: a root key that is disabled or expired", async () => {
  const expired = await post("rootKeys.createRootKey", { permissions: ["api.*.verify_key"], expires: 1 });
  await refused(client(expired.key).keys.verifyKey({ key: "k" }), errors.ForbiddenErrorResponse, 403, "unkey/authorization/forbidden", "Forbidden");
  const disabled = await post("rootKeys.createRootKey", { permissions: ["api.*.verify_key"] });
  assert.equal((await client(disabled.key).keys.verifyKey({ key: "k" })).data.code, "NOT_FOUND");
  await post("rootKeys.updateRootKey", { keyId: disabled.keyId, enabled: false });
  await refused(client(disabled.key).keys.verifyKey({ key: "k" }), errors.ForbiddenErrorResponse, 403, "unkey/authorization/key_disabled", "Key is disabled");
});

test("404", async () => {
  const apiId = "api_12345678", keyId = "key_12345678";
  const noApi = /** @type {const} */ ([errors.NotFoundErrorResponse, 404, "unkey/data/api_not_found"]);
  const noKey = /** @type {const} */ ([errors.NotFoundErrorResponse, 404, "unkey/data/key_not_found"]);
  await refused(unkey.apis.getApi({ apiId }), ...noApi);
  await refused(unkey.apis.deleteApi({ apiId }), ...noApi);
  await refused(unkey.apis.listKeys({ apiId }), ...noApi);
  await refused(unkey.keys.createKey({ apiId }), ...noApi);
  await refused(unkey.keys.getKey({ keyId }), ...noKey);
  await refused(unkey.keys.updateKey({ keyId }), ...noKey);
  await refused(unkey.keys.deleteKey({ keyId }), ...noKey);
  const role = unique("no_role");
  const error = await refused(unkey.keys.createKey({ apiId: await createApi(), roles: [role] }), errors.NotFoundErrorResponse, 404, "unkey/data/role_not_found");
  assert.ok(error.detail.includes(role), "names the role");
});

test("409", async () => {
  const slug = unique("docs.read"), name = unique("Editor");
  await unkey.permissions.createPermission({ name: "Read", slug });
  await unkey.permissions.createRole({ name });
  for (const again of [slug, slug.toUpperCase()]) {
    await refused(unkey.permissions.createPermission({ name: "Read", slug: again }), errors.ConflictErrorResponse, 409, "unkey/data/permission_already_exists");
  }
  for (const again of [name, name.toLowerCase()]) {
    await refused(unkey.permissions.createRole({ name: again }), errors.ConflictErrorResponse, 409, "unkey/data/role_already_exists");
  }
});

test("412: an API that is protected", async () => {
  const apiId = await createApi();
  await post("apis.updateApi", { apiId, deleteProtection: true });
  await refused(unkey.apis.deleteApi({ apiId }), errors.PreconditionFailedErrorResponse, 412, "unkey/application/protected_resource", "Resource is protected");
});

test("412 and 413 arrive as the client's general error", async () => {
  const apiId = await createApi();
  await refused(unkey.keys.createKey({ apiId, recoverable: true }), errors.APIError, 412, "unkey/application/precondition_failed");
  await refused(unkey.keys.createKey({ apiId, meta: { text: "x".repeat(11 << 20) } }), errors.APIError, 413, "user/bad_request/request_body_too_large");
});

test("429: a workspace that has used up its requests", async () => {
  const { rootKey } = await post("workspaces.createWorkspace", { name: unique("capped") });
  await post("workspaces.updateWorkspace", { requestsPerMinute: 0 }, rootKey.key);
  const other = client(rootKey.key), limited = /** @type {const} */ ([errors.TooManyRequestsErrorResponse, 429, "user/too_many_requests/workspace_rate_limited"]);
  await refused(other.apis.createApi({ name: "payments" }), ...limited);
  await refused(other.keys.verifyKey({ key: "k" }), ...limited);
  await refused(other.ratelimit.limit({ namespace: "n", identifier: "i", limit: 1, duration: 1000 }), ...limited);
  await refused(other.identities.deleteIdentity({ identity: "i" }), ...limited);
  await refused(other.permissions.listRoles({}), ...limited);
});

test("an unknown procedure is no answer of this API", async () => {
  // Tollkey has no projects; the client has a method for them.
  const error = await unkey.projects.getProject({ project: "proj_12345678" }).catch((reason) => reason);
  assert.ok(error instanceof errors.APIError, String(error));
  assert.equal(error.statusCode, 404);
  assert.equal(error.contentType, "text/plain; charset=utf-8");
  assert.equal((await fetch(`${serverURL}/v2/keys.verifyKey`)).status, 405);
});

import { test } from "node:test";
import assert from "node:assert/strict";
import * as errors from "@unkey/api/models/errors";
import { client, createApi, createKey, outcome, post, refused, unkey } from "./client.mjs";

const off = /** @type {const} */ ([errors.APIError, 412, "unkey/application/precondition_failed"]);
const forbidden = /** @type {const} */ ([errors.ForbiddenErrorResponse, 403, "unkey/authorization/insufficient_permissions"]);

test("the secret of a recoverable key can be read again", async () => {
  const apiId = await createApi();
  await refused(unkey.keys.createKey({ apiId, recoverable: true }), ...off);
  await post("apis.updateApi", { apiId, recoverableKeys: true });
  const kept = await createKey({ apiId, recoverable: true, prefix: "sk" });
  const other = await createKey({ apiId });

  const read = async (/** @type {string} */ keyId) => (await unkey.keys.getKey({ keyId, decrypt: true })).data.plaintext;
  assert.equal(await read(kept.keyId), kept.key);
  assert.equal(await read(other.keyId), undefined);
  assert.equal((await unkey.keys.getKey({ keyId: kept.keyId })).data.plaintext, undefined);
  assert.equal((await unkey.keys.whoami({ key: kept.key })).data.plaintext, undefined);

  const listed = (await unkey.apis.listKeys({ apiId, decrypt: true })).result.data;
  assert.deepEqual(listed.map((k) => [k.keyId, k.plaintext]), [[kept.keyId, kept.key], [other.keyId, undefined]]);

  const next = (await unkey.keys.rerollKey({ keyId: kept.keyId, expiration: 0 })).data;
  assert.equal(await read(next.keyId), next.key);
  assert.equal(await outcome(next.key), "VALID");

  const reader = client((await post("rootKeys.createRootKey", { permissions: ["api.*.read_key", "api.*.read_api", "api.*.create_key"] })).key);
  await refused(reader.keys.getKey({ keyId: kept.keyId, decrypt: true }), ...forbidden);
  await refused(reader.apis.listKeys({ apiId, decrypt: true }), ...forbidden);
  await refused(reader.keys.rerollKey({ keyId: next.keyId, expiration: 0 }), ...forbidden);
  await refused(reader.keys.createKey({ apiId, recoverable: true }), errors.NotFoundErrorResponse, 404, "unkey/data/api_not_found");

  await unkey.keys.deleteKey({ keyId: next.keyId });
  await refused(unkey.keys.getKey({ keyId: next.keyId, decrypt: true }), errors.NotFoundErrorResponse, 404, "unkey/data/key_not_found");
});

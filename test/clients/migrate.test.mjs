// Imports with the official client: keys.migrateKeys, and verifications that name the migration.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { NotFoundErrorResponse } from "@unkey/api/models/errors";
import { createApi, rootKey, serverURL, unique, unkey } from "./client.mjs";

/** The client knows no migrations.*: they are an addition. */
async function createMigration(/** @type {string} */ algorithm) {
  const response = await fetch(`${serverURL}/v2/migrations.createMigration`, {
    method: "POST",
    headers: { authorization: `Bearer ${rootKey}`, "content-type": "application/json" },
    body: JSON.stringify({ algorithm }),
  });
  assert.equal(response.status, 200);
  return /** @type {{data: {migrationId: string}}} */ (await response.json()).data.migrationId;
}

const sha256 = (/** @type {string} */ text) => createHash("sha256").update(text);

test("keys are imported by their hashes, and known again", async () => {
  const apiId = await createApi();
  const migrationId = await createMigration("sha256");
  const key = unique("old_key");
  const hash = sha256(key).digest("base64");
  const keys = [{ hash, externalId: "ada@example.org", roles: [unique("role")], permissions: ["docs.read"], credits: { remaining: 2 } }];
  const first = await unkey.keys.migrateKeys({ migrationId, apiId, keys });
  assert.deepEqual(first.data.failed, []);
  assert.equal(first.data.migrated.length, 1);
  assert.equal(first.data.migrated[0].hash, hash);
  const again = await unkey.keys.migrateKeys({ migrationId, apiId, keys });
  assert.deepEqual(again.data, { migrated: [], failed: [hash] });
  const { data } = await unkey.keys.verifyKey({ key });
  assert.equal(data.code, "VALID");
  assert.equal(data.keyId, first.data.migrated[0].keyId);
  assert.equal(data.credits, 1);
  assert.equal(data.identity?.externalId, "ada@example.org");
});

test("a key of prefixed-api-key gets its own digest at its first use", async () => {
  const apiId = await createApi();
  const migrationId = await createMigration("github.com/seamapi/prefixed-api-key");
  const long = unique("long").replaceAll("_", "");
  const key = `my_company_BRTRKFsL_${long}`;
  const { data: imported } = await unkey.keys.migrateKeys({ migrationId, apiId, keys: [{ hash: sha256(long).digest("hex") }] });
  assert.equal((await unkey.keys.verifyKey({ key })).data.code, "NOT_FOUND");
  assert.equal((await unkey.keys.verifyKey({ key, migrationId })).data.code, "VALID");
  assert.equal((await unkey.keys.verifyKey({ key })).data.code, "VALID");
  const { data } = await unkey.keys.getKey({ keyId: imported.migrated[0].keyId });
  assert.equal(data.start, "my_company_BRTR");
});

test("a migration that does not exist is a typed error", async () => {
  const apiId = await createApi();
  const keys = [{ hash: sha256("x").digest("base64") }];
  await assert.rejects(unkey.keys.migrateKeys({ migrationId: "mig_none", apiId, keys }), NotFoundErrorResponse);
});

import { test } from "node:test";
import assert from "node:assert/strict";
import { Unkey } from "@unkey/api";

const rootKey = process.env.TOLLKEY_ROOT_KEY;
const serverURL = process.env.TOLLKEY_URL;

test("the use that the client's manual shows", async () => {
  const refusals = [];

  const unkey = new Unkey({ rootKey, serverURL });
  const { data } = await unkey.keys.verifyKey({ key: "sk_1234abcdef" });
  if (!data.valid) {
    refusals.push(data);
  }

  assert.deepEqual(refusals, [{ valid: false, code: "NOT_FOUND" }]);
});

// The client has no method for this one.
for (const method of ["GET", "HEAD"]) {
  test(`${method} liveness`, async () => {
    const response = await fetch(`${serverURL}/v2/liveness`, { method });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "application/json");
    if (method === "HEAD") return;
    const { meta, data } = await response.json();
    assert.match(meta.requestId, /^req_[A-Za-z0-9]+$/);
    assert.equal(typeof data.message, "string");
  });
}

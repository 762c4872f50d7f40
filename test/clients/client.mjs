// What the tests share: the official client, pointed at the server that TOLLKEY_URL names, and nothing else changed about it.
import assert from "node:assert/strict";
import { Unkey } from "@unkey/api";

/** @param {string} name */
function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; go test -run TestOfficialClients ./internal/app sets it`);
  return value;
}

export const serverURL = setting("TOLLKEY_URL");
export const rootKey = setting("TOLLKEY_ROOT_KEY");

/** The client of a caller who holds this root key. */
export const client = (key = rootKey) => new Unkey({ rootKey: key, serverURL });
export const unkey = client();

let made = 0;
/** A name that no other test and no earlier run has used. */
export const unique = (/** @type {string} */ name) => `${name}_${process.pid}_${Date.now().toString(36)}_${++made}`;

/** A window's length in ms such that now is in the middle of a window: no test meets the window's end. It ends at 500 lengths. */
export const window = Math.floor(Date.now() / 499.5);
export const windowEnd = 500 * window;

export async function createApi(name = "payments") {
  const { data } = await unkey.apis.createApi({ name });
  assert.match(data.apiId, /^api_[A-Za-z0-9]+$/);
  return data.apiId;
}

/** Makes a key in an API of its own where none is given. */
export async function createKey(/** @type {Partial<import("@unkey/api/models/components").V2KeysCreateKeyRequestBody>} */ fields = {}) {
  const apiId = fields.apiId ?? (await createApi());
  const { data } = await unkey.keys.createKey({ ...fields, apiId });
  return { apiId, ...data };
}

/**
 * Verifies and returns what the server says of the key.
 * @param {string} key
 * @param {Omit<import("@unkey/api/models/components").V2KeysVerifyKeyRequestBody, "key">} [rest]
 */
export async function verify(key, rest) {
  const { meta, data } = await unkey.keys.verifyKey({ key, ...rest });
  assert.match(meta.requestId, /^req_[A-Za-z0-9]+$/);
  assert.equal(data.valid, data.code === "VALID");
  return data;
}

/** The outcome's code alone. */
export const outcome = async (/** @type {Parameters<typeof verify>} */ ...question) => (await verify(...question)).code;

export const getKey = async (/** @type {string} */ keyId) => (await unkey.keys.getKey({ keyId })).data;

/** What the client does not know of: Tollkey's own procedures, and bodies that the client would not send. */
export async function post(/** @type {string} */ procedure, /** @type {unknown} */ body, key = rootKey) {
  const response = await fetch(`${serverURL}/v2/${procedure}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json", Authorization: `Bearer ${key}` },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  assert.equal(response.status, 200, JSON.stringify(answer));
  return answer.data;
}

const titles = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Insufficient Permissions",
  404: "Not Found",
  409: "Conflicting Resource",
  410: "Resource Gone",
  412: "Precondition Failed",
  413: "Request Entity Too Large",
  429: "Too Many Requests",
};

/**
 * Checks that a call is refused with this class of the client's, status and error type, and returns the error object of the answer.
 * @param {Promise<unknown>} call
 * @param {new (...args: any[]) => import("@unkey/api/models/errors").UnkeyError} kind
 * @param {keyof typeof titles} status
 * @param {string} type the last three parts of error.type
 */
export async function refused(call, kind, status, type, title = titles[status]) {
  const error = await call.then(
    () => assert.fail(`accepted, want ${status} ${type}`),
    (reason) => reason,
  );
  assert.equal(error.constructor.name, kind.name, String(error));
  assert.ok(error instanceof kind);
  assert.equal(error.statusCode, status);
  // These the clients recognize as problem+json only, and the others as json only.
  const problem = status === 429 || new URL(error.rawResponse.url).pathname === "/v2/identities.deleteIdentity";
  assert.equal(error.contentType, problem ? "application/problem+json" : "application/json");
  const body = JSON.parse(error.body);
  assert.match(body.meta.requestId, /^req_[A-Za-z0-9]+$/);
  assert.equal(body.error.status, status);
  assert.equal(body.error.title, title);
  assert.equal(typeof body.error.detail, "string");
  assert.ok(body.error.type.endsWith(`/errors/${type}`), `${body.error.type}, want ${type}`);
  assert.equal(Array.isArray(body.error.errors), status === 400 || status === 413, "errors is present on 400 and 413 only");
  if ("error" in error) {
    // The client's typed errors carry the same, parsed.
    assert.equal(/** @type {any} */ (error).error.type, body.error.type);
    assert.equal(/** @type {any} */ (error).meta.requestId, body.meta.requestId);
  }
  return body.error;
}

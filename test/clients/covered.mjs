// After the tests: fails where an operation that the client has and the server describes was never answered with success.
import { readdirSync, readFileSync } from "node:fs";
import { serverURL } from "./client.mjs";

const text = async (/** @type {string} */ path) => (await fetch(serverURL + path)).text();
const described = await text("/openapi.yaml"), metrics = await text("/metrics");

/** Each path's operationId. @type {Map<string, string>} */
const operations = new Map([...described.matchAll(/^ {2}\/v2\/(\S+):\n(?: {4}.*\n)*? {6}operationId: (\w+)/gm)].map(([, path, id]) => [path, id]));
const functions = new URL("node_modules/@unkey/api/dist/esm/funcs/", import.meta.url);
const had = readdirSync(functions).filter((f) => f.endsWith(".js"))
  .flatMap((f) => readFileSync(new URL(f, functions), "utf8").match(/(?<=pathToFunc\("\/v2\/)[^"]+/) ?? []);
const both = had.filter((path) => operations.has(path));
const missing = both.filter((path) => !metrics.includes(`tollkey_requests_total{operation="${operations.get(path)}",status="200"}`));
if (both.length < 30 || missing.length > 0) {
  console.error(`of ${had.length} operations the server describes ${both.length}; without a test: ${missing.join(", ") || "none"}`);
  process.exit(1);
}

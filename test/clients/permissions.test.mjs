import { test } from "node:test";
import assert from "node:assert/strict";
import * as errors from "@unkey/api/models/errors";
import { client, createKey, outcome, post, refused, unique, unkey, verify } from "./client.mjs";

const noPermission = /** @type {const} */ ([errors.NotFoundErrorResponse, 404, "unkey/data/permission_not_found"]);
const noRole = /** @type {const} */ ([errors.NotFoundErrorResponse, 404, "unkey/data/role_not_found"]);
const noKey = /** @type {const} */ ([errors.NotFoundErrorResponse, 404, "unkey/data/key_not_found"]);
const denied = /** @type {const} */ ([errors.ForbiddenErrorResponse, 403, "unkey/authorization/insufficient_permissions"]);

/** @param {{slug: string}[]} list */
const slugs = (list) => list.map((p) => p.slug);
/** @param {{name: string}[]} list */
const names = (list) => list.map((r) => r.name);

/**
 * All rows of a paged list.
 * @template T
 * @param {AsyncIterable<{result: {data: T[], pagination: {hasMore: boolean, cursor?: string | undefined}}}>} pages
 * @param {number} limit
 */
async function all(pages, limit) {
  const rows = [];
  for await (const { result } of pages) {
    assert.ok(result.data.length <= limit);
    assert.equal(result.pagination.hasMore, typeof result.pagination.cursor === "string");
    rows.push(...result.data);
  }
  return rows;
}

test("a permission's life", async () => {
  const slug = unique("docs.read"), name = "Read documents", description = "all of them";
  const { data: { permissionId: id } } = await unkey.permissions.createPermission({ name, slug, description });
  for (const permission of [id, slug, slug.toUpperCase()]) {
    assert.deepEqual((await unkey.permissions.getPermission({ permission })).data, { id, name, slug, description });
  }
  await refused(unkey.permissions.createPermission({ name, slug: slug.toUpperCase() }), errors.ConflictErrorResponse, 409, "unkey/data/permission_already_exists");
  const { key } = await createKey({ permissions: [slug] });
  assert.equal(await outcome(key, { permissions: slug }), "VALID");
  assert.deepEqual((await unkey.permissions.deletePermission({ permission: slug })).data, {});
  assert.equal(await outcome(key, { permissions: slug }), "INSUFFICIENT_PERMISSIONS");
  await refused(unkey.permissions.getPermission({ permission: id }), ...noPermission);
  await refused(unkey.permissions.deletePermission({ permission: id }), ...noPermission);
});

test("permissions and roles are listed, page by page, and searched", async () => {
  const mark = unique("list");
  const made = Array.from({ length: 5 }, (_, i) => `${mark}.${i}`);
  for (const slug of made) {
    await unkey.permissions.createPermission({ name: "n", slug });
    await unkey.permissions.createRole({ name: slug, permissions: [slug] });
  }
  const search = ` ${mark.toUpperCase()} `;
  assert.deepEqual(slugs(await all(await unkey.permissions.listPermissions({ search, limit: 2 }), 2)), made);
  const roles = await all(await unkey.permissions.listRoles({ search, limit: 3 }), 3);
  assert.deepEqual(names(roles), made);
  assert.deepEqual(roles.map((r) => slugs(r.permissions ?? [])), made.map((slug) => [slug]));
  assert.deepEqual(await all(await unkey.permissions.listPermissions({ search: `${mark}_` }), 100), []);
  assert.deepEqual(await all(await unkey.permissions.listRoles({ search: `${mark}%` }), 100), []);
  assert.deepEqual((await unkey.permissions.listPermissions({ cursor: "zzzz" })).result.data, []);
});

test("a role's life", async () => {
  const name = unique("Editor"), [read, write, share] = [unique("read"), unique("write"), unique("share")];
  const { data: { roleId } } = await unkey.permissions.createRole({ name, description: "edits", permissions: [write, read] });
  for (const role of [roleId, name, name.toLowerCase()]) {
    const { permissions, ...rest } = (await unkey.permissions.getRole({ role })).data;
    assert.deepEqual(rest, { id: roleId, name, description: "edits" });
    assert.deepEqual(slugs(permissions ?? []), [read, write]);
  }
  await refused(unkey.permissions.createRole({ name: name.toUpperCase() }), errors.ConflictErrorResponse, 409, "unkey/data/role_already_exists");
  const { key } = await createKey({ roles: [name] });
  assert.deepEqual((await verify(key)).permissions, [read, write]);
  assert.deepEqual(slugs((await unkey.permissions.setRolePermissions({ roleId, permissions: [write, share, share] })).data), [share, write]);
  assert.deepEqual((await verify(key)).permissions, [share, write]);
  await unkey.permissions.deletePermission({ permission: write });
  assert.deepEqual((await verify(key)).permissions, [share]);
  assert.deepEqual((await unkey.permissions.setRolePermissions({ roleId, permissions: [] })).data, []);
  assert.equal((await unkey.permissions.getRole({ role: roleId })).data.permissions, undefined);
  assert.deepEqual((await verify(key)).roles, [name]);
  assert.deepEqual((await unkey.permissions.deleteRole({ role: name })).data, {});
  assert.equal((await verify(key)).roles, undefined);
  await refused(unkey.permissions.getRole({ role: roleId }), ...noRole);
  await refused(unkey.permissions.setRolePermissions({ roleId, permissions: [] }), ...noRole);
  // The client knows of no 404 here.
  await refused(unkey.permissions.deleteRole({ role: roleId }), errors.APIError, 404, "unkey/data/role_not_found");
});

test("a key's permissions", async () => {
  const { key, keyId } = await createKey();
  const [a, b, c] = ["a", "b", "c"].map(unique);
  assert.deepEqual(slugs((await unkey.keys.addPermissions({ keyId, permissions: [b, b] })).data), [b]);
  assert.deepEqual(slugs((await unkey.keys.addPermissions({ keyId, permissions: [a, b.toUpperCase()] })).data), [b, a]);
  assert.deepEqual((await verify(key)).permissions, [a, b]);
  assert.deepEqual(slugs((await unkey.keys.setPermissions({ keyId, permissions: [b, c] })).data), [b, c]);
  await refused(unkey.keys.removePermissions({ keyId, permissions: [b, unique("nothing")] }), ...noPermission);
  assert.deepEqual((await verify(key)).permissions, [b, c]);
  assert.deepEqual(slugs((await unkey.keys.removePermissions({ keyId, permissions: [a, b] })).data), [c]);
  assert.deepEqual((await verify(key)).permissions, [c]);
  const many = Array.from({ length: 1200 }, (_, i) => `${c}.${i}`).sort();
  assert.deepEqual(slugs((await unkey.keys.setPermissions({ keyId, permissions: many })).data), many, "there is no limit to a set");
  assert.deepEqual((await unkey.keys.setPermissions({ keyId, permissions: [] })).data, []);
  assert.equal((await verify(key)).permissions, undefined);
});

test("a key's roles", async () => {
  const { key, keyId } = await createKey();
  const [a, b, c] = ["a", "b", "c"].map(unique);
  for (const name of [a, b, c]) await unkey.permissions.createRole({ name, permissions: [name] });
  assert.deepEqual(names((await unkey.keys.addRoles({ keyId, roles: [b, b] })).data), [b]);
  const { data } = await unkey.keys.addRoles({ keyId, roles: [a, b.toUpperCase()] });
  assert.deepEqual(data.map((r) => [r.name, slugs(r.permissions ?? [])]), [[a, [a]], [b, [b]]]);
  assert.deepEqual(names((await unkey.keys.setRoles({ keyId, roles: [b, c] })).data), [b, c]);
  for (const change of [unkey.keys.addRoles, unkey.keys.setRoles, unkey.keys.removeRoles]) {
    await refused(change.call(unkey.keys, { keyId, roles: [b, unique("nobody")] }), ...noRole);
  }
  assert.deepEqual((await verify(key)).roles, [b, c]);
  assert.deepEqual(names((await unkey.keys.removeRoles({ keyId, roles: [a, b] })).data), [c]);
  assert.deepEqual((await verify(key)).permissions, [c]);
  assert.deepEqual((await unkey.keys.setRoles({ keyId, roles: [] })).data, []);
  assert.equal((await verify(key)).roles, undefined);
});

test("two at once add up", async () => {
  const { keyId } = await createKey();
  const added = Array.from({ length: 8 }, (_, i) => unique(`p${i}`));
  await Promise.all(added.map((slug) => unkey.keys.addPermissions({ keyId, permissions: [slug] })));
  assert.deepEqual((await unkey.keys.removePermissions({ keyId, permissions: added })).data, []);
});

test("403 and 404 of each", async () => {
  const { keyId } = await createKey();
  const permission = unique("held"), role = unique("role");
  const { data: { roleId } } = await unkey.permissions.createRole({ name: role, permissions: [permission] });
  const made = await post("rootKeys.createRootKey", { permissions: ["api.*.create_api"] });
  const other = client(made.key);
  const permissions = [permission], roles = [role];
  await refused(other.permissions.getPermission({ permission }), ...denied);
  await refused(other.permissions.listPermissions({}), ...denied);
  await refused(other.permissions.deletePermission({ permission }), ...denied);
  await refused(other.permissions.getRole({ role }), ...denied);
  await refused(other.permissions.listRoles({}), ...denied);
  await refused(other.permissions.deleteRole({ role }), ...denied);
  await refused(other.permissions.setRolePermissions({ roleId, permissions }), ...denied);
  for (const [change, body] of /** @type {[Function, object][]} */ ([
    [other.keys.addPermissions, { permissions }], [other.keys.setPermissions, { permissions }], [other.keys.removePermissions, { permissions }],
    [other.keys.addRoles, { roles }], [other.keys.setRoles, { roles }], [other.keys.removeRoles, { roles }],
  ])) {
    await refused(change.call(other.keys, { keyId, ...body }), ...denied);
    await refused(change.call(other.keys, { keyId: "key_12345678", ...body }), ...noKey);
  }
  const careful = await post("rootKeys.createRootKey", { permissions: ["api.*.update_key", "rbac.*.add_permission_to_key"] });
  await refused(client(careful.key).keys.addPermissions({ keyId, permissions: [unique("new")] }), ...denied);
  assert.deepEqual(slugs((await client(careful.key).keys.addPermissions({ keyId, permissions })).data), permissions, "what exists needs no more");
});

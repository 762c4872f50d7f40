"""Drives the server that TOLLKEY_URL names with the official Python client, which is told its address and nothing else."""

import base64
import hashlib
import itertools
import json
import os
import time
import unittest
import urllib.parse
import urllib.request

from unkey.py import Unkey, errors

URL, ROOT_KEY = os.environ["TOLLKEY_URL"], os.environ["TOLLKEY_ROOT_KEY"]
counter = itertools.count()
MONTH = 2_592_000_000


def unique(name):
    return f"{name}_{os.getpid()}_{next(counter)}"


def client(key=ROOT_KEY):
    return Unkey(root_key=key, server_url=URL)


def post(procedure, body, key=ROOT_KEY):
    """What the client does not know of: Tollkey's own procedures."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    with urllib.request.urlopen(urllib.request.Request(f"{URL}/v2/{procedure}", json.dumps(body).encode(), headers)) as answer:
        return json.load(answer)["data"]


unkey = client()


class Case(unittest.TestCase):
    def refused(self, kind, status, type, call, **arguments):
        """Checks that a call is refused with this class of the client's, status and error type, and returns the parsed error."""
        with self.assertRaises(errors.UnkeyError) as caught:
            call(**arguments)
        error = caught.exception
        self.assertIs(error.__class__, kind, error)
        self.assertEqual(error.status_code, status)
        if kind is errors.APIError:
            self.assertIn(f"/errors/{type}", error.body)
            return None
        self.assertTrue(error.data.error.type.endswith(f"/errors/{type}"), error.data.error.type)
        self.assertEqual(error.data.error.status, status)
        self.assertRegex(error.data.meta.request_id, "^req_")
        return error.data.error

    def missing(self, what, call, **arguments):
        self.refused(errors.NotFoundErrorResponse, 404, f"unkey/data/{what}_not_found", call, **arguments)

    def invalid(self, location, call, **arguments):
        error = self.refused(errors.BadRequestErrorResponse, 400, "unkey/application/invalid_input", call, **arguments)
        self.assertEqual([e.location for e in error.errors], [location] if location else [])

    def api(self):
        return unkey.apis.create_api(name="payments").data.api_id

    def key(self, **fields):
        return unkey.keys.create_key(**{"api_id": fields.pop("api_id", None) or self.api(), **fields}).data

    def verify(self, key, **question):
        data = unkey.keys.verify_key(key=key, **question).data
        self.assertEqual(data.valid, data.code == "VALID")
        return data


class Apis(Case):
    def test_life(self):
        api_id = self.api()
        self.assertEqual(unkey.apis.get_api(api_id=api_id).data.name, "payments")
        made = sorted(self.key(api_id=api_id, name=f"key {i}").key_id for i in range(3))
        listed, page = [], unkey.apis.list_keys(api_id=api_id, limit=2)
        while page is not None:
            listed.append([key.key_id for key in page.result.data])
            page = page.next()
        self.assertEqual(listed, [made[:2], made[2:]])
        unkey.apis.delete_api(api_id=api_id)
        self.missing("api", unkey.apis.get_api, api_id=api_id)
        self.missing("api", unkey.apis.delete_api, api_id=api_id)
        self.missing("api", unkey.apis.list_keys, api_id=api_id)
        self.missing("api", unkey.keys.create_key, api_id=api_id)
        self.invalid("/properties/name/minLength", unkey.apis.create_api, name="ab")

    def test_protected(self):
        api_id = self.api()
        post("apis.updateApi", {"apiId": api_id, "deleteProtection": True})
        self.refused(errors.PreconditionFailedErrorResponse, 412, "unkey/application/protected_resource", unkey.apis.delete_api, api_id=api_id)


class Keys(Case):
    def test_life(self):
        external_id, meta = unique("user"), {"plan": "pro", "seats": [1, "ü"]}
        limit = {"name": "requests", "limit": 5, "duration": MONTH, "auto_apply": True}
        refill = {"interval": "monthly", "amount": 10, "refill_day": 31}
        made = self.key(prefix="sk", name="n", external_id=external_id, meta=meta, permissions=["docs.read"], expires=4_000_000_000_000,
                        credits={"remaining": 3, "refill": refill}, ratelimits=[limit])
        self.assertRegex(made.key, "^sk_")
        read = unkey.keys.get_key(key_id=made.key_id).data
        self.assertEqual((read.name, read.meta, read.permissions, read.expires), ("n", meta, ["docs.read"], 4_000_000_000_000))
        self.assertEqual((read.credits.remaining, read.credits.refill.refill_day, read.identity.external_id), (3, 31, external_id))
        self.assertEqual([(r.name, r.limit, r.auto_apply) for r in read.ratelimits], [("requests", 5, True)])
        data = self.verify(made.key, permissions="docs.read OR docs.write", credits={"cost": 2}, tags=["path=/v1"])
        self.assertEqual((data.code, data.credits, data.key_id, data.identity.external_id), ("VALID", 1, made.key_id, external_id))
        self.assertEqual([(r.name, r.remaining, r.exceeded) for r in data.ratelimits], [("requests", 4, False)])
        self.assertEqual(self.verify(made.key, permissions="docs.write").code, "INSUFFICIENT_PERMISSIONS")
        self.assertEqual(self.verify(made.key, credits={"cost": 2}).code, "USAGE_EXCEEDED")
        unkey.keys.update_key(key_id=made.key_id, name=None, enabled=False, credits=None)
        read = unkey.keys.get_key(key_id=made.key_id).data
        self.assertEqual((read.name, read.enabled, read.credits), (None, False, None))
        self.assertEqual(self.verify(made.key).code, "DISABLED")
        unkey.keys.delete_key(key_id=made.key_id)
        self.assertEqual(self.verify(made.key).code, "NOT_FOUND")
        for call in (unkey.keys.get_key, unkey.keys.delete_key, unkey.keys.update_key):
            self.missing("key", call, key_id=made.key_id)

    def test_refusals(self):
        api_id, made = self.api(), self.key()
        self.invalid("/properties/byteLength/minimum", unkey.keys.create_key, api_id=api_id, byte_length=8)
        self.invalid("", unkey.keys.create_key, api_id=api_id, credits={"remaining": 1, "refill": {"interval": "monthly", "amount": 1}})
        self.refused(errors.BadRequestErrorResponse, 400, "user/bad_request/permissions_query_syntax_error", unkey.keys.verify_key, key=made.key, permissions="(")
        # The client knows of no 412 here.
        self.refused(errors.APIError, 412, "unkey/application/precondition_failed", unkey.keys.verify_key, key=made.key, ratelimits=[{"name": "unknown"}])

    def test_rates(self):
        made = self.key(ratelimits=[{"name": "requests", "limit": 1, "duration": MONTH, "auto_apply": True}])
        self.assertEqual([self.verify(made.key).code for _ in range(3)], ["VALID", "RATE_LIMITED", "RATE_LIMITED"])

    def test_whoami(self):
        made = self.key(name="n")
        self.assertEqual(unkey.keys.whoami(key=made.key).data, unkey.keys.get_key(key_id=made.key_id).data)
        self.missing("key", unkey.keys.whoami, key=unique("sk"))

    def test_credits(self):
        made = self.key(credits={"remaining": 5})
        for operation, value, remaining in (("increment", 3, 8), ("decrement", 100, 0), ("set", 9, 9), ("set", None, None)):
            self.assertEqual(unkey.keys.update_credits(key_id=made.key_id, operation=operation, value=value).data.remaining, remaining)
        self.missing("key", unkey.keys.update_credits, key_id="key_12345678", operation="set", value=1)

    def test_reroll(self):
        old = self.key(prefix="sk", name="n")
        fresh = unkey.keys.reroll_key(key_id=old.key_id, expiration=0).data
        self.assertNotEqual(fresh.key_id, old.key_id)
        self.assertEqual((self.verify(old.key).code, self.verify(fresh.key).name), ("EXPIRED", "n"))
        self.missing("key", unkey.keys.reroll_key, key_id="key_12345678", expiration=0)

    def test_migrate(self):
        api_id, secret = self.api(), unique("old_key")
        digest = base64.b64encode(hashlib.sha256(secret.encode()).digest()).decode()
        migration_id = post("migrations.createMigration", {"name": "old", "algorithm": "sha256"})["migrationId"]
        data = unkey.keys.migrate_keys(migration_id=migration_id, api_id=api_id, keys=[{"hash": digest, "name": "moved"}]).data
        self.assertEqual(([m.hash for m in data.migrated], data.failed), ([digest], []))
        self.assertEqual(self.verify(secret, migration_id=migration_id).key_id, data.migrated[0].key_id)


class Permissions(Case):
    def test_permissions_and_roles(self):
        slug, name = unique("docs.read"), unique("Editor")
        permission = unkey.permissions.create_permission(name="Read", slug=slug, description="all").data.permission_id
        role = unkey.permissions.create_role(name=name, permissions=[slug]).data.role_id
        self.assertEqual(unkey.permissions.get_permission(permission=slug).data.id, permission)
        self.assertEqual([p.slug for p in unkey.permissions.get_role(role=name).data.permissions], [slug])
        self.assertEqual([p.id for p in unkey.permissions.list_permissions(search=slug).result.data], [permission])
        self.assertEqual([r.id for r in unkey.permissions.list_roles(search=name).result.data], [role])
        other = unique("docs.write")
        self.assertEqual([p.slug for p in unkey.permissions.set_role_permissions(request={"role_id": role, "permissions": [other]}).data], [other])
        self.refused(errors.ConflictErrorResponse, 409, "unkey/data/permission_already_exists", unkey.permissions.create_permission, name="Read", slug=slug)
        self.refused(errors.ConflictErrorResponse, 409, "unkey/data/role_already_exists", unkey.permissions.create_role, name=name)
        self.invalid("/properties/slug/pattern", unkey.permissions.create_permission, name="n", slug="no spaces")
        unkey.permissions.delete_role(role=role)
        unkey.permissions.delete_permission(permission=permission)
        self.missing("role", unkey.permissions.get_role, role=role)
        self.missing("permission", unkey.permissions.get_permission, permission=permission)

    def test_of_a_key(self):
        made, role, slug = self.key(), unique("Editor"), unique("docs.read")
        unkey.permissions.create_role(name=role)
        slugs = lambda answer: [p.slug for p in answer.data]
        names = lambda answer: [r.name for r in answer.data]
        self.assertEqual(slugs(unkey.keys.add_permissions(key_id=made.key_id, permissions=[slug])), [slug])
        self.assertEqual(slugs(unkey.keys.remove_permissions(key_id=made.key_id, permissions=[slug])), [])
        self.assertEqual(slugs(unkey.keys.set_permissions(key_id=made.key_id, permissions=[slug])), [slug])
        self.assertEqual(names(unkey.keys.add_roles(key_id=made.key_id, roles=[role])), [role])
        data = self.verify(made.key, permissions=slug)
        self.assertEqual((data.code, data.roles, data.permissions), ("VALID", [role], [slug]))
        self.assertEqual(names(unkey.keys.remove_roles(key_id=made.key_id, roles=[role])), [])
        self.assertEqual(names(unkey.keys.set_roles(key_id=made.key_id, roles=[])), [])
        self.missing("role", unkey.keys.add_roles, key_id=made.key_id, roles=[unique("nobody")])
        self.missing("key", unkey.keys.set_permissions, key_id="key_12345678", permissions=[])


class Identities(Case):
    def test_life(self):
        external_id = unique("user")
        limit = {"name": "requests", "limit": 5, "duration": MONTH, "auto_apply": True}
        id = unkey.identities.create_identity(external_id=external_id, meta={"plan": "pro"}, ratelimits=[limit]).data.identity_id
        read = unkey.identities.get_identity(identity=external_id).data
        self.assertEqual((read.id, read.meta, [r.limit for r in read.ratelimits]), (id, {"plan": "pro"}, [5]))
        changed = unkey.identities.update_identity(identity=id, meta={"plan": "free"}, ratelimits=[]).data
        self.assertEqual((changed.meta, changed.ratelimits), ({"plan": "free"}, None))
        self.assertEqual([i.id for i in unkey.identities.list_identities(search=external_id).result.data], [id])
        self.refused(errors.ConflictErrorResponse, 409, "unkey/data/identity_already_exists", unkey.identities.create_identity, external_id=external_id)
        unkey.identities.delete_identity(identity=id)
        self.missing("identity", unkey.identities.get_identity, identity=id)
        self.missing("identity", unkey.identities.delete_identity, identity=id)
        self.invalid("/properties/identity/minLength", unkey.identities.delete_identity, identity="")


class Ratelimit(Case):
    def test_limit(self):
        namespace = unique("emails")
        ask = lambda cost=1: unkey.ratelimit.limit(namespace=namespace, identifier="user_1", limit=3, duration=MONTH, cost=cost).data
        self.assertEqual([(a.success, a.limit, a.remaining) for a in (ask(), ask(3), ask(2), ask())], [(True, 3, 2), (False, 3, 0), (True, 3, 0), (False, 3, 0)])
        self.assertGreater(ask().reset, time.time() * 1000)
        question = {"namespace": namespace, "identifier": "user_2", "limit": 1, "duration": MONTH}
        self.assertEqual([unkey.ratelimit.multi_limit(request=[question]).data.passed for _ in range(2)], [True, False])

    def test_overrides(self):
        namespace, identifier = unique("emails"), "*@example.com"
        of = {"namespace": namespace, "identifier": identifier}
        self.missing("ratelimit_namespace", unkey.ratelimit.set_override, **of, limit=1, duration=1000)
        ask = lambda: unkey.ratelimit.limit(namespace=namespace, identifier="a@example.com", limit=3, duration=MONTH)
        self.assertEqual(ask().data.limit, 3)
        id = unkey.ratelimit.set_override(**of, limit=9, duration=60_000).data.override_id
        self.assertEqual((ask().data.limit, ask().data.override_id), (9, id))
        self.assertEqual(unkey.ratelimit.get_override(**of).data.limit, 9)
        self.assertEqual([o.override_id for o in unkey.ratelimit.list_overrides(namespace=namespace).result.data], [id])
        unkey.ratelimit.delete_override(**of)
        self.missing("ratelimit_override", unkey.ratelimit.get_override, **of)
        post("ratelimit.deleteNamespace", {"namespace": namespace})
        self.refused(errors.GoneErrorResponse, 410, "unkey/data/ratelimit_namespace_gone", ask)


class Portal(Case):
    def test_a_customer_is_let_in(self):
        external_id, slug = unique("user"), unique("acme").replace("_", "-")
        post("portal.createPortal", {"slug": slug, "name": "Acme", "apiIds": [self.api()]})
        made = unkey.portal.create_session(portal=slug, external_id=external_id, scopes=["keys:read"]).result.data
        code = urllib.parse.parse_qs(urllib.parse.urlparse(made.url).query)["code"][0]
        data = unkey.portal.exchange_code(code=code).result.data
        self.assertRegex(data.access_token, "^pat_")
        self.assertGreater(data.expires_at, time.time() * 1000)
        self.refused(errors.UnauthorizedErrorResponse, 401, "unkey/authentication/portal_session_not_found", unkey.portal.exchange_code, code=code)
        self.missing("portal", unkey.portal.create_session, portal=unique("none"), external_id=external_id, scopes=["keys:read"])
        self.invalid("/properties/scopes/minItems", unkey.portal.create_session, portal=slug, external_id=external_id, scopes=[])


class Callers(Case):
    def test_401_and_403(self):
        made = self.key()
        wrong, weak = client(unique("root")), client(post("rootKeys.createRootKey", {"permissions": ["api.*.verify_key"]})["key"])
        for call, arguments in (("keys.get_key", {"key_id": made.key_id}), ("permissions.list_roles", {}), ("identities.delete_identity", {"identity": "i"}),
                                ("apis.create_api", {"name": "payments"}), ("ratelimit.limit", {"namespace": "n", "identifier": "i", "limit": 1, "duration": 1000})):
            group, name = call.split(".")
            self.refused(errors.UnauthorizedErrorResponse, 401, "unkey/authentication/key_not_found", getattr(getattr(wrong, group), name), **arguments)
            self.refused(errors.ForbiddenErrorResponse, 403, "unkey/authorization/insufficient_permissions", getattr(getattr(weak, group), name), **arguments)
        self.assertEqual(weak.keys.verify_key(key=made.key).data.code, "VALID")

    def test_429(self):
        key = post("workspaces.createWorkspace", {"name": unique("capped")})["rootKey"]["key"]
        post("workspaces.updateWorkspace", {"requestsPerMinute": 0}, key)
        limited = (errors.TooManyRequestsErrorResponse, 429, "user/too_many_requests/workspace_rate_limited")
        self.refused(*limited, client(key).apis.create_api, name="payments")
        self.refused(*limited, client(key).keys.verify_key, key="k")
        self.refused(*limited, client(key).identities.delete_identity, identity="i")


if __name__ == "__main__":
    unittest.main()

"""What schemathesis is told about Tollkey."""

import collections
import functools
import json
import os
import random
import secrets
import urllib.request

import schemathesis

SERVER, ROOT_KEY = os.environ["TOLLKEY_URL"], os.environ["TOLLKEY_ROOT_KEY"]


def call(procedure, body):
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ROOT_KEY}"}
    with urllib.request.urlopen(urllib.request.Request(f"{SERVER}/v2/{procedure}", json.dumps(body).encode(), headers)) as answer:
        return json.load(answer)["data"]


@functools.cache
def kept():
    """The root keys from before the run: without the caller's own, all that follows would be 401."""
    return [key["keyId"] for key in call("rootKeys.listRootKeys", {})]


# What the customer in a portal calls, with a cookie instead of a root key.
CUSTOMERS = {f"/v2/portal.{name}" for name in ("listKeys", "createKey", "rerollKey", "getVerifications", "getUsage")}


@functools.cache
def customer():
    """A session in a portal, made anew when it has been ended."""
    api = call("apis.createApi", {"name": "portal"})["apiId"]
    portal = call("portal.createPortal", {"slug": f"portal-{secrets.token_hex(8)}", "name": "Portal", "apiIds": [api]})["portalId"]
    scopes = ["keys:read", "keys:create", "keys:reroll", "analytics:read"]
    session = call("portal.createSession", {"portal": portal, "externalId": "user_1", "scopes": scopes})
    return call("portal.exchangeCode", {"code": session["url"].partition("code=")[2]})["accessToken"]


@schemathesis.auth(refresh_interval=None)
class Caller:
    def get(self, case, context):
        return ROOT_KEY

    def set(self, case, data, context):
        if case.path in CUSTOMERS:
            case.headers.pop("Authorization", None)
            case.cookies = {**(case.cookies or {}), "portal_session": customer()}
        else:
            case.headers["Authorization"] = f"Bearer {data}"


def plain(value):
    """Writes whole numbers as integers: 1.0 is one to JSON Schema and none to the contract, and would be all that many requests are refused for."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [plain(v) for v in value]
        case dict():
            return {k: plain(v) for k, v in value.items()}
    return value


# What was made lately, by the service and the field that name it in requests.
made = collections.defaultdict(lambda: collections.deque(maxlen=5))

# What tells of it: the procedure, the field of its request or its answer, and where it is named.
MAKES = {
    "apis.createApi": [("apiId", "apis.apiId"), ("apiId", "keys.apiId"), ("apiId", "portal.apiIds")],
    "keys.createKey": [("keyId", "keys.keyId"), ("key", "keys.key"), ("externalId", "identities.identity")],
    "permissions.createPermission": [("permissionId", "permissions.permission"), ("slug", "permissions.permission")],
    "permissions.createRole": [("roleId", "permissions.roleId"), ("roleId", "permissions.role"), ("name", "permissions.role"), ("name", "keys.roles")],
    "identities.createIdentity": [("identityId", "identities.identity"), ("externalId", "identities.identity")],
    "ratelimit.setOverride": [("namespace", "ratelimit.namespace"), ("identifier", "ratelimit.identifier")],
    "migrations.createMigration": [("migrationId", "keys.migrationId"), ("migrationId", "migrations.migrationId")],
    "portal.createPortal": [("portalId", "portal.portal"), ("slug", "portal.portal")],
    "portal.createSession": [("id", "portal.sessionId")],
    "portal.createKey": [("keyId", "portal.keyId")],
    "rootKeys.createRootKey": [("keyId", "rootKeys.keyId")],
}


def with_made(path, body):
    """Has most requests name what there is, or was: of what was never there, all that can be learned is a 404."""
    service, _, procedure = path.removeprefix("/v2/").partition(".")
    often = 0.2 if procedure.startswith("delete") else 0.7
    chance = random.Random(json.dumps(body, sort_keys=True, default=str))
    out = {}
    for field, value in body.items():
        known = made[f"{service}.{field}"]
        if known and chance.random() < often:
            value = [chance.choice(known)] if isinstance(value, list) else chance.choice(known)
        out[field] = value
    return out


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is not None and case.meta.phase.name.value in ("fuzzing", "stateful"):
        case.body = plain(case.body)
        if isinstance(case.body, dict):
            case.body = with_made(case.path, case.body)
    if case.path.startswith("/v2/rootKeys.") and isinstance(case.body, dict) and case.body.get("keyId") in kept():
        case.body = {**case.body, "keyId": "key_12345678"}
    if case.path == "/v2/workspaces.updateWorkspace" and isinstance(case.body, dict):
        cap = case.body.get("requestsPerMinute")
        if type(cap) in (int, float) and 0 <= cap < 10**6:
            case.body = {**case.body, "requestsPerMinute": cap + 10**6}  # no run reaches it


@schemathesis.hook
def after_call(context, case, response):
    if response.status_code == 200 and isinstance(case.body, dict):
        for field, name in MAKES.get(case.path.removeprefix("/v2/"), ()):
            value = response.json()["data"].get(field) or case.body.get(field)
            if value:
                made[name].append(value)
    if response.status_code == 401 and case.path in CUSTOMERS:
        customer.cache_clear()


kept()

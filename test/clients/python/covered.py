"""After the tests: fails where an operation that the client has and the server describes was never answered with success."""

import os
import pathlib
import re
import sys
import urllib.request

import unkey.py

# This client cannot send the cookie of a customer ("sub type {sub_type} not supported").
COOKIE = {"portal.listKeys", "portal.rerollKey", "portal.getVerifications"}
# It is newer than the protocol that Tollkey speaks, which says nothing of portals themselves: Tollkey's own operations on them have other fields than
# those that the client, as unreleased, has since.
OTHERS = {f"portal.{name}" for name in ("createPortal", "getPortal", "updatePortal", "deletePortal", "listSessions", "revokeSession")}


def text(path):
    with urllib.request.urlopen(os.environ["TOLLKEY_URL"] + path) as answer:
        return answer.read().decode()


metrics = text("/metrics")
operations = dict(re.findall(r"^  /v2/(\S+):\n(?:    .*\n)*?      operationId: (\w+)", text("/openapi.yaml"), re.M))
had = {path for file in pathlib.Path(unkey.py.__file__).parent.glob("*.py") for path in re.findall(r'path="/v2/([^"]+)"', file.read_text())}
both = sorted(had & operations.keys() - COOKIE - OTHERS)
missing = [path for path in both if f'tollkey_requests_total{{operation="{operations[path]}",status="200"}}' not in metrics]
if len(both) < 30 or missing:
    sys.exit(f"of {len(had)} operations the server describes {len(both)}; without a test: {', '.join(missing) or 'none'}")

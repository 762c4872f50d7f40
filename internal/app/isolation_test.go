package app

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// crossing is a call that names things of another workspace.
type crossing struct {
	operation string
	status    int    // that a missing thing gets; never 400 for a body that the schema refuses
	body      string // with <things> of the other workspace, see furnish, and <own things>
	customers bool   // a customer of this workspace asks, in a portal
	managers  bool   // only callers without server.*.manage_workspaces are kept out
}

// crossings has one line at least for every operation of api/openapi.yaml. What makes something under a name of the other workspace comes last, so
// that it does not stand in for the other's thing in what follows.
var crossings = []crossing{
	{operation: "queryUsage", status: 200, body: `{"from":1000000000000,"to":4102444800000,"filter":{"apiId":"<api>","keyId":"<key>"},"groupBy":["key","api"]}`},
	{operation: "queryUsage", status: 200, body: `{"from":1000000000000,"to":4102444800000,"groupBy":["key","api"]}`},
	{operation: "getApi", status: 404, body: `{"apiId":"<api>"}`},
	{operation: "deleteApi", status: 404, body: `{"apiId":"<api>"}`},
	{operation: "listKeys", status: 404, body: `{"apiId":"<api>"}`},
	{operation: "listKeys", status: 200, body: `{"apiId":"<own api>","externalId":"<externalId>"}`},
	{operation: "listKeys", status: 200, body: `{"apiId":"<own api>","cursor":"<key>"}`},
	{operation: "createKey", status: 404, body: `{"apiId":"<api>"}`},
	{operation: "createKey", status: 404, body: `{"apiId":"<own api>","roles":["<roleName>"]}`},
	{operation: "getKey", status: 404, body: `{"keyId":"<key>"}`},
	{operation: "getKey", status: 404, body: `{"keyId":"<rootKey>"}`},
	{operation: "updateKey", status: 404, body: `{"keyId":"<key>","enabled":false}`},
	{operation: "updateKey", status: 404, body: `{"keyId":"<own key>","roles":["<roleName>"]}`},
	{operation: "updateApi", status: 404, body: `{"apiId":"<api>","name":"taken over"}`},
	{operation: "listApis", status: 200, body: `{"cursor":"<api>"}`},
	{operation: "listApis", status: 200, body: `{"search":"<apiName>"}`},
	{operation: "listApis", status: 200, body: `{"search":"<api>"}`},
	{operation: "whoami", status: 404, body: `{"key":"<secret>"}`},
	{operation: "whoami", status: 404, body: `{"key":"<rootSecret>"}`},
	{operation: "updateCredits", status: 404, body: `{"keyId":"<key>","operation":"set","value":1}`},
	{operation: "rerollKey", status: 404, body: `{"keyId":"<key>","expiration":0}`},
	{operation: "deleteKey", status: 404, body: `{"keyId":"<key>"}`},
	{operation: "deleteKey", status: 404, body: `{"keyId":"<key>","permanent":true}`},
	{operation: "verifyKey", status: 200, body: `{"key":"<secret>"}`},
	{operation: "verifyKey", status: 200, body: `{"key":"<rootSecret>"}`},
	{operation: "addPermissions", status: 404, body: `{"keyId":"<key>","permissions":["own.slug"]}`},
	{operation: "setPermissions", status: 404, body: `{"keyId":"<key>","permissions":[]}`},
	{operation: "removePermissions", status: 404, body: `{"keyId":"<key>","permissions":["own.slug"]}`},
	{operation: "removePermissions", status: 404, body: `{"keyId":"<own key>","permissions":["<slug>"]}`},
	{operation: "removePermissions", status: 404, body: `{"keyId":"<own key>","permissions":["<permission>"]}`},
	{operation: "addRoles", status: 404, body: `{"keyId":"<key>","roles":["<own roleName>"]}`},
	{operation: "addRoles", status: 404, body: `{"keyId":"<own key>","roles":["<roleName>"]}`},
	{operation: "addRoles", status: 404, body: `{"keyId":"<own key>","roles":["<role>"]}`},
	{operation: "setRoles", status: 404, body: `{"keyId":"<key>","roles":[]}`},
	{operation: "setRoles", status: 404, body: `{"keyId":"<own key>","roles":["<roleName>"]}`},
	{operation: "removeRoles", status: 404, body: `{"keyId":"<key>","roles":["<own roleName>"]}`},
	{operation: "removeRoles", status: 404, body: `{"keyId":"<own key>","roles":["<roleName>"]}`},
	{operation: "getPermission", status: 404, body: `{"permission":"<permission>"}`},
	{operation: "getPermission", status: 404, body: `{"permission":"<slug>"}`},
	{operation: "listPermissions", status: 200, body: `{"cursor":"<permission>"}`},
	{operation: "listPermissions", status: 200, body: `{"search":"<slug>"}`},
	{operation: "deletePermission", status: 404, body: `{"permission":"<permission>"}`},
	{operation: "deletePermission", status: 404, body: `{"permission":"<slug>"}`},
	{operation: "getRole", status: 404, body: `{"role":"<role>"}`},
	{operation: "getRole", status: 404, body: `{"role":"<roleName>"}`},
	{operation: "listRoles", status: 200, body: `{"cursor":"<role>"}`},
	{operation: "listRoles", status: 200, body: `{"search":"<roleName>"}`},
	{operation: "deleteRole", status: 404, body: `{"role":"<role>"}`},
	{operation: "deleteRole", status: 404, body: `{"role":"<roleName>"}`},
	{operation: "setRolePermissions", status: 404, body: `{"roleId":"<role>","permissions":[]}`},
	{operation: "setOverride", status: 404, body: `{"namespace":"<namespace>","identifier":"<identifier>","limit":1,"duration":60000}`},
	{operation: "setOverride", status: 404, body: `{"namespace":"<namespaceName>","identifier":"<identifier>","limit":1,"duration":60000}`},
	{operation: "getOverride", status: 404, body: `{"namespace":"<namespace>","identifier":"<identifier>"}`},
	{operation: "getOverride", status: 404, body: `{"namespace":"<namespaceName>","identifier":"<identifier>"}`},
	{operation: "listOverrides", status: 404, body: `{"namespace":"<namespace>"}`},
	{operation: "listOverrides", status: 404, body: `{"namespace":"<namespaceName>"}`},
	{operation: "deleteOverride", status: 404, body: `{"namespace":"<namespace>","identifier":"<identifier>"}`},
	{operation: "deleteOverride", status: 404, body: `{"namespace":"<namespaceName>","identifier":"<identifier>"}`},
	{operation: "listNamespaces", status: 200, body: `{"cursor":"<namespace>"}`},
	{operation: "deleteNamespace", status: 404, body: `{"namespace":"<namespace>"}`},
	{operation: "deleteNamespace", status: 404, body: `{"namespace":"<namespaceName>"}`},
	{operation: "getIdentity", status: 404, body: `{"identity":"<identity>"}`},
	{operation: "updateIdentity", status: 404, body: `{"identity":"<identity>","meta":{"x":1},"ratelimits":[]}`},
	{operation: "deleteIdentity", status: 404, body: `{"identity":"<identity>"}`},
	{operation: "listIdentities", status: 200, body: `{"search":"<identity>"}`},
	{operation: "getIdentity", status: 404, body: `{"identity":"<externalId>"}`},
	{operation: "updateIdentity", status: 404, body: `{"identity":"<externalId>","meta":{"x":1},"ratelimits":[]}`},
	{operation: "deleteIdentity", status: 404, body: `{"identity":"<externalId>"}`},
	{operation: "listIdentities", status: 200, body: `{"search":"<externalId>"}`},
	{operation: "listIdentities", status: 200, body: `{"cursor":"<identity>"}`},
	{operation: "listPortalSessions", status: 200, body: `{"externalId":"<externalId>","cursor":"<session>"}`},
	{operation: "revokePortalSession", status: 404, body: `{"sessionId":"<session>"}`},
	{operation: "listPortals", status: 200, body: `{"cursor":"<portal>"}`},
	{operation: "exchangePortalCode", status: 401, body: `{"code":"<sessionToken>"}`},
	{operation: "getPortal", status: 404, body: `{"portal":"<portal>"}`},
	{operation: "updatePortal", status: 404, body: `{"portal":"<portal>","enabled":false}`},
	{operation: "deletePortal", status: 404, body: `{"portal":"<portal>"}`},
	{operation: "createPortalSession", status: 404, body: `{"portal":"<portal>","externalId":"<externalId>","scopes":["keys:read"]}`},
	{operation: "getPortal", status: 404, body: `{"portal":"<portalSlug>"}`},
	{operation: "updatePortal", status: 404, body: `{"portal":"<portalSlug>","enabled":false}`},
	{operation: "deletePortal", status: 404, body: `{"portal":"<portalSlug>"}`},
	{operation: "createPortalSession", status: 404, body: `{"portal":"<portalSlug>","externalId":"<externalId>","scopes":["keys:read"]}`},
	{operation: "updatePortal", status: 404, body: `{"portal":"<own portal>","apiIds":["<api>"]}`},
	{operation: "listPortalKeys", status: 200, body: `{"cursor":"<key>"}`, customers: true},
	{operation: "createPortalKey", status: 404, body: `{"apiId":"<api>"}`, customers: true},
	{operation: "rerollPortalKey", status: 404, body: `{"keyId":"<key>","expiration":0}`, customers: true},
	{operation: "getPortalVerifications", status: 200, body: `{"startTime":1000000000000,"endTime":1000000060000,"keyId":"<key>"}`, customers: true},
	{operation: "getPortalUsage", status: 200, body: `{"from":1000000000000,"to":4102444800000,"keyId":"<key>"}`, customers: true},
	{operation: "listMigrations", status: 200, body: `{"cursor":"<migration>"}`},
	{operation: "deleteMigration", status: 404, body: `{"migrationId":"<migration>"}`},
	{operation: "migrateKeys", status: 404, body: `{"migrationId":"<migration>","apiId":"<own api>","keys":[{"hash":"abc"}]}`},
	{operation: "migrateKeys", status: 404, body: `{"migrationId":"<own migration>","apiId":"<api>","keys":[{"hash":"abc"}]}`},
	{operation: "verifyKey", status: 200, body: `{"key":"a_b_<private>","migrationId":"<migration>"}`},
	{operation: "verifyKey", status: 200, body: `{"key":"a_b_<private>","migrationId":"<own migration>"}`},
	{operation: "listRootKeys", status: 200, body: `{"limit":1}`},
	{operation: "listRootKeys", status: 200, body: `{"cursor":"<rootKey>","limit":1}`},
	{operation: "getRootKey", status: 404, body: `{"keyId":"<rootKey>"}`},
	{operation: "updateRootKey", status: 404, body: `{"keyId":"<rootKey>","enabled":false}`},
	{operation: "rerollRootKey", status: 404, body: `{"keyId":"<rootKey>","expiration":0}`},
	{operation: "deleteRootKey", status: 404, body: `{"keyId":"<rootKey>"}`},
	{operation: "listAuditEvents", status: 200, body: `{"actor":"<rootKey>"}`},
	{operation: "listAuditEvents", status: 200, body: `{"target":"<key>"}`},
	{operation: "listAuditEvents", status: 200, body: `{}`},
	{operation: "listAuditEvents", status: 400, body: `{"cursor":"<log>"}`},
	{operation: "getWorkspace", status: 200, body: `{}`},
	{operation: "updateWorkspace", status: 404, body: `{"workspaceId":"<workspace>","name":"taken over"}`, managers: true},
	{operation: "listWorkspaces", status: 403, body: `{"cursor":"<workspace>"}`, managers: true},
	{operation: "createWorkspace", status: 403, body: `{"name":"x"}`, managers: true},

	{operation: "liveness", status: 200},
	{operation: "createMigration", status: 200, body: `{"algorithm":"sha256"}`},
	{operation: "createRootKey", status: 200, body: `{"permissions":["api.<api>.create_key"]}`},
	{operation: "createApi", status: 200, body: `{"name":"<apiName>"}`},
	{operation: "createPortal", status: 200, body: `{"slug":"<portalSlug>","name":"x","apiIds":["<own api>"]}`},
	{operation: "createIdentity", status: 200, body: `{"externalId":"<externalId>"}`},
	{operation: "createKey", status: 200, body: `{"apiId":"<own api>","externalId":"<externalId>"}`},
	{operation: "updateKey", status: 200, body: `{"keyId":"<own key>","externalId":"<externalId>"}`},
	{operation: "createPermission", status: 200, body: `{"name":"x","slug":"<slug>"}`},
	{operation: "createRole", status: 200, body: `{"name":"<roleName>"}`},
	{operation: "limit", status: 200, body: `{"namespace":"<namespaceName>","identifier":"<identifier>","limit":10,"duration":2592000000}`},
	{operation: "limit", status: 200, body: `{"namespace":"<namespace>","identifier":"<identifier>","limit":10,"duration":2592000000}`},
	{operation: "multiLimit", status: 200, body: `[{"namespace":"<namespaceName>","identifier":"<identifier>","limit":10,"duration":2592000000}]`},
}

// TestWorkspacesAreApart names, with the root key of one workspace, the things of another in every operation: the answer is that for things that do not
// exist anywhere, it tells nothing of the other workspace, and there nothing changes. It does so in both directions: the first workspace's root key
// manages all workspaces, and sees into none.
func TestWorkspacesAreApart(t *testing.T) {
	paths := operationPaths(t)
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			s, stop := start(t, c)
			defer stop()
			_, made := s.call(t, "workspaces.createWorkspace", `{"name":"another"}`)
			tenants := []tenant{{s, rootKey, nil}, {s, made["rootKey"].(map[string]any)["key"].(string), nil}}
			for i := range tenants {
				tenants[i].furnish(t)
			}
			for i := range tenants {
				tenants[i].counted(t)
			}
			for i, caller := range tenants {
				other := tenants[1-i]
				before := other.state(t)
				for _, c := range crossings {
					if !c.managers || i == 1 {
						caller.cross(t, paths[c.operation], c, other)
					}
				}
				if after := other.state(t); after != before {
					t.Errorf("calls from another workspace have changed:\n%s\nto:\n%s", before, after)
				}
			}
		})
	}
}

// operationPaths gives the path of every operation, and fails for those without a crossing.
func operationPaths(t *testing.T) map[string]string {
	t.Helper()
	source, err := os.ReadFile("../../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var description struct {
		Paths map[string]map[string]struct {
			OperationID string `yaml:"operationId"`
		}
	}
	if err := yaml.Unmarshal(source, &description); err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{}
	for path, methods := range description.Paths {
		for method, operation := range methods {
			paths[operation.OperationID] = strings.ToUpper(method) + " " + path
			if !slices.ContainsFunc(crossings, func(c crossing) bool { return c.operation == operation.OperationID }) {
				t.Errorf("%s is not tried from another workspace. Add lines to crossings (isolation_test.go): {operation: %q, status: <what a missing thing gets>, "+
					"body: <each way to name a thing of the other workspace, as <key> or what furnish makes besides>}. If it can name none, one line with a body that is "+
					"answered 200 proves that nothing leaks. A new kind of thing is made in furnish and read in state.", path, operation.OperationID)
			}
		}
	}
	return paths
}

// tenant is a workspace with one of each thing.
type tenant struct {
	server
	secret string
	things map[string]string // by what crossings call them
}

// furnish makes one of each thing. What holds <private> is never sent by another workspace, and so must never be answered to one.
func (w *tenant) furnish(t *testing.T) {
	t.Helper()
	tag := w.secret[len(w.secret)-4:]
	w.things = map[string]string{
		"rootSecret": w.secret, "apiName": "api " + tag, "externalId": "customer_" + tag, "slug": "docs.read." + tag, "roleName": "editor " + tag,
		"namespaceName": "emails " + tag, "identifier": "user " + tag, "private": "private " + tag, "portalSlug": "portal-" + strings.ToLower(tag),
	}
	make := func(procedure, body string, ids map[string]string) {
		t.Helper()
		status, out := w.as(t, procedure, body)
		if status != 200 {
			t.Fatalf("%s: %d %v", procedure, status, out)
		}
		for field, thing := range ids {
			w.things[thing], _ = out[field].(string)
		}
	}
	make("workspaces.getWorkspace", `{}`, map[string]string{"id": "workspace"})
	make("workspaces.updateWorkspace", `{"name":"<private> name of workspace","analyticsRetentionDays":3000}`, nil)
	make("apis.createApi", `{"name":"<private> name of API"}`, map[string]string{"apiId": "api"})
	make("permissions.createPermission", `{"name":"<private> name of permission","slug":"<slug>","description":"<private>"}`, map[string]string{"permissionId": "permission"})
	make("permissions.createRole", `{"name":"<roleName>","description":"<private> description of role","permissions":["<slug>"]}`, map[string]string{"roleId": "role"})
	make("identities.createIdentity", `{"externalId":"<externalId>","meta":{"<private>":1},"ratelimits":[{"name":"<private> limit","limit":100,"duration":60000,"autoApply":true}]}`,
		map[string]string{"identityId": "identity"})
	make("keys.createKey", `{"apiId":"<api>","name":"<private> name of key","meta":{"<private>":1},"externalId":"<externalId>","roles":["<roleName>"],"permissions":["<slug>"],
		"ratelimits":[{"name":"<private> limit","limit":100,"duration":60000,"autoApply":true}]}`, map[string]string{"keyId": "key", "key": "secret"})
	make("rootKeys.createRootKey", `{"name":"<private> name of root key","permissions":["api.*.read_api"]}`, map[string]string{"keyId": "rootKey"})
	make("ratelimit.limit", `{"namespace":"<namespaceName>","identifier":"<identifier>","limit":10,"duration":2592000000,"cost":4}`, nil)
	make("ratelimit.setOverride", `{"namespace":"<namespaceName>","identifier":"<identifier>","limit":8,"duration":2592000000}`, nil)
	make("migrations.createMigration", `{"name":"<private> name of migration","algorithm":"github.com/seamapi/prefixed-api-key"}`, map[string]string{"migrationId": "migration"})
	make("keys.migrateKeys", fmt.Sprintf(`{"migrationId":"<migration>","apiId":"<api>","keys":[{"hash":"%x"}]}`, sha256.Sum256([]byte(w.things["private"]))), nil)
	make("keys.verifyKey", `{"key":"<secret>"}`, nil)
	make("portal.createPortal", `{"slug":"<portalSlug>","name":"<private> name of portal","apiIds":["<api>"]}`, map[string]string{"portalId": "portal"})
	make("portal.createSession", `{"portal":"<portal>","externalId":"<externalId>","scopes":["keys:read","keys:create","keys:reroll","analytics:read"]}`,
		map[string]string{"id": "session", "url": "code"})
	_, w.things["code"], _ = strings.Cut(w.things["code"], "code=")
	make("portal.exchangeCode", `{"code":"<code>"}`, map[string]string{"accessToken": "sessionToken"})
	w.things["namespace"] = w.first(t, "ratelimit.listNamespaces", "id")
	w.things["log"] = w.first(t, "audit.listEvents", "id")
}

// counted waits until the verification that furnish has made is in the usage.
func (w *tenant) counted(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		_, out := w.post(t, "Bearer "+w.secret, "usage.query", `{"from":1000000000000,"to":4102444800000}`)
		if rows, _ := out["data"].([]any); len(rows) == 1 && rows[0].(map[string]any)["count"] == 1.0 {
			return
		}
	}
	t.Fatal("the usage does not come")
}

func (w *tenant) first(t *testing.T, procedure, field string) string {
	t.Helper()
	_, out := w.post(t, "Bearer "+w.secret, procedure, `{}`)
	return out["data"].([]any)[0].(map[string]any)[field].(string)
}

// as calls with the things of this workspace.
func (w *tenant) as(t *testing.T, procedure, body string) (int, map[string]any) {
	t.Helper()
	return w.callAs(t, "Bearer "+w.secret, procedure, fill(body, "", w.things))
}

func fill(body, prefix string, things map[string]string) string {
	for name, value := range things {
		body = strings.ReplaceAll(body, "<"+prefix+name+">", value)
	}
	return body
}

// state is all that can be read in the workspace.
func (w *tenant) state(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, ask := range [][2]string{
		{"workspaces.getWorkspace", `{}`},
		{"apis.getApi", `{"apiId":"<api>"}`},
		{"apis.listKeys", `{"apiId":"<api>"}`},
		{"keys.getKey", `{"keyId":"<key>"}`},
		{"permissions.listPermissions", `{}`},
		{"permissions.listRoles", `{}`},
		{"identities.listIdentities", `{}`},
		{"portal.listPortals", `{}`},
		{"portal.listSessions", `{}`},
		{"ratelimit.listNamespaces", `{}`},
		{"ratelimit.listOverrides", `{"namespace":"<namespace>"}`},
		{"rootKeys.listRootKeys", `{}`},
		{"audit.listEvents", `{}`},
		{"ratelimit.limit", `{"namespace":"<namespace>","identifier":"<identifier>","limit":10,"duration":2592000000,"cost":0}`},
	} {
		status, answer := w.post(t, "Bearer "+w.secret, ask[0], fill(ask[1], "", w.things))
		delete(answer, "meta")
		text, err := json.Marshal(answer)
		if err != nil || status != 200 {
			t.Fatalf("%s: %d %s %v", ask[0], status, text, err)
		}
		fmt.Fprintf(&out, "%s %s\n", ask[0], text)
	}
	return out.String()
}

// cross makes a call about the other's things and the same about things that are nowhere.
func (w *tenant) cross(t *testing.T, path string, c crossing, other tenant) {
	t.Helper()
	_, procedure, _ := strings.Cut(path, " /v2/")
	if procedure == "liveness" {
		return // it knows no callers
	}
	nowhere := maps.Clone(other.things)
	for name, value := range nowhere {
		nowhere[name] = value[:len(value)-2] + "zz" // in order of ids where the other's is
	}
	ask := func(things map[string]string) (answer, comparable string) {
		body := fill(fill(c.body, "own ", w.things), "", things)
		if strings.Contains(body, "<") {
			t.Errorf("%s: furnish makes no such thing: %s", c.operation, body)
		}
		credential := "Bearer " + w.secret
		if c.customers {
			credential = "Cookie portal_session=" + w.things["sessionToken"]
		}
		status, out := w.post(t, credential, procedure, body)
		if status != c.status {
			t.Errorf("%s %s: %d %v, want %d", procedure, body, status, out, c.status)
		}
		delete(out, "meta")
		text, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		answer = string(text)
		for name, value := range things {
			if strings.Contains(c.body, "<"+name+">") {
				answer = strings.ReplaceAll(answer, value, "<"+name+">")
			}
		}
		return answer, madeAnew.ReplaceAllString(answer, "<new>")
	}
	answer, theirs := ask(other.things)
	_, missing := ask(nowhere)
	if theirs != missing {
		t.Errorf("%s %s tells what another workspace has:\n%s\nand for what is nowhere:\n%s", procedure, c.body, theirs, missing)
	}
	for _, name := range []string{"api", "key", "secret", "permission", "role", "identity", "namespace", "rootKey", "rootSecret", "log", "portal", "session", "sessionToken", "private"} {
		if strings.Contains(answer, other.things[name]) {
			t.Errorf("%s %s answers the other workspace's %s: %s", procedure, c.body, name, answer)
		}
	}
}

// madeAnew are ids, secrets and times, which differ from call to call.
var madeAnew = regexp.MustCompile(`\b[a-z]+_[0-9a-z]{20}\b|\btollkey_[0-9A-Za-z]+|"key":"[0-9A-Za-z]+"|"start":"[^"]*"|\b\d{13}\b`)

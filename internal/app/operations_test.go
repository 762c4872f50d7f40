package app

import (
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/tollkey/tollkey/api"
)

// request is what TestOperations sends to an operation: its body, in which what prepare makes has names, and the permissions that this body takes beside
// x-permission.
type request struct {
	body string
	also []string
}

// requests has one for every operation; one that changes something must do so.
var requests = map[string]request{
	"createApi": {body: `{"name":"payments"}`},
	"getApi":    {body: `{"apiId":"<api>"}`},
	"listApis":  {body: `{}`},
	"updateApi": {body: `{"apiId":"<api>","name":"renamed"}`},
	"deleteApi": {body: `{"apiId":"<api>"}`},
	"listKeys":  {body: `{"apiId":"<api>"}`},

	"createKey":     {body: `{"apiId":"<api>","externalId":"user_<n>","permissions":["made.by.createKey.<n>"]}`},
	"getKey":        {body: `{"keyId":"<key>"}`},
	"updateKey":     {body: `{"keyId":"<key>","externalId":"user_<n>","permissions":["made.by.updateKey.<n>"]}`},
	"updateCredits": {body: `{"keyId":"<key>","operation":"set","value":5}`},
	"rerollKey":     {body: `{"keyId":"<key>","expiration":0}`},
	"deleteKey":     {body: `{"keyId":"<key>"}`},
	"whoami":        {body: `{"key":"<secret>"}`},
	"verifyKey":     {body: `{"key":"a_b_imported<n>","migrationId":"<migration>"}`}, // its first use
	"migrateKeys":   {body: `{"migrationId":"<migration>","apiId":"<api>","keys":[{"hash":"<hash>","externalId":"user_<n>","permissions":["made.<n>"],"roles":["made <n>"]}]}`},

	"createMigration": {body: `{"algorithm":"sha256"}`},
	"listMigrations":  {body: `{}`},
	"deleteMigration": {body: `{"migrationId":"<migration>"}`},

	"addPermissions":    {body: `{"keyId":"<key>","permissions":["other.<n>"]}`},
	"setPermissions":    {body: `{"keyId":"<key>","permissions":["other.<n>"]}`},
	"removePermissions": {body: `{"keyId":"<key>","permissions":["held.<n>"]}`},
	"addRoles":          {body: `{"keyId":"<key>","roles":["other_<n>"]}`},
	"setRoles":          {body: `{"keyId":"<key>","roles":["other_<n>"]}`},
	"removeRoles":       {body: `{"keyId":"<key>","roles":["held_<n>"]}`},

	"createPermission":   {body: `{"name":"x","slug":"made.<n>"}`},
	"getPermission":      {body: `{"permission":"held.<n>"}`},
	"listPermissions":    {body: `{}`},
	"deletePermission":   {body: `{"permission":"held.<n>"}`},
	"createRole":         {body: `{"name":"made <n>"}`},
	"getRole":            {body: `{"role":"held_<n>"}`},
	"listRoles":          {body: `{}`},
	"deleteRole":         {body: `{"role":"held_<n>"}`},
	"setRolePermissions": {body: `{"roleId":"<role>","permissions":["other.<n>"]}`},

	"createIdentity": {body: `{"externalId":"made_<n>","ratelimits":[{"name":"requests","limit":3,"duration":60000,"autoApply":true}]}`},
	"getIdentity":    {body: `{"identity":"owner_<n>"}`},
	"listIdentities": {body: `{}`},
	"updateIdentity": {body: `{"identity":"owner_<n>","ratelimits":[{"name":"requests","limit":3,"duration":60000,"autoApply":true}]}`},
	"deleteIdentity": {body: `{"identity":"owner_<n>"}`},

	"limit":           {`{"namespace":"made_<n>","identifier":"u1","limit":3,"duration":60000}`, []string{"ratelimit.*.create_namespace"}},
	"multiLimit":      {`[{"namespace":"made_<n>","identifier":"u1","limit":3,"duration":60000}]`, []string{"ratelimit.*.create_namespace"}},
	"setOverride":     {body: `{"namespace":"<namespace>","identifier":"u2","limit":3,"duration":60000}`},
	"getOverride":     {body: `{"namespace":"<namespace>","identifier":"u1"}`},
	"listOverrides":   {body: `{"namespace":"<namespace>"}`},
	"deleteOverride":  {body: `{"namespace":"<namespace>","identifier":"u1"}`},
	"listNamespaces":  {body: `{}`},
	"deleteNamespace": {body: `{"namespace":"<namespace>"}`},

	"createRootKey": {body: `{"permissions":["root_key.*.create_root_key"]}`},
	"listRootKeys":  {body: `{}`},
	"getRootKey":    {body: `{"keyId":"<rootKey>"}`},
	"updateRootKey": {body: `{"keyId":"<rootKey>","enabled":false}`},
	"rerollRootKey": {body: `{"keyId":"<rootKey>","expiration":0}`},
	"deleteRootKey": {body: `{"keyId":"<rootKey>"}`},

	"createWorkspace": {body: `{"name":"made <n>"}`},
	"listWorkspaces":  {body: `{}`},
	"getWorkspace":    {body: `{}`},
	"updateWorkspace": {body: `{"name":"renamed"}`},
	"listAuditEvents": {body: `{}`},

	"createPortal":        {body: `{"slug":"made-<n>","name":"x","apiIds":["<api>"]}`},
	"getPortal":           {body: `{"portal":"portal-<n>"}`},
	"listPortals":         {body: `{}`},
	"updatePortal":        {body: `{"portal":"portal-<n>","name":"renamed"}`},
	"deletePortal":        {body: `{"portal":"portal-<n>"}`},
	"createPortalSession": {`{"portal":"portal-<n>","externalId":"u","scopes":["keys:read"]}`, []string{"api.*.read_key", "api.*.read_api"}},
	"listPortalSessions":  {body: `{}`},
	"revokePortalSession": {body: `{"sessionId":"<session>"}`},

	"listPortalKeys":         {body: `{}`},
	"createPortalKey":        {body: `{"name":"made"}`},
	"rerollPortalKey":        {body: `{"keyId":"<key>","expiration":0}`},
	"getPortalVerifications": {body: `{"startTime":0,"endTime":60000}`},
	"getPortalUsage":         {body: `{"from":0,"to":60000}`},

	"queryUsage": {body: `{"from":0,"to":3600000}`},
}

// operation is what api/openapi.yaml says of one.
type operation struct {
	procedure   string
	ID          string   `yaml:"operationId"`
	Permissions []string `yaml:"x-permission"`
	Audit       []string `yaml:"x-audit"`
	Scopes      []string `yaml:"x-scope"` // of a portal session, instead of permissions
}

// TestOperations sends every operation twice: for a caller who lacks the permission, which must change nothing, and for one who holds just what x-permission
// says, which must take one change number and write audit entries that x-audit lists, or with an empty x-audit change nothing. So an operation fails that
// forgets one of authorization, transaction, audit and announcement, and so does one that is not described.
func TestOperations(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			s, stop := start(t, c)
			defer stop()
			d := look(t, s, c)
			for n, o := range operations(t) {
				if o.ID == "exchangePortalCode" {
					continue // whoever has a code may use it, once: see testdata/http/portal.txtar
				}
				t.Run(o.ID, func(t *testing.T) {
					r, ok := requests[o.ID]
					switch {
					case o.Audit == nil:
						t.Fatal("x-audit is missing: which audit events may it write? [] if it changes nothing")
					case len(o.Permissions)+len(o.Scopes) == 0:
						t.Fatal("x-permission or x-scope is missing")
					case !ok:
						t.Fatal("requests has none for it")
					}
					body := prepare(t, s, o, r.body, n)
					if len(o.Scopes) > 0 {
						owner := "owner_" + strconv.Itoa(n)
						other := "keys:read"
						if slices.Contains(o.Scopes, other) {
							other = "keys:reroll"
						}
						d.operation(t, o, inPortal(t, s, n, other), inPortal(t, s, n, o.Scopes[0]), owner, body)
						return
					}
					unrelated := "audit.*.read_audit"
					if slices.Contains(o.Permissions, unrelated) {
						unrelated = "usage.*.read_usage"
					}
					_, weak := caller(t, s, []string{unrelated})
					id, strong := caller(t, s, slices.Concat(o.Permissions, r.also))
					d.operation(t, o, weak, strong, id, body)
				})
			}
		})
	}
}

func operations(t *testing.T) (out []operation) {
	t.Helper()
	var spec struct {
		Paths map[string]struct {
			Post *operation `yaml:"post"`
		} `yaml:"paths"`
	}
	if err := yaml.Unmarshal(api.OpenAPI, &spec); err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(spec.Paths)) {
		if o := spec.Paths[path].Post; o != nil {
			o.procedure = strings.TrimPrefix(path, "/v2/")
			out = append(out, *o)
		}
	}
	return out
}

// prepare makes what a request names: <api>; <key> and its <secret>, with the permission held.<n>, the role held_<n> (<role>) and the owner owner_<n>; the
// permission other.<n> and the role other_<n>; <migration> with the key a_b_imported<n>; <namespace> with an override for u1; <rootKey>, which holds what the operation asks for first.
func prepare(t *testing.T, s server, o operation, body string, n int) string {
	t.Helper()
	known := map[string]string{
		"<n>": strconv.Itoa(n), "<namespace>": "space_" + strconv.Itoa(n), "<hash>": fmt.Sprintf("%064d", n),
		"<imported>": fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "imported%d", n))),
	}
	put := func(procedure, body string, names ...string) {
		t.Helper()
		status, made := s.call(t, procedure, replaced(body, known))
		if status != http.StatusOK {
			t.Fatalf("%s: %d %v", procedure, status, made)
		}
		for i := 0; i < len(names); i += 2 {
			known[names[i]] = made[names[i+1]].(string)
		}
	}
	put("permissions.createPermission", `{"name":"p","slug":"other.<n>"}`)
	put("permissions.createRole", `{"name":"held_<n>","permissions":["held.<n>"]}`, "<role>", "roleId")
	put("permissions.createRole", `{"name":"other_<n>","permissions":[]}`)
	put("apis.createApi", `{"name":"payments"}`, "<api>", "apiId")
	put("keys.createKey", `{"apiId":"<api>","permissions":["held.<n>"],"roles":["held_<n>"],"externalId":"owner_<n>"}`, "<key>", "keyId", "<secret>", "key")
	put("migrations.createMigration", `{"algorithm":"github.com/seamapi/prefixed-api-key"}`, "<migration>", "migrationId")
	put("keys.migrateKeys", `{"migrationId":"<migration>","apiId":"<api>","keys":[{"hash":"<imported>"}]}`)
	put("ratelimit.limit", `{"namespace":"<namespace>","identifier":"u1","limit":3,"duration":60000}`)
	put("ratelimit.setOverride", `{"namespace":"<namespace>","identifier":"u1","limit":3,"duration":60000}`)
	put("portal.createPortal", `{"slug":"portal-<n>","name":"p","apiIds":["<api>"]}`)
	put("portal.createSession", `{"portal":"portal-<n>","externalId":"owner_<n>","scopes":["keys:read"]}`, "<session>", "id")
	if len(o.Permissions) > 0 {
		put("rootKeys.createRootKey", `{"permissions":["`+o.Permissions[0]+`"]}`, "<rootKey>", "keyId")
	}
	return replaced(body, known)
}

func replaced(text string, known map[string]string) string {
	for name, value := range known {
		text = strings.ReplaceAll(text, name, value)
	}
	return text
}

// caller makes a root key and returns its id and credential.
func caller(t *testing.T, s server, permissions []string) (id, credential string) {
	t.Helper()
	list, err := json.Marshal(permissions)
	if err != nil {
		t.Fatal(err)
	}
	status, made := s.call(t, "rootKeys.createRootKey", `{"permissions":`+string(list)+`}`)
	if status != http.StatusOK {
		t.Fatalf("x-permission: %d %v", status, made)
	}
	return made["keyId"].(string), "Bearer " + made["key"].(string)
}

// inPortal opens a session in the portal that prepare has made, and returns its credential.
func inPortal(t *testing.T, s server, n int, scope string) (credential string) {
	t.Helper()
	status, made := s.call(t, "portal.createSession", fmt.Sprintf(`{"portal":"portal-%d","externalId":"owner_%d","scopes":[%q]}`, n, n, scope))
	if status != http.StatusOK {
		t.Fatalf("portal.createSession: %d %v", status, made)
	}
	_, code, _ := strings.Cut(made["url"].(string), "code=")
	status, made = s.callAs(t, "", "portal.exchangeCode", fmt.Sprintf(`{"code":%q}`, code))
	if status != http.StatusOK {
		t.Fatalf("portal.exchangeCode: %d %v", status, made)
	}
	return "Cookie portal_session=" + made["accessToken"].(string)
}

// operation calls o as somebody who may not, and as somebody who may, whose id is given.
func (d *onlooker) operation(t *testing.T, o operation, weak, strong, id, body string) {
	for deadline := time.Now().Add(20 * time.Second); d.number(t, "select count(*) from removed") > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) { // the last operation's links are cleared away in the background
			t.Fatal("what was removed stays linked")
		}
	}
	before := d.state(t)
	status, answer := d.server.post(t, weak, o.procedure, body)
	data, _ := answer["data"].(map[string]any)
	if status != http.StatusForbidden && status != http.StatusNotFound && data["code"] != "NOT_FOUND" {
		t.Errorf("without the permission: %d %v", status, answer)
	}
	if after := d.state(t); !maps.Equal(after, before) {
		t.Errorf("without the permission it has changed %v", changed(before, after))
	}
	head, entries := d.number(t, "select number from feed"), d.number(t, "select count(*) from audit_entries")
	if status, answer = d.server.post(t, strong, o.procedure, body); status != http.StatusOK {
		t.Fatalf("with the permission: %d %v", status, answer)
	}
	if len(o.Audit) == 0 {
		if after := d.state(t); !maps.Equal(after, before) {
			t.Errorf("x-audit is empty, and it has changed %v", changed(before, after))
		}
		return
	}
	if taken := d.number(t, "select number from feed") - head; taken != 1 {
		t.Errorf("%d change numbers were taken", taken)
	}
	written := d.rows(t, fmt.Sprintf("select event, actor_id, correlation, actor_type from audit_entries where seq > %d order by seq", entries))
	byCaller, correlation := 0, ""
	for _, e := range written {
		if e[3] == "system" { // what another workspace's log says of it
			continue
		}
		if byCaller++; byCaller == 1 {
			correlation = e[2]
		}
		if !slices.Contains(o.Audit, e[0]) || e[1] != id || e[2] == "" || e[2] != correlation {
			t.Errorf("the audit entry %v: x-audit lists %v, the caller is %s", e, o.Audit, id)
		}
	}
	if byCaller == 0 {
		t.Error("no audit entry names the caller")
	}
}

// onlooker reads the server's store from outside.
type onlooker struct {
	*sql.DB
	server server
	tables []string
}

// background are the tables that the server writes without being asked.
var background = []string{"nodes", "leases", "batches", "folded", "counters", "removed", "refills", "usage_minutes", "usage_hours", "usage_marks"}

func look(t *testing.T, s server, c Config) *onlooker {
	t.Helper()
	driver, source, names := "sqlite", "file:"+filepath.Join(c.Data, "tollkey.db")+"?mode=ro", "select name from sqlite_master where type = 'table'"
	if c.DatabaseURL != "" {
		driver, source, names = "pgx", c.DatabaseURL, "select table_name from information_schema.tables where table_schema = 'public'"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	o := &onlooker{DB: db, server: s}
	for _, row := range o.rows(t, names) {
		if !slices.Contains(background, row[0]) {
			o.tables = append(o.tables, row[0])
		}
	}
	return o
}

// state returns what each table holds.
func (d *onlooker) state(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, table := range d.tables {
		var rows []string
		for _, row := range d.rows(t, "select * from "+table) {
			rows = append(rows, strings.Join(row, "|"))
		}
		slices.Sort(rows)
		out[table] = strings.Join(rows, "\n")
	}
	return out
}

func changed(before, after map[string]string) (tables []string) {
	for table := range after {
		if before[table] != after[table] {
			tables = append(tables, table)
		}
	}
	return tables
}

func (d *onlooker) number(t *testing.T, query string) (n int64) {
	t.Helper()
	if err := d.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// rows returns a result as texts, but for when something was last used, which is written in the background.
func (d *onlooker) rows(t *testing.T, query string) (out [][]string) {
	t.Helper()
	rows, err := d.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, targets := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		row := make([]string, len(columns))
		for i, name := range columns {
			if name != "last_used_at" {
				row[i] = fmt.Sprint(values[i])
			}
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

package cli

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// TestPresets reads exports as they are, line by line.
func TestPresets(t *testing.T) {
	secret := sha256.Sum256([]byte("ak_1"))
	for _, c := range []struct{ name, preset, format, file, want string }{
		{"table", "table", "csv", "\ufeffHash,Owner,name,permissions,Expires,enabled,remaining\nabc,user_1,\"a, b\",\"x.read, y.write\",2030-01-31T12:00:00Z,false,5\nabc,,,,,,\n", `
			2 {"credits":{"remaining":5},"enabled":false,"expires":1896091200000,"externalId":"user_1","hash":"abc","name":"a, b","permissions":["x.read","y.write"]}
			3 {"hash":"abc"}`},
		{"table in JSON", "table", "jsonl", `{"hash":"abc","meta":{"a":1},"roles":["r"],"ratelimits":[{"name":"x"}],"credits":{"remaining":null}}` + "\n\n" + `{"hash":"a<b","expires":1}`, `
			1 {"credits":{"remaining":null},"hash":"abc","meta":{"a":1},"ratelimits":[{"name":"x"}],"roles":["r"]}
			3 {"expires":1,"hash":"a<b"}`},
		{"faults", "table", "csv", "hash,expires,enabled,other\n,1,,\na,soon,,\na,,maybe,\na,,,x\na,1\n\"a\"b,,,\na,1,,\n", `
			2 ! it has no hash
			3 ! expires must be a time
			4 ! enabled must be true or false
			5 ! the column other is unknown
			6 ! it has 2 fields, and the first line 4
			7 ! extraneous
			8 {"expires":1,"hash":"a"}`},
		{"faults in JSON", "table", "jsonl", "[]\n{\"hash\":{}}\n{}{}\n" + `{"hash":"` + strings.Repeat("x", 1<<20) + "\"}\n{\"hash\":\"a\"}", `
			1 ! it is no JSON object
			2 ! hash must be a text
			3 ! it is no JSON object
			4 ! it is longer
			5 {"hash":"a"}`},
		{
			"better-auth", "better-auth", "csv",
			"id,name,start,prefix,key,user_id,refill_interval,refill_amount,last_refill_at,enabled,rate_limit_enabled,rate_limit_time_window,rate_limit_max,remaining,expires_at,permissions,metadata\n" +
				`1,main,sk_ab,sk_,hash_1,user_1,86400000,100,,t,true,86400000,10,42,2030-01-31 12:00:00+00,"{""files"":[""read"",""write""]}","""{\""plan\"":\""pro\""}"""` + "\n" +
				"2,,,,hash_2,user_2,3600000,5,,1,0,,,1,,,null\n3,,,,hash_3,,,,,0,false,,,,,,\n",
			`
			2 {"credits":{"refill":{"amount":100,"interval":"daily"},"remaining":42},"enabled":true,"expires":1896091200000,"externalId":"user_1","hash":"hash_1","meta":{"plan":"pro"},"name":"main","permissions":["files.read","files.write"],"ratelimits":[{"autoApply":true,"duration":86400000,"limit":10,"name":"requests"}],"start":"sk_ab"}
			3 ! it is refilled every 3600000 ms
			4 {"enabled":false,"hash":"hash_3"}`,
		},
		{
			"clerk", "clerk", "jsonl",
			`{"object":"api_key","id":"ak_1","type":"api_key","name":"ci","subject":"org_1","scopes":["read:users"],"claims":{"team":"a"},"revoked":true,"expiration":1896091200000,"secret":"ak_1"}` + "\n" +
				`{"id":"ak_2","subject":"user_2","scopes":[],"claims":null,"revoked":false}`,
			`
			1 {"enabled":false,"expires":1896091200000,"externalId":"org_1","hash":"` + base64.StdEncoding.EncodeToString(secret[:]) + `","meta":{"team":"a"},"name":"ci","permissions":["read:users"]}
			2 ! it has no hash`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, err := newRecords(c.format, strings.NewReader(c.file))
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(strings.TrimSpace(c.want), "\n")
			for i := 0; ; i++ {
				line, r, err := all.next()
				if errors.Is(err, io.EOF) {
					if i != len(want) {
						t.Errorf("%d lines, not %d", i, len(want))
					}
					return
				}
				var key json.RawMessage
				if err == nil {
					key, err = encode(presets[c.preset], r)
				}
				got := fmt.Sprintf("%d %s", line, key)
				if err != nil {
					got = fmt.Sprintf("%d ! %v", line, err)
				}
				if i >= len(want) || !strings.HasPrefix(got, strings.TrimSpace(want[i])) {
					t.Errorf("line %s", got)
				}
			}
		})
	}
}

// TestImport brings keys to a server: bad lines are told and left out, a repetition does no harm, and an interrupted run goes on where it was.
func TestImport(t *testing.T) {
	dir := t.TempDir()
	server := served(t, nil, "--data", dir)
	c := &console{t: t, always: []string{"--server", server, "--data", dir}}
	api := c.must(`^apiId +(api_\w+)`, "", "apis", "create", "imported")
	to := c.client(server, dir)
	answer, err := to.call(t.Context(), "migrations.createMigration", map[string]any{"algorithm": "sha256"})
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ MigrationID string }
	if err := json.Unmarshal(answer.Data, &made); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("hash,owner,permissions\n")
	for i := range 50 {
		hash, slug := hashOf(fmt.Sprintf("old_%d", i)), "docs.read"
		switch i {
		case 20:
			hash = "no_hash"
		case 30:
			slug = "no slug"
		}
		fmt.Fprintf(&table, "%s,user_%d,%s\n", hash, i%7, slug)
	}
	file := filepath.Join(dir, "keys.csv")
	if err := os.WriteFile(file, []byte(table.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"import", file, "--api", api, "--migration", made.MigrationID, "--batch", "8"}
	for _, want := range []string{"48 keys imported, 0 were there already, 2 lines rejected.", "0 keys imported, 48 were there already, 2 lines rejected."} {
		code, stdout, stderr := c.run("", args...)
		if code != 1 || strings.TrimSpace(stdout) != want || !strings.Contains(stderr, "line 22: Bad Request: keys.0.hash") || !strings.Contains(stderr, "line 32: ") {
			t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
		}
	}
	c.must(`^code +VALID`, "old_7", "keys", "verify")
	c.refused("NOT_FOUND", "old_30", "keys", "verify")
	c.refused("There is no such migration", "", "import", file, "--api", api, "--migration", "mig_none")
	// As it stands after a run that died behind line 41.
	j := importJob{client: to, file: file, format: "csv", preset: "table", into: map[string]any{"apiId": api, "migrationId": made.MigrationID}, log: io.Discard}
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.resume(in), in.Close(), j.done(41)); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := c.run("", args...); code != 0 || !strings.HasPrefix(stdout, "0 keys imported, 10 were there already, 0 lines") || !strings.Contains(stderr, "came to line 41") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if _, err := os.Stat(j.statePath()); !errors.Is(err, os.ErrNotExist) {
		t.Error("the state of a finished import is left", err)
	}
	c.refused("--format must be csv or jsonl", "", "import", filepath.Join(dir, "keys.txt"), "--api", api, "--migration", made.MigrationID)
	c.refused("no such file", "", "import", filepath.Join(dir, "none.csv"), "--api", api, "--migration", made.MigrationID)
}

func (c *console) client(server, dir string) *client {
	c.t.Helper()
	key, err := os.ReadFile(filepath.Join(dir, "root-key"))
	if err != nil {
		c.t.Fatal(err)
	}
	return &client{server: server, rootKey: strings.TrimSpace(string(key))}
}

package app

import (
	"database/sql"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestAuditVerify damages the audit log beside a running server, from its end on, and finds the first damage each time.
func TestAuditVerify(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			s, stop := start(t, c)
			defer stop()
			_, made := s.call(t, "apis.createApi", `{"name":"audited"}`)
			for range 10 {
				s.call(t, "keys.createKey", `{"apiId":"`+made["apiId"].(string)+`"}`)
			}
			last, err := VerifyAudit(t.Context(), c, AuditMark{})
			if err != nil || last.Seq != 12 {
				t.Fatal(last, err)
			}
			if again, err := VerifyAudit(t.Context(), c, last); err != nil || again != last {
				t.Errorf("with what is known: %v %v", again, err)
			}
			raw := openRaw(t, c)
			for _, damage := range []struct {
				statement string
				seq       int64
				missing   bool
				mark      AuditMark
			}{
				{"update feed set id = 1", 13, true, AuditMark{Seq: 99}},
				{"update feed set id = 1", 11, false, AuditMark{Seq: 11}},
				{"delete from audit_entries where seq = 14", 14, true, AuditMark{}}, // the last one
				{"update feed set id = 1", 14, true, AuditMark{}},
				{"update audit_entries set at = at + 1 where seq = 9", 9, false, AuditMark{}},
				{"update audit_entries set hash = (select hash from audit_entries where seq = 1) where seq = 8", 8, false, AuditMark{}},
				{"update audit_entries set workspace_id = 'ws_1' where seq = 7", 7, false, AuditMark{}},
				{"delete from audit_entries where seq = 6", 6, true, AuditMark{}},
				{"update audit_entries set targets = '[' where seq = 5", 5, false, AuditMark{}},
				{"update audit_entries set remote_ip = '', actor_name = actor_name || remote_ip where seq = 4", 4, false, AuditMark{}},
				{"delete from audit_entries where seq < 3", 1, true, AuditMark{}},
			} {
				if _, err := raw.Exec(damage.statement); err != nil {
					t.Fatal(damage.statement, err)
				}
				var broken *BrokenChain
				if _, err := VerifyAudit(t.Context(), c, damage.mark); !errors.As(err, &broken) || broken.Seq != damage.seq || (broken.ID == "") != damage.missing {
					t.Errorf("after %s: %v", damage.statement, err)
				}
				if status, e := s.call(t, "apis.createApi", `{"name":"still works"}`); status != 200 {
					t.Errorf("after %s: %d %v", damage.statement, status, e)
				}
			}
		})
	}
}

// openRaw opens the store of a server with nothing of this program between.
func openRaw(t *testing.T, c Config) *sql.DB {
	t.Helper()
	driver, source := "pgx", c.DatabaseURL
	if source == "" {
		driver, source = "sqlite", "file:"+filepath.Join(c.Data, "tollkey.db")+"?_pragma=busy_timeout(10000)"
	}
	raw, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	return raw
}

// undescribed events come from commands, and from reads that show a secret.
var undescribed = []string{"data_key.rewrap", "data_key.delete", "key.decrypt"}

var recorded = regexp.MustCompile(`(?:record[A-Za-z]*\(|\.audit\(|bySystem\([a-zA-Z.]+, [a-zA-Z.]+, )"([a-zA-Z_.]+)"`)

// TestAuditEventsAreDescribed holds what internal/control records and what the operations of api/openapi.yaml name as x-audit together.
func TestAuditEventsAreDescribed(t *testing.T) {
	source, err := os.ReadFile("../../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var description struct {
		Paths map[string]map[string]struct {
			Audit []string `yaml:"x-audit"`
		}
	}
	if err := yaml.Unmarshal(source, &description); err != nil {
		t.Fatal(err)
	}
	described, written := map[string]string{}, map[string]string{}
	for path, methods := range description.Paths {
		for _, operation := range methods {
			for _, event := range operation.Audit {
				described[event] = path
			}
		}
	}
	files, err := filepath.Glob("../control/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, found := range recorded.FindAllStringSubmatch(line, -1) {
				written[found[1]] = file + ":" + strconv.Itoa(i+1)
			}
		}
	}
	for _, event := range slices.Sorted(maps.Keys(written)) {
		if described[event] == "" && !slices.Contains(undescribed, event) {
			t.Errorf("%s records %q: name it as x-audit of the operations that do so", written[event], event)
		}
	}
	for _, event := range slices.Sorted(maps.Keys(described)) {
		if written[event] == "" {
			t.Errorf("%s names %q as x-audit, which nothing records", described[event], event)
		}
	}
}

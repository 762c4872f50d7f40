package app

import (
	"strings"
	"testing"
)

// TestPermissionsReachVerification changes what a key holds in every way there is; the next verification knows.
func TestPermissionsReachVerification(t *testing.T) {
	for name, config := range engines {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Listen, c.RootKey = "127.0.0.1:0", rootKey
			s, stop := start(t, c)
			defer stop()
			_, data := s.call(t, "apis.createApi", `{"name":"payments"}`)
			_, made := s.call(t, "keys.createKey", `{"apiId":"`+data["apiId"].(string)+`"}`)
			_, role := s.call(t, "permissions.createRole", `{"name":"Reader","permissions":["docs.read"]}`)
			_, write := s.call(t, "permissions.createPermission", `{"name":"Write","slug":"docs.write"}`)
			fill := strings.NewReplacer("<key>", made["keyId"].(string), "<role>", role["roleId"].(string), "<write>", write["permissionId"].(string))
			for _, step := range []struct{ procedure, body, holds string }{
				{"keys.addPermissions", `{"keyId":"<key>","permissions":["docs.write","docs.list"]}`, "docs.list docs.write"},
				{"keys.addRoles", `{"keyId":"<key>","roles":["reader"]}`, "docs.list docs.read docs.write"},
				{"keys.setPermissions", `{"keyId":"<key>","permissions":["docs.write"]}`, "docs.read docs.write"},
				{"permissions.setRolePermissions", `{"roleId":"<role>","permissions":["docs.read","docs.share","docs.write"]}`, "docs.read docs.share docs.write"},
				{"permissions.deletePermission", `{"permission":"docs.share"}`, "docs.read docs.write"},
				{"keys.removePermissions", `{"keyId":"<key>","permissions":["docs.write"]}`, "docs.read docs.write"},
				{"permissions.deletePermission", `{"permission":"<write>"}`, "docs.read"},
				{"keys.addPermissions", `{"keyId":"<key>","permissions":["docs.write"]}`, "docs.read docs.write"},
				{"keys.removeRoles", `{"keyId":"<key>","roles":["Reader"]}`, "docs.write"},
				{"keys.setRoles", `{"keyId":"<key>","roles":["Reader"]}`, "docs.read docs.write"},
				{"permissions.deleteRole", `{"role":"READER"}`, "docs.write"},
				{"permissions.createRole", `{"name":"Reader","permissions":["docs.read"]}`, "docs.write"}, // a new one: who had the old one has it not
				{"keys.setPermissions", `{"keyId":"<key>","permissions":[]}`, ""},
			} {
				if status, answer := s.post(t, "Bearer "+rootKey, step.procedure, fill.Replace(step.body)); status != 200 {
					t.Fatalf("%s %s: %d %v", step.procedure, step.body, status, answer)
				}
				_, v := s.call(t, "keys.verifyKey", `{"key":"`+made["key"].(string)+`"}`)
				var holds []string
				list, _ := v["permissions"].([]any)
				for _, slug := range list {
					holds = append(holds, slug.(string))
				}
				if got := strings.Join(holds, " "); got != step.holds {
					t.Errorf("after %s %s: %q, want %q", step.procedure, step.body, got, step.holds)
				}
			}
		})
	}
}

package cli

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// preset turns a record into a key of keys.migrateKeys.
type preset func(r record) (map[string]any, error)

var presets = map[string]preset{"table": tableKey, "better-auth": betterAuthKey, "clerk": clerkKey}

// tableKey reads a plain table. A column that it does not know is an error, since what it says would be lost.
func tableKey(r record) (map[string]any, error) {
	k := newKeyOf(r)
	k.hash("hash", "secret")
	k.put("lookup", k.text("lookup"))
	k.put("start", k.text("start"))
	k.put("name", k.text("name"))
	k.put("externalId", k.text("externalid", "owner"))
	k.put("meta", k.object("meta"))
	k.put("roles", k.list("roles"))
	k.put("permissions", k.list("permissions"))
	k.put("expires", k.moment("expires"))
	k.put("enabled", k.yesNo("enabled"))
	k.put("ratelimits", k.value("ratelimits"))
	if remaining := k.whole("remaining"); remaining != nil {
		k.put("credits", map[string]any{"remaining": remaining})
	}
	k.put("credits", k.value("credits"))
	for _, name := range slices.Sorted(maps.Keys(r)) {
		if !k.used[name] {
			k.fail("the column %s is unknown", name)
		}
	}
	return k.out, k.err
}

// betterAuthKey reads the table of better-auth's API-key plugin, whose hashes are SHA-256 in base64.
func betterAuthKey(r record) (map[string]any, error) {
	const day = 24 * 60 * 60 * 1000
	k := newKeyOf(r)
	k.hash("key", "")
	k.put("start", k.text("start"))
	k.put("name", k.text("name"))
	k.put("externalId", k.text("userid", "referenceid"))
	k.put("meta", k.object("metadata"))
	k.put("expires", k.moment("expiresat"))
	k.put("enabled", k.yesNo("enabled"))
	if held := k.object("permissions"); held != nil {
		k.put("permissions", k.grants(held))
	}
	if on := k.yesNo("ratelimitenabled"); on == true {
		most, window := k.whole("ratelimitmax"), k.whole("ratelimittimewindow")
		if most != nil && window != nil {
			k.put("ratelimits", []any{map[string]any{"name": "requests", "limit": most, "duration": window, "autoApply": true}})
		}
	}
	var credits map[string]any
	if remaining := k.whole("remaining"); remaining != nil {
		credits = map[string]any{"remaining": remaining}
	}
	amount, every := k.whole("refillamount"), k.whole("refillinterval")
	switch {
	case amount == nil || every == nil:
	case every != int64(day):
		k.fail("it is refilled every %d ms, and there are daily and monthly refills only", every)
	case credits == nil:
		k.fail("it is refilled without having a number of remaining requests")
	default:
		credits["refill"] = map[string]any{"interval": "daily", "amount": amount}
	}
	if credits != nil {
		k.put("credits", credits)
	}
	return k.out, k.err
}

// clerkKey reads API keys as Clerk lists them, each with its secret, which is hashed here and goes no further.
func clerkKey(r record) (map[string]any, error) {
	k := newKeyOf(r)
	k.hash("hash", "secret")
	k.put("name", k.text("name"))
	k.put("externalId", k.text("subject"))
	k.put("meta", k.object("claims"))
	k.put("permissions", k.list("scopes"))
	k.put("expires", k.moment("expiration"))
	if k.yesNo("revoked") == true {
		k.put("enabled", false)
	}
	return k.out, k.err
}

// keyOf makes a key of a record. What is wrong first is kept.
type keyOf struct {
	in   record
	out  map[string]any
	used map[string]bool
	err  error
}

func newKeyOf(r record) *keyOf { return &keyOf{in: r, out: map[string]any{}, used: map[string]bool{}} }

func (k *keyOf) fail(format string, args ...any) {
	if k.err == nil {
		k.err = bad(format, args...)
	}
}

func (k *keyOf) put(field string, value any) {
	if value != nil {
		k.out[field] = value
	}
}

// value returns what the first of the columns that is there holds, with texts of JSON read.
func (k *keyOf) value(names ...string) any {
	for _, name := range names {
		k.used[name] = true
	}
	for _, name := range names {
		v, ok := k.in[name]
		if !ok {
			continue
		}
		text, isText := v.(string)
		if trimmed := strings.TrimSpace(text); isText && trimmed != "" && strings.ContainsAny(trimmed[:1], `{["`) {
			var inner any
			d := json.NewDecoder(strings.NewReader(trimmed))
			d.UseNumber()
			if d.Decode(&inner) == nil && !d.More() {
				if nested, twice := inner.(string); twice { // some tables hold JSON within JSON
					return (&keyOf{in: record{"x": nested}, used: map[string]bool{}}).value("x")
				}
				return inner
			}
		}
		return v
	}
	return nil
}

func (k *keyOf) text(names ...string) any {
	for _, name := range names {
		k.used[name] = true
	}
	for _, name := range names {
		switch v := k.in[name].(type) {
		case nil:
		case string:
			if v != "" {
				return v
			}
		case json.Number:
			return v.String()
		default:
			k.fail("%s must be a text", name)
		}
	}
	return nil
}

// hash takes the hash, or makes it of the secret.
func (k *keyOf) hash(name, secret string) {
	if v := k.text(name); v != nil {
		k.out["hash"] = v
		_ = k.text(secret)
		return
	}
	if plain, ok := k.text(secret).(string); ok && secret != "" {
		sum := sha256.Sum256([]byte(plain))
		k.out["hash"] = base64.StdEncoding.EncodeToString(sum[:])
		return
	}
	k.fail("it has no %s", name)
}

func (k *keyOf) object(name string) any {
	switch v := k.value(name).(type) {
	case nil:
		return nil
	case map[string]any:
		return v
	case string:
		if strings.EqualFold(v, "null") {
			return nil
		}
	}
	k.fail("%s must be a JSON object", name)
	return nil
}

// list takes JSON, or names between commas or spaces.
func (k *keyOf) list(name string) any {
	switch v := k.value(name).(type) {
	case nil:
		return nil
	case []any:
		return v
	case string:
		var out []any
		for _, word := range strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ';' }) {
			if word = strings.TrimSpace(word); word != "" {
				out = append(out, word)
			}
		}
		if out == nil {
			return nil
		}
		return out
	}
	k.fail("%s must be a list", name)
	return nil
}

// grants turns {"files": ["read"]} into files.read.
func (k *keyOf) grants(held any) any {
	var out []any
	object, _ := held.(map[string]any)
	for _, resource := range slices.Sorted(maps.Keys(object)) {
		actions, ok := object[resource].([]any)
		if !ok {
			k.fail("permissions must hold a list of actions for %s", resource)
		}
		for _, action := range actions {
			out = append(out, fmt.Sprintf("%s.%v", resource, action))
		}
	}
	if out == nil {
		return nil
	}
	return out
}

func (k *keyOf) whole(name string) any {
	k.used[name] = true
	v, ok := k.in[name]
	if !ok {
		return nil
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(fmt.Sprint(v)), 10, 64); err == nil {
		return n
	}
	k.fail("%s must be a whole number", name)
	return nil
}

func (k *keyOf) yesNo(name string) any {
	k.used[name] = true
	switch v := k.in[name].(type) {
	case nil:
		return nil
	case bool:
		return v
	default:
		if b, err := strconv.ParseBool(strings.TrimSpace(fmt.Sprint(v))); err == nil {
			return b
		}
	}
	k.fail("%s must be true or false", name)
	return nil
}

// moment takes Unix milliseconds, or a date and time in one of the ways in which databases write them.
func (k *keyOf) moment(name string) any {
	k.used[name] = true
	v, ok := k.in[name]
	if !ok {
		return nil
	}
	text := strings.TrimSpace(fmt.Sprint(v))
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04:05.999999999", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UnixMilli()
		}
	}
	k.fail("%s must be a time in Unix milliseconds, or as in 2030-01-31T12:00:00Z", name)
	return nil
}

package vault

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
)

const keyBytes = 32

// MasterKey wraps data keys. However it is printed, it shows its id only.
type MasterKey struct {
	ID  string // what the rows that it wrapped say
	key [keyBytes]byte
}

// NewMasterKey makes a master key.
func NewMasterKey(now time.Time) MasterKey {
	k := MasterKey{ID: tollkey.NewID("mk", now)}
	_, _ = rand.Read(k.key[:]) // never fails since Go 1.24
	return k
}

// Entry is the master key as the configuration has it. It is the one way to get at the secret.
func (k MasterKey) Entry() string { return k.ID + ":" + base64.StdEncoding.EncodeToString(k.key[:]) }

// Format implements fmt.Formatter for every verb.
func (k MasterKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("master key " + k.ID)) }

// LogValue implements slog.LogValuer.
func (k MasterKey) LogValue() slog.Value { return slog.StringValue("master key " + k.ID) }

var masterID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// ParseMasterKeys reads entries `id:base64 of 32 bytes`, with commas or white space between them. Its errors count entries and quote none.
func ParseMasterKeys(text string) ([]MasterKey, error) {
	var keys []MasterKey
	for i, entry := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }) {
		id, encoded, ok := strings.Cut(entry, ":")
		raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if !ok || !masterID.MatchString(id) || err != nil || len(raw) != keyBytes {
			return nil, fmt.Errorf("entry %d must be an id, a colon, and 32 bytes in base64, as `tollkey vault new-key` prints it", i+1)
		}
		k := MasterKey{ID: id}
		copy(k.key[:], raw)
		for j := range keys {
			if keys[j].ID == id || keys[j].key == k.key {
				return nil, fmt.Errorf("entries %d and %d have the same id or the same key", j+1, i+1)
			}
		}
		if k.key == [keyBytes]byte{} {
			return nil, errors.New("a master key of zeros protects nothing")
		}
		keys = append(keys, k)
	}
	return keys, nil
}

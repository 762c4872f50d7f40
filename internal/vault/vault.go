// Package vault encrypts the secrets of recoverable keys, in two steps: a master key, which only the configuration holds, wraps one data
// key per workspace, and a data key encrypts the secrets of its workspace. Both are AES-256-GCM with random nonces. A secret is bound to its workspace
// and its key, a data key to its workspace and its id: moved to another row, neither can be opened.
//
// It promises that nothing is readable without the master key, that what was changed or moved is an error and never another
// text, and that no error and no printed value shows a secret or a key. It does not promise more than that: who has both the
// database and the master key reads every recoverable secret, and who may write to the database can put an old row back, delete it, or give itself
// a root key and ask the server. It keeps no data key unwrapped between two calls, does no I/O, and all of it is safe for concurrent use.
package vault

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/tollkey/tollkey"
)

// Vault holds the master keys. Without any it is off: it seals nothing and opens nothing.
type Vault struct {
	masters []MasterKey // the first wraps, all unwrap
}

// New returns a Vault that wraps with the first of the master keys and unwraps with any.
func New(masters []MasterKey) *Vault { return &Vault{masters} }

// Off reports whether there is no master key.
func (v *Vault) Off() bool { return len(v.masters) == 0 }

// First is the id of the master key that wraps.
func (v *Vault) First() string { return v.masters[0].ID }

// NewDataKey makes the data key of a workspace.
func (v *Vault) NewDataKey(ws tollkey.WorkspaceID, now time.Time) (*tollkey.DataKey, error) {
	plain := make([]byte, keyBytes)
	_, _ = rand.Read(plain) // never fails since Go 1.24
	k := &tollkey.DataKey{ID: tollkey.DataKeyID(tollkey.NewID("dk", now)), Workspace: ws, CreatedAt: now}
	return k, v.wrap(k, plain)
}

// Rewrap returns the data key wrapped with the first master key. It does not change the data key itself, and so no secret.
func (v *Vault) Rewrap(k *tollkey.DataKey) (*tollkey.DataKey, error) {
	plain, err := v.unwrap(k)
	if err != nil {
		return nil, err
	}
	again := *k
	return &again, v.wrap(&again, plain)
}

// Check tells why the data key cannot be opened, if it cannot.
func (v *Vault) Check(k *tollkey.DataKey) error {
	_, err := v.unwrap(k)
	return err
}

// Seal encrypts a key's secret.
func (v *Vault) Seal(k *tollkey.DataKey, key tollkey.KeyID, secret string) (*tollkey.SealedSecret, error) {
	plain, err := v.unwrap(k)
	if err != nil {
		return nil, err
	}
	sealed, err := encrypt(plain, []byte(secret), secretData(k, key))
	return &tollkey.SealedSecret{Key: key, DataKey: k.ID, Ciphertext: sealed}, err
}

// Open decrypts what Seal made.
func (v *Vault) Open(k *tollkey.DataKey, s *tollkey.SealedSecret) (string, error) {
	plain, err := v.unwrap(k)
	if err != nil {
		return "", err
	}
	secret, err := decrypt(plain, s.Ciphertext, secretData(k, s.Key))
	if err != nil {
		return "", fmt.Errorf("the secret of the key %s cannot be opened: it was changed, moved, or encrypted with another data key", s.Key)
	}
	return string(secret), nil
}

func (v *Vault) wrap(k *tollkey.DataKey, plain []byte) (err error) {
	if v.Off() {
		return errors.New("there is no master key")
	}
	k.Master = v.First()
	k.Wrapped, err = encrypt(v.masters[0].key[:], plain, wrapData(k))
	return err
}

func (v *Vault) unwrap(k *tollkey.DataKey) ([]byte, error) {
	for i := range v.masters {
		if v.masters[i].ID != k.Master {
			continue
		}
		plain, err := decrypt(v.masters[i].key[:], k.Wrapped, wrapData(k))
		if err != nil {
			return nil, fmt.Errorf("the data key %s of the workspace %s cannot be opened with the master key %q: this is not the one that wrapped it, or the row was changed", k.ID, k.Workspace, k.Master)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("the data key %s of the workspace %s is wrapped with the master key %q, which is not configured", k.ID, k.Workspace, k.Master)
}

// The associated data name what is encrypted and where it belongs. No id holds a zero byte.
func secretData(k *tollkey.DataKey, key tollkey.KeyID) []byte {
	return []byte(strings.Join([]string{"tollkey secret", string(k.Workspace), string(key)}, "\x00"))
}

func wrapData(k *tollkey.DataKey) []byte {
	return []byte(strings.Join([]string{"tollkey data key", string(k.Workspace), string(k.ID)}, "\x00"))
}

func encrypt(key, plain, data []byte) ([]byte, error) {
	gcm, err := subtle.NewAESGCM(key)
	if err != nil {
		return nil, err
	}
	return gcm.Encrypt(plain, data)
}

func decrypt(key, sealed, data []byte) ([]byte, error) {
	gcm, err := subtle.NewAESGCM(key)
	if err != nil {
		return nil, err
	}
	return gcm.Decrypt(sealed, data)
}

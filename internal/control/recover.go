package control

import (
	"context"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// The preconditions of recoverable keys, in the order in which they are checked: the server's master key, the caller's permission, the API's switch.
func noEncryption() error {
	return tollkey.NewError(tollkey.CodePrecondition, tollkey.ReasonPrecondition, "Recoverable keys are switched off on this server.")
}

func notRecoverable() error {
	return tollkey.NewError(tollkey.CodePrecondition, tollkey.ReasonPrecondition, "This API does not allow recoverable keys; apis.updateApi with recoverableKeys does.")
}

// mayEncrypt checks whether the caller may keep secrets of the API's keys. lacking is the error without the permission.
func (s *Service) mayEncrypt(caller Caller, a *tollkey.API, lacking error) error {
	return s.mayRecover(caller, a, "encrypt_key", lacking)
}

// mayDecrypt checks whether the caller may read secrets of the API's keys again.
func (s *Service) mayDecrypt(caller Caller, a *tollkey.API) error {
	return s.mayRecover(caller, a, "decrypt_key", denied("api.*.decrypt_key"))
}

func (s *Service) mayRecover(caller Caller, a *tollkey.API, action string, lacking error) error {
	switch {
	case s.vault.Off():
		return noEncryption()
	case !caller.Can("api", string(a.ID), action):
		return lacking
	case !a.RecoverableKeys:
		return notRecoverable()
	}
	return nil
}

// seal encrypts a key's secret. It belongs before the transaction that creates the key. A workspace's first secret makes its data key, which stays
// even if the key is not created.
func (s *Service) seal(ctx context.Context, caller Caller, key tollkey.KeyID, plain string) (*tollkey.SealedSecret, error) {
	k, err := s.dataKey(ctx, caller)
	if err != nil {
		return nil, err
	}
	sealed, err := s.vault.Seal(k, key, plain)
	if err != nil {
		return nil, tollkey.NewError(tollkey.CodeInternal, tollkey.ReasonUnexpected, "The key's secret could not be encrypted.").Because(err)
	}
	return sealed, nil
}

// dataKey returns the workspace's data key. Of two callers that make it at once, one does, and both use that.
func (s *Service) dataKey(ctx context.Context, caller Caller) (k *tollkey.DataKey, err error) {
	read := func() error {
		return s.store.View(ctx, func(r store.Reader) error {
			k, err = r.DataKey(ctx, caller.Workspace)
			return err
		})
	}
	if err := read(); err != nil || k != nil {
		return k, err
	}
	fresh, err := s.vault.NewDataKey(caller.Workspace, s.now())
	if err != nil {
		return nil, err
	}
	_, err = s.mutate(ctx, caller, func(c *change) error {
		created, err := c.PutDataKey(ctx, fresh)
		if created {
			c.audit("data_key.create", "Created the workspace's data key", dataKeyTarget(fresh))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return k, read()
}

func dataKeyTarget(k *tollkey.DataKey) tollkey.AuditTarget {
	return tollkey.AuditTarget{Type: "data_key", ID: string(k.ID)}
}

// sealedSecrets are what a snapshot holds of some keys, with what opens them.
type sealedSecrets struct {
	dataKey *tollkey.DataKey
	secrets []tollkey.SealedSecret
}

// readSealed reads the secrets of keys; those that are not recoverable have none.
func readSealed(ctx context.Context, r store.Reader, ws tollkey.WorkspaceID, keys []tollkey.Key) (out sealedSecrets, err error) {
	ids := make([]tollkey.KeyID, len(keys))
	for i := range keys {
		ids[i] = keys[i].ID
	}
	if out.dataKey, err = r.DataKey(ctx, ws); err != nil || out.dataKey == nil {
		return out, err
	}
	out.secrets, err = r.SealedSecrets(ctx, ws, ids)
	return out, err
}

// open decrypts secrets and audits whose they were: a secret is never given out without a trace. One that cannot be decrypted is left out.
func (s *Service) open(ctx context.Context, caller Caller, in sealedSecrets, keys []tollkey.Key) (map[tollkey.KeyID]string, error) {
	plain := map[tollkey.KeyID]string{}
	for i := range in.secrets {
		if text, err := s.vault.Open(in.dataKey, &in.secrets[i]); err == nil {
			plain[in.secrets[i].Key] = text
		}
	}
	if len(plain) == 0 {
		return nil, nil
	}
	var targets []tollkey.AuditTarget
	for i := range keys {
		if plain[keys[i].ID] != "" {
			targets = append(targets, keyTarget(&keys[i]))
		}
	}
	_, err := s.mutate(ctx, caller, func(c *change) error {
		c.audit("key.decrypt", "Read the secrets of keys", targets...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return plain, nil
}

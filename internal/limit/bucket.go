package limit

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/tollkey/tollkey"
)

// BucketFor names the counter of a rule: the same workspace, rule name, scope (the id of the key or identity) and duration give the same
// bucket on every node and after every restart. The limit's value is not part of it: raising a limit keeps what was used.
func BucketFor(workspace, name, scope string, duration time.Duration) tollkey.BucketID {
	return bucket(duration, workspace, name, scope)
}

// StandaloneBucket names the counter of an identifier in a namespace. It is never that of a rule.
func StandaloneBucket(workspace, namespace, identifier string, duration time.Duration) tollkey.BucketID {
	return bucket(duration, workspace, "namespace", namespace, identifier)
}

func bucket(duration time.Duration, parts ...string) tollkey.BucketID {
	var room [192]byte
	buf := room[:0]
	for _, part := range parts {
		buf = binary.AppendUvarint(buf, uint64(len(part)))
		buf = append(buf, part...)
	}
	buf = binary.AppendVarint(buf, duration.Milliseconds())
	sum := sha256.Sum256(buf)
	return tollkey.BucketID(sum[:16])
}

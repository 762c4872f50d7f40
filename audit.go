package tollkey

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Actor is who did something, as the audit log names it.
type Actor struct {
	Type      string // "rootkey", "system"
	ID        string
	Name      string
	RemoteIP  string
	UserAgent string
}

// AuditEntry is one recorded change. It is written in the transaction of the change itself.
type AuditEntry struct {
	ID          string
	Workspace   WorkspaceID
	Time        time.Time
	Event       string // "key.create", …
	Description string
	Actor       Actor
	Targets     []AuditTarget
	Correlation string // shared by all entries of one call
	// Seq is the entry's place in the chain, from 1 without gaps; Hash is its link of the chain. The store sets both.
	Seq  int64
	Hash AuditHash
}

// AuditTarget is one thing that an audited change touched.
type AuditTarget struct {
	Type string // "key", "api", "role", …
	ID   string
	Name string
}

// AuditHash is one link of the chain that all audit entries of a server make, in the order of their commits.
type AuditHash [32]byte

// Link returns the hash that the entry has after one whose hash is previous; the first entry follows 32 zero bytes. It is SHA-256 over
// previous and all fields but Hash: numbers as 8 bytes (big-endian, times in Unix milliseconds), texts as the number of their bytes and these, in the
// order Seq, ID, Workspace, Time, Event, Description, Actor (Type, ID, Name, RemoteIP, UserAgent), Correlation, number of targets, and Type, ID
// and Name of each. docs/audit.md says the same.
func (e *AuditEntry) Link(previous AuditHash) AuditHash {
	b := make([]byte, 0, 512)
	number := func(n int64) { b = binary.BigEndian.AppendUint64(b, uint64(n)) } //nolint:gosec // the bits as they are
	text := func(texts ...string) {
		for _, t := range texts {
			number(int64(len(t)))
			b = append(b, t...)
		}
	}
	b = append(b, previous[:]...)
	number(e.Seq)
	text(e.ID, string(e.Workspace))
	number(e.Time.UnixMilli())
	text(e.Event, e.Description, e.Actor.Type, e.Actor.ID, e.Actor.Name, e.Actor.RemoteIP, e.Actor.UserAgent, e.Correlation)
	number(int64(len(e.Targets)))
	for _, t := range e.Targets {
		text(t.Type, t.ID, t.Name)
	}
	return sha256.Sum256(b)
}

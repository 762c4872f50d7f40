package tollkey

import (
	"fmt"
	"time"
)

// Outcome is the answer to a verification. The order of the constants is stored in events: append only.
type Outcome uint8

// The outcomes; only OutcomeValid lets the request through.
const (
	OutcomeValid Outcome = iota
	OutcomeNotFound
	OutcomeForbidden
	OutcomeInsufficientPermissions
	OutcomeUsageExceeded
	OutcomeRateLimited
	OutcomeDisabled
	OutcomeExpired
)

var outcomeNames = [...]string{
	"VALID", "NOT_FOUND", "FORBIDDEN", "INSUFFICIENT_PERMISSIONS", "USAGE_EXCEEDED", "RATE_LIMITED", "DISABLED", "EXPIRED",
}

// String returns the outcome as it stands on the wire.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("OUTCOME_%d", uint8(o))
}

// ParseOutcome is the inverse of String.
func ParseOutcome(s string) (Outcome, bool) {
	for i, name := range outcomeNames {
		if name == s {
			return Outcome(i), true
		}
	}
	return 0, false
}

// BucketID is the identity of a counter: the same rule, scope and duration always give the same bucket, on every node.
type BucketID [16]byte

// Take is what one event took from one bucket. It travels in the ledger so that a killed process forgets no admission.
type Take struct {
	Bucket   BucketID
	Duration time.Duration
	Window   int64 // floor(Unix time / Duration): the aligned window that was charged
	Cost     int64
}

// BalanceID names a balance of credits: the id of the key (later also of the identity) that owns it.
type BalanceID string

// Spend asks for Amount credits from a balance. Amount 0 never fails and tells what remains.
type Spend struct {
	Balance BalanceID
	Amount  int64
}

// EventKind tells what an Event records.
type EventKind uint8

// The kinds. Their numbers are stored: append only.
const (
	EventVerification EventKind = iota
	EventLimit                  // standalone limits were taken from: Time, Workspace and Takes only
)

// Event is one recorded fact: a verification and what it cost, or a use of standalone limits. Events are immutable once committed.
type Event struct {
	Kind      EventKind
	Time      time.Time
	Workspace WorkspaceID
	API       APIID      // "" for NOT_FOUND
	Key       KeyID      // "" for NOT_FOUND
	Identity  IdentityID // "" = none
	Outcome   Outcome
	Credits   int64 // credits spent
	Count     int64 // how many equal verifications this event stands for; ≥ 1
	Tags      []string
	Takes     []Take // empty when refused
}

// Change is one announced management transaction. Numbers are gapless and follow the order of commit.
type Change struct {
	Number int64
	Time   time.Time
	// Kind tells what a node must do. A node that meets a kind that it does not know drops its whole cache.
	Kind ChangeKind
	// Cells are the changed things that cached answers depend on ("key_…", "api_…", "role_…", "ws_…", "id_…").
	Cells []string
	// Digests are those of created keys (at most 100): they existed nowhere before, and a node may have cached that.
	Digests []Digest
	// FirstKey and LastKey, when set, say that keys with ids in this range were created, too many to list.
	FirstKey, LastKey KeyID
}

// ChangeKind is what a Change asks of a node.
type ChangeKind string

// The kinds.
const (
	ChangeCells ChangeKind = "cells" // mark Cells and Digests as changed, learn FirstKey…LastKey
	ChangeFlush ChangeKind = "flush" // drop everything that is cached
)

// Propagation tells which nodes have applied a change when its reply is sent.
type Propagation struct {
	// Confirmed means that every node which may still answer from its cache has applied the change.
	Confirmed bool
	Nodes     int      // how many nodes have applied it, this one included
	Silent    []string // the nodes that have neither applied it nor lost their lease
	Took      time.Duration
}

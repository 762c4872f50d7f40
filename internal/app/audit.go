package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/sqlstore"
)

// AuditMark names an entry of the audit log by its place in the chain, with the hash that it had.
type AuditMark struct {
	Seq  int64
	Hash tollkey.AuditHash
}

// BrokenChain is the first place at which the audit log is not as it was written.
type BrokenChain struct {
	Seq   int64
	ID    string // "" when the entry is missing
	Fault string
}

func (e *BrokenChain) Error() string {
	if e.ID == "" {
		return fmt.Sprintf("entry %d of the audit log %s", e.Seq, e.Fault)
	}
	return fmt.Sprintf("entry %d of the audit log (%s) %s", e.Seq, e.ID, e.Fault)
}

// VerifyAudit walks the audit log of the store from its first entry, beside a running server, and returns its last entry. Where the chain does not hold,
// or an entry has not the hash of its mark, the error is a *BrokenChain.
func VerifyAudit(ctx context.Context, c Config, mark AuditMark) (last AuditMark, err error) {
	db, err := sqlstore.OpenView(ctx, sqlstore.Options{Dir: c.Data, URL: c.DatabaseURL})
	if err != nil {
		return last, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	count, err := db.Audited(ctx)
	if err != nil {
		return last, err
	}
	const page = 1000
	for {
		entries, err := db.AuditAfter(ctx, last.Seq, page)
		if err != nil {
			return last, err
		}
		for i := range entries {
			if fault := last.next(&entries[i], mark); fault != nil {
				return last, fault
			}
		}
		if len(entries) < page {
			break
		}
	}
	if count = max(count, mark.Seq); last.Seq < count {
		return last, &BrokenChain{Seq: last.Seq + 1, Fault: fmt.Sprintf("is missing, and all up to entry %d", count)}
	}
	return last, nil
}

// next goes on to the entry behind m, and tells what is wrong with it.
func (m *AuditMark) next(e *tollkey.AuditEntry, known AuditMark) error {
	switch {
	case e.Seq != m.Seq+1:
		return &BrokenChain{Seq: m.Seq + 1, Fault: "is missing"}
	case e.Hash != e.Link(m.Hash):
		return &BrokenChain{Seq: e.Seq, ID: e.ID, Fault: "was changed: its hash does not follow from what it says and from the entry before it"}
	case e.Seq == known.Seq && e.Hash != known.Hash:
		return &BrokenChain{Seq: e.Seq, ID: e.ID, Fault: "has another hash than it had"}
	}
	*m = AuditMark{e.Seq, e.Hash}
	return nil
}

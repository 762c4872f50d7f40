package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/tollkey/tollkey"
)

const dataKeySelect = `select id, workspace_id, master_id, wrapped, created_at from data_keys where `

var (
	qDataKey  = hotQuery(dataKeySelect + `workspace_id = $1`)
	qDataKeys = hotQuery(dataKeySelect + `id > $1 order by id limit $2`)
	qSealed   = inList(2, `select s.key_id, s.data_key_id, s.ciphertext from sealed_secrets s
		join keys k on k.id = s.key_id where k.workspace_id = $1 and k.deleted_at is null and s.key_id in `, "", true)
	qInsertSealed  = query(`insert into sealed_secrets (key_id, data_key_id, ciphertext) values ($1, $2, $3)`)
	qDeleteSealed  = query(`delete from sealed_secrets where key_id = $1`)
	qInsertDataKey = query(`insert into data_keys (id, workspace_id, master_id, wrapped, created_at) values ($1, $2, $3, $4, $5)
		on conflict (workspace_id) do nothing`)
	qRewrapDataKey = query(`update data_keys set master_id = $3, wrapped = $4 where id = $1 and master_id = $2`)
	qDeleteDataKey = query(`delete from data_keys where id = $1`)
	qUnsealAll     = query(`delete from sealed_secrets where data_key_id = $1`)
)

func scanDataKey(row interface{ Scan(...any) error }) (*tollkey.DataKey, error) {
	var k tollkey.DataKey
	var created int64
	err := row.Scan(&k.ID, &k.Workspace, &k.Master, &k.Wrapped, &created)
	k.CreatedAt = time.UnixMilli(created)
	return &k, err
}

// DataKey implements store.Reader.
func (r reader) DataKey(ctx context.Context, ws tollkey.WorkspaceID) (*tollkey.DataKey, error) {
	k, err := scanDataKey(r.q.QueryRowContext(ctx, qDataKey, string(ws)))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return k, err
}

// DataKeys implements store.DataKeys.
func (db *DB) DataKeys(ctx context.Context, after tollkey.DataKeyID, limit int) ([]tollkey.DataKey, error) {
	return db.main.dataKeys(ctx, after, limit)
}

// DataKeys implements store.DataKeys.
func (v *View) DataKeys(ctx context.Context, after tollkey.DataKeyID, limit int) ([]tollkey.DataKey, error) {
	return v.main.dataKeys(ctx, after, limit)
}

func (f *file) dataKeys(ctx context.Context, after tollkey.DataKeyID, limit int) (keys []tollkey.DataKey, err error) {
	err = f.view(ctx, func(q querier) error {
		rows, err := q.QueryContext(ctx, qDataKeys, string(after), limit)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			k, err := scanDataKey(rows)
			if err != nil {
				return err
			}
			keys = append(keys, *k)
		}
		return rows.Err()
	})
	return keys, err
}

// SealedSecrets implements store.Reader.
func (r reader) SealedSecrets(ctx context.Context, ws tollkey.WorkspaceID, keys []tollkey.KeyID) (out []tollkey.SealedSecret, err error) {
	err = r.each(ctx, qSealed, []any{string(ws)}, texts(keys), func(rows *sql.Rows) error {
		var s tollkey.SealedSecret
		err := rows.Scan(&s.Key, &s.DataKey, &s.Ciphertext)
		out = append(out, s)
		return err
	})
	return out, err
}

// CreateSealedSecret implements store.Tx.
func (t *tx) CreateSealedSecret(ctx context.Context, s *tollkey.SealedSecret) error {
	_, err := t.q.ExecContext(ctx, qInsertSealed, string(s.Key), string(s.DataKey), s.Ciphertext)
	return err
}

// PutDataKey implements store.Tx.
func (t *tx) PutDataKey(ctx context.Context, k *tollkey.DataKey) (bool, error) {
	return t.any(ctx, qInsertDataKey, string(k.ID), string(k.Workspace), k.Master, k.Wrapped, k.CreatedAt.UnixMilli())
}

// RewrapDataKey implements store.Tx.
func (t *tx) RewrapDataKey(ctx context.Context, from string, k *tollkey.DataKey) (bool, error) {
	return t.any(ctx, qRewrapDataKey, string(k.ID), from, k.Master, k.Wrapped)
}

// DeleteDataKey implements store.Tx.
func (t *tx) DeleteDataKey(ctx context.Context, id tollkey.DataKeyID) (int64, error) {
	if _, err := t.q.ExecContext(ctx, qDeleteDataKey, string(id)); err != nil {
		return 0, err
	}
	result, err := t.q.ExecContext(ctx, qUnsealAll, string(id))
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// any runs a statement and reports whether it touched a row.
func (t *tx) any(ctx context.Context, text string, args ...any) (bool, error) {
	result, err := t.q.ExecContext(ctx, text, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

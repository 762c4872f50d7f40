package sqlstore

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

// apiSelect reads APIs. Every read of them goes through it.
const apiSelect = `select id, workspace_id, name, default_prefix, default_byte_length, delete_protection, ip_allow_list,
	recoverable_keys, key_format, key_count, created_at from apis where workspace_id = $1 and deleted_at is null and `

var (
	qAPI        = hotQuery(apiSelect + `id = $2`)
	qListAPIs   = hotQuery(apiSelect + `id >= $2 order by id limit $3`)
	qSearchAPIs = hotQuery(apiSelect + `id >= $2 and search like $4 escape '!' order by id limit $3`)
	qAPIsIn     = inList(2, apiSelect+`id in `, "", true)
	qInsertAPI  = query(`insert into apis (id, workspace_id, name, search, default_prefix, default_byte_length, delete_protection, ip_allow_list,
		recoverable_keys, key_format, key_count, created_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11)`)
	qUpdateAPI = query(`update apis set name = coalesce($3, name), search = coalesce($4, search), default_prefix = coalesce($5, default_prefix),
		default_byte_length = coalesce($6, default_byte_length), delete_protection = coalesce($7, delete_protection),
		ip_allow_list = coalesce($8, ip_allow_list), recoverable_keys = coalesce($9, recoverable_keys), key_format = coalesce($10, key_format)
		where id = $1 and workspace_id = $2 and deleted_at is null`)
	qDeleteAPI = query(`update apis set deleted_at = $3 where id = $1 and workspace_id = $2 and deleted_at is null`)
	qCountKeys = query(`update apis set key_count = key_count + cast($2 as bigint) where id = $1 and (cast($2 as bigint) < 0 or deleted_at is null)`)
)

var apiMissing = tollkey.NotFound(tollkey.ReasonAPINotFound, "There is no such API.")

// API implements store.Reader.
func (r reader) API(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.APIID) (*tollkey.API, error) {
	a, err := scanAPI(r.q.QueryRowContext(ctx, qAPI, string(ws), string(id)))
	return a, notFound(err, apiMissing)
}

// API implements store.Store.
func (db *DB) API(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.APIID) (*tollkey.API, error) {
	a, err := reader{db.main.reads}.API(ctx, ws, id)
	return a, db.main.dialect.classify(err)
}

func scanAPI(row interface{ Scan(...any) error }) (*tollkey.API, error) {
	var a tollkey.API
	var created int64
	var allow string
	err := row.Scan(&a.ID, &a.Workspace, &a.Name, &a.DefaultPrefix, &a.DefaultByteLength, &a.DeleteProtection, &allow,
		&a.RecoverableKeys, &a.KeyFormat, &a.KeyCount, &created)
	if allow != "" {
		a.IPAllowList = strings.Split(allow, "\n")
	}
	a.CreatedAt = time.UnixMilli(created)
	return &a, err
}

// ListAPIs implements store.Reader.
func (r reader) ListAPIs(ctx context.Context, ws tollkey.WorkspaceID, f store.APIFilter, page store.Page) (out []tollkey.API, err error) {
	scan := func(rows *sql.Rows) error {
		a, err := scanAPI(rows)
		if err == nil && (f.IDs == nil || strings.Contains(searchable(string(a.ID), a.Name), fold(f.Search))) {
			out = append(out, *a)
		}
		return err
	}
	if f.IDs == nil {
		text, args := searching(qListAPIs, qSearchAPIs, f.Search, string(ws), page.From, page.Limit)
		err = eachRow(ctx, r.q, scan, text, args...)
		return out, err
	}
	// These are as many as one root key names.
	wanted := slices.DeleteFunc(texts(f.IDs), func(id string) bool { return id < page.From })
	slices.Sort(wanted)
	if err := r.each(ctx, qAPIsIn, []any{string(ws)}, slices.Compact(wanted), scan); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b tollkey.API) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out[:min(len(out), page.Limit)], nil
}

// CreateAPI implements store.Tx.
func (t *tx) CreateAPI(ctx context.Context, a *tollkey.API) error {
	_, err := t.q.ExecContext(ctx, qInsertAPI, string(a.ID), string(a.Workspace), a.Name, searchable(string(a.ID), a.Name), a.DefaultPrefix, a.DefaultByteLength,
		a.DeleteProtection, strings.Join(a.IPAllowList, "\n"), a.RecoverableKeys, string(a.KeyFormat), a.CreatedAt.UnixMilli())
	return err
}

// UpdateAPI implements store.Tx.
func (t *tx) UpdateAPI(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.APIID, u store.APIUpdate) error {
	var search, allow *string
	if u.Name != nil {
		s := searchable(string(id), *u.Name)
		search = &s
	}
	if u.IPAllowList != nil {
		list := strings.Join(*u.IPAllowList, "\n")
		allow = &list
	}
	return t.one(ctx, apiMissing, qUpdateAPI, string(id), string(ws), u.Name, search, u.DefaultPrefix, u.DefaultByteLength, u.DeleteProtection,
		allow, u.RecoverableKeys, (*string)(u.KeyFormat))
}

// DeleteAPI implements store.Tx.
func (t *tx) DeleteAPI(ctx context.Context, ws tollkey.WorkspaceID, id tollkey.APIID) error {
	return t.one(ctx, apiMissing, qDeleteAPI, string(id), string(ws), t.now.UnixMilli())
}

func (t *tx) count(id tollkey.APIID, keys int64) {
	if t.counted == nil {
		t.counted = map[tollkey.APIID]int64{}
	}
	t.counted[id] += keys
}

// countKeys writes how many keys this transaction has added to APIs and taken from them. It runs late, since on PostgreSQL all who create
// keys of one API wait for its row from here to the commit, as they do for the feed's.
func (t *tx) countKeys(ctx context.Context) error {
	for _, id := range slices.Sorted(maps.Keys(t.counted)) {
		if t.counted[id] == 0 {
			continue
		}
		if err := t.one(ctx, apiMissing, qCountKeys, string(id), t.counted[id]); err != nil {
			return err
		}
	}
	return nil
}

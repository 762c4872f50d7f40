package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/tollkey/tollkey"
	"github.com/tollkey/tollkey/internal/store"
)

var (
	qKeyPermissions = inList(1, `select l.key_id, p.id, p.name, p.slug, p.description from key_permissions l
		join permissions p on p.id = l.permission_id where l.key_id in `, "", true)
	qKeyRoles = inList(1, `select l.key_id, r.id, r.name, r.description from key_roles l
		join roles r on r.id = l.role_id where l.key_id in `, "", true)
	qRateLimits = inList(1, `select owner_id, id, name, max, duration, auto_apply from ratelimits where owner_id in `, "", true)
)

// complete adds to keys what belongs to them many to one.
func (r reader) complete(ctx context.Context, keys []store.KeyRecord) error {
	at, owners := map[string]int{}, map[string][]int{}
	var ids, roleOwners []string
	for i := range keys {
		id := string(keys[i].ID)
		at[id] = i
		ids = append(ids, id)
		owners[id] = append(owners[id], i)
		if keys[i].Identity != nil {
			owners[string(keys[i].Identity.ID)] = append(owners[string(keys[i].Identity.ID)], i)
		}
	}
	err := r.each(ctx, qKeyPermissions, nil, ids, func(rows *sql.Rows) error {
		var key string
		var p tollkey.Permission
		err := rows.Scan(&key, &p.ID, &p.Name, &p.Slug, &p.Description)
		keys[at[key]].Permissions = append(keys[at[key]].Permissions, p)
		return err
	})
	if err != nil {
		return err
	}
	err = r.each(ctx, qKeyRoles, nil, ids, func(rows *sql.Rows) error {
		var key string
		var role tollkey.Role
		err := rows.Scan(&key, &role.ID, &role.Name, &role.Description)
		keys[at[key]].Roles = append(keys[at[key]].Roles, role)
		roleOwners = append(roleOwners, string(role.ID))
		return err
	})
	if err != nil {
		return err
	}
	held, err := r.permissionsOf(ctx, roleOwners)
	if err != nil {
		return err
	}
	for i := range keys {
		sortPermissions(keys[i].Permissions)
		slices.SortFunc(keys[i].Roles, func(a, b tollkey.Role) int { return strings.Compare(a.Name, b.Name) })
		for j := range keys[i].Roles {
			keys[i].Roles[j].Permissions = held[keys[i].Roles[j].ID]
		}
	}
	return r.completeLimits(ctx, keys, owners)
}

func (r reader) completeLimits(ctx context.Context, keys []store.KeyRecord, owners map[string][]int) error {
	ids := make([]string, 0, len(owners))
	for id := range owners {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	limits, err := r.rateLimitsOf(ctx, ids)
	for owner, list := range limits {
		for _, i := range owners[owner] {
			if string(keys[i].ID) == owner {
				keys[i].RateLimits = list
			} else {
				keys[i].Identity.RateLimits = list
			}
		}
	}
	return err
}

// rateLimitsOf returns the limits of each owner, ordered by name.
func (r reader) rateLimitsOf(ctx context.Context, owners []string) (map[string][]tollkey.RateLimit, error) {
	limits := map[string][]tollkey.RateLimit{}
	err := r.each(ctx, qRateLimits, nil, owners, func(rows *sql.Rows) error {
		var owner string
		var l tollkey.RateLimit
		var duration int64
		err := rows.Scan(&owner, &l.ID, &l.Name, &l.Limit, &duration, &l.AutoApply)
		l.Duration = time.Duration(duration) * time.Millisecond
		limits[owner] = append(limits[owner], l)
		return err
	})
	for _, list := range limits {
		sortRateLimits(list)
	}
	return limits, err
}

func sortRateLimits(list []tollkey.RateLimit) {
	slices.SortFunc(list, func(a, b tollkey.RateLimit) int { return strings.Compare(a.Name, b.Name) })
}

var (
	qPutRateLimit = query(`insert into ratelimits (id, workspace_id, owner_id, name, max, duration, auto_apply) values ($1, $2, $3, $4, $5, $6, $7)
		on conflict (owner_id, name) do update set max = excluded.max, duration = excluded.duration, auto_apply = excluded.auto_apply`)
	qDropRateLimit = query(`delete from ratelimits where owner_id = $1 and name = $2`)
)

func (t *tx) putRateLimits(ctx context.Context, ws tollkey.WorkspaceID, owner string, limits []tollkey.RateLimit) error {
	for _, l := range limits {
		_, err := t.q.ExecContext(ctx, qPutRateLimit, string(l.ID), string(ws), owner, l.Name, l.Limit, l.Duration.Milliseconds(), l.AutoApply)
		if err != nil {
			return err
		}
	}
	return nil
}

// replaceRateLimits makes the limits of owner exactly limits; one that keeps its name keeps its id.
func (t *tx) replaceRateLimits(ctx context.Context, ws tollkey.WorkspaceID, owner string, limits []tollkey.RateLimit) error {
	wanted := map[string]bool{}
	for _, l := range limits {
		wanted[l.Name] = true
	}
	have, err := t.rateLimitsOf(ctx, []string{owner})
	if err != nil {
		return err
	}
	for _, l := range have[owner] {
		if wanted[l.Name] {
			continue
		}
		if _, err := t.q.ExecContext(ctx, qDropRateLimit, owner, l.Name); err != nil {
			return err
		}
	}
	return t.putRateLimits(ctx, ws, owner, limits)
}

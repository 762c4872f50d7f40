-- +goose Up
-- Written in PostgreSQL's types; for SQLite the dialect translates them and makes the tables strict.
create table workspaces (
  id text primary key, name text not null, slug text not null unique, enabled boolean not null,
  requests_per_minute bigint not null, retention_days bigint not null, created_at bigint not null
);
create table apis (
  id text primary key, workspace_id text not null, name text not null, search text not null, default_prefix text not null,
  default_byte_length bigint not null, delete_protection boolean not null, ip_allow_list text not null,
  recoverable_keys boolean not null, key_format text not null, key_count bigint not null, created_at bigint not null, deleted_at bigint
);
create index apis_by_workspace on apis (workspace_id, id) where deleted_at is null;
create table keys (
  id text primary key, workspace_id text not null, api_id text not null, digest bytea not null unique,
  start text not null, name text not null, meta text, identity_id text, enabled boolean not null, expires_at bigint,
  refill_interval text, refill_amount bigint check (refill_amount between 1 and 1000000000000000), refill_day bigint,
  created_at bigint not null, updated_at bigint, last_used_at bigint, deleted_at bigint
);
create index keys_by_api on keys (api_id, id) where deleted_at is null;
-- refill_day is 0 for daily refills
create index keys_by_refill on keys (refill_day, id) where refill_day is not null and deleted_at is null;
create index keys_by_identity on keys (identity_id, id) where deleted_at is null and identity_id is not null;
create table data_keys (
  id text primary key, workspace_id text not null unique, master_id text not null, wrapped bytea not null, created_at bigint not null
);
create table sealed_secrets (key_id text primary key, data_key_id text not null, ciphertext bytea not null);
create index sealed_secrets_by_data_key on sealed_secrets (data_key_id);
create table migrations (
  id text primary key, workspace_id text not null, name text not null, algorithm text not null, separator text not null, part bigint not null,
  created_at bigint not null
);
create index migrations_by_workspace on migrations (workspace_id, id);
-- Keys that were imported by a hash which is no digest. Until its first use such a key has in keys.digest a stand-in, to which no presented secret leads: of
-- the hash, or of the part of the key by which a slow hash is looked up. So the filter, the cache and the one index of digests serve these keys as all others.
-- A row outlives the first use, without its hash, so that what was imported once is still known; source is the stand-in of the hash in any case.
create table foreign_hashes (
  digest bytea primary key, source bytea not null unique, key_id text not null, migration_id text not null, hash text
);
create index foreign_hashes_by_key on foreign_hashes (key_id);
create table root_keys (
  id text primary key, workspace_id text not null, digest bytea not null unique, start text not null, name text not null,
  permissions text not null, enabled boolean not null, expires_at bigint, created_at bigint not null, last_used_at bigint
);
create index root_keys_by_workspace on root_keys (workspace_id, id);
create table identities (
  id text primary key, workspace_id text not null, external_id text not null, meta text, search text not null, created_at bigint not null, deleted_at bigint
);
create index identities_by_workspace on identities (workspace_id, id) where deleted_at is null;
create unique index identities_by_external_id on identities (workspace_id, external_id) where deleted_at is null;
create table ratelimits (
  id text primary key, workspace_id text not null, owner_id text not null, name text not null,
  max bigint not null check (max >= 1), duration bigint not null check (duration >= 1), auto_apply boolean not null,
  unique (owner_id, name)
);
create table ratelimit_namespaces (
  id text primary key, workspace_id text not null, name text not null, created_at bigint not null, deleted_at bigint, unique (workspace_id, name)
);
create index ratelimit_namespaces_by_workspace on ratelimit_namespaces (workspace_id, id) where deleted_at is null;
create table ratelimit_overrides (
  id text primary key, namespace_id text not null, identifier text not null, max bigint not null check (max >= 0),
  duration bigint not null check (duration >= 1), unique (namespace_id, identifier)
);
create index ratelimit_overrides_by_namespace on ratelimit_overrides (namespace_id, id);
create table permissions (
  id text primary key, workspace_id text not null, name text not null, slug text not null, folded text not null,
  description text not null, search text not null, unique (workspace_id, folded)
);
create index permissions_by_workspace on permissions (workspace_id, id);
create table roles (
  id text primary key, workspace_id text not null, name text not null, folded text not null, description text not null,
  search text not null, unique (workspace_id, folded)
);
create index roles_by_workspace on roles (workspace_id, id);
create table role_permissions (role_id text not null, permission_id text not null, primary key (role_id, permission_id));
create index role_permissions_by_permission on role_permissions (permission_id);
create table key_permissions (key_id text not null, permission_id text not null, primary key (key_id, permission_id));
create index key_permissions_by_permission on key_permissions (permission_id);
create table key_roles (key_id text not null, role_id text not null, primary key (key_id, role_id));
create index key_roles_by_role on key_roles (role_id);
create table removed (id text primary key);
create table balances (
  id text primary key, remaining bigint not null check (remaining between 0 and 1000000000000000)
);
create table portals (
  id text primary key, workspace_id text not null, slug text not null, name text not null, api_ids text not null, primary_color text not null,
  logo_url text not null, return_url text not null, enabled boolean not null, sessions_from bigint not null, created_at bigint not null, deleted_at bigint
);
create unique index portals_by_slug on portals (workspace_id, slug) where deleted_at is null;
create index portals_by_workspace on portals (workspace_id, id) where deleted_at is null;
create table portal_sessions (
  id text primary key, workspace_id text not null, portal_id text not null, external_id text not null, api_ids text not null, scopes text not null,
  preview boolean not null, return_url text not null, code bytea not null unique, token bytea unique, created_at bigint not null,
  expires_at bigint not null, revoked_at bigint
);
create index portal_sessions_by_workspace on portal_sessions (workspace_id, id);
create index portal_sessions_by_customer on portal_sessions (workspace_id, external_id, id);
create index portal_sessions_by_expiry on portal_sessions (expires_at);
create table refills (id bigint primary key, done bigint not null, day bigint not null, slot bigint not null, after_key text not null);
create table feed (id bigint primary key, number bigint not null, audited bigint not null, epoch text not null);
create table changes (number bigint primary key, at bigint not null, kind text not null, body text not null);
-- One chain for the whole server: seq is counted in feed.audited.
create table audit_entries (
  seq bigint primary key, id text not null unique, workspace_id text not null, at bigint not null, event text not null, description text not null,
  actor_type text not null, actor_id text not null, actor_name text not null, remote_ip text not null, user_agent text not null,
  targets text not null, correlation text not null, hash bytea not null
);
create index audit_entries_by_workspace on audit_entries (workspace_id, at, id);
create index audit_entries_by_actor on audit_entries (workspace_id, actor_id, at, id);
create index audit_entries_by_event on audit_entries (workspace_id, event, at, id);
create table audit_targets (
  workspace_id text not null, target_id text not null, at bigint not null, entry_id text not null, primary key (workspace_id, target_id, at, entry_id)
);
create table nodes (id text primary key, applied bigint not null, epoch text not null, seen_at bigint not null);
create table leases (name text primary key, holder text not null, expires_at bigint not null);
create table batches (id bigint primary key, data bytea not null);
create table folded (boot bigint primary key, seq bigint not null);
create table counters (
  bucket bytea not null, duration bigint not null, win bigint not null, used bigint not null, expires_at bigint not null,
  primary key (bucket, duration, win)
);
create index counters_by_expiry on counters (expires_at);

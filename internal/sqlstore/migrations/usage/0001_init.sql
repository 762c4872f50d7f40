-- +goose Up
create table usage_hours (
  workspace_id text not null, start bigint not null, api_id text not null, key_id text not null, identity_id text not null,
  outcome bigint not null, count bigint not null, credits bigint not null,
  primary key (workspace_id, start, key_id, api_id, identity_id, outcome)
);
create index usage_hours_by_key on usage_hours (workspace_id, key_id, start);
create index usage_hours_by_identity on usage_hours (workspace_id, identity_id, start) where identity_id <> '';
create table usage_minutes (
  workspace_id text not null, start bigint not null, api_id text not null, key_id text not null, identity_id text not null,
  outcome bigint not null, count bigint not null, credits bigint not null,
  primary key (workspace_id, start, key_id, api_id, identity_id, outcome)
);
create index usage_minutes_by_key on usage_minutes (workspace_id, key_id, start);
create index usage_minutes_by_identity on usage_minutes (workspace_id, identity_id, start) where identity_id <> '';
create index usage_minutes_by_start on usage_minutes (start);
create table usage_marks (boot bigint primary key, seq bigint not null);

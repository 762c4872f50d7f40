-- +goose Up
create table usage_hours (
  workspace_id text not null, hour bigint not null, api_id text not null, key_id text not null, identity_id text not null,
  outcome bigint not null, count bigint not null, credits bigint not null,
  primary key (workspace_id, hour, key_id, api_id, identity_id, outcome)
);
create index usage_hours_by_key on usage_hours (workspace_id, key_id, hour);
create table usage_marks (boot bigint primary key, seq bigint not null);

-- Who may do what in overnight's schema, and no more. For a superuser, or a role that may create roles.
--
-- These are groups without a login: `create role app login password '...' in role overnight_client` is yours to say.
-- Everything is granted anew each time, so run it again after an upgrade, and on a database that was restored.

-- What exists on the server already stays: roles belong to all of its databases.
do $$
declare name text;
begin
  foreach name in array array['overnight_migrations', 'overnight_worker', 'overnight_client', 'overnight_reader'] loop
    if not exists (select from pg_roles where rolname = name) then
      execute format('create role %I nologin', name);
    end if;
  end loop;
  -- Who gives a schema to a role must be able to become that role. A superuser is able to.
  if not (select rolsuper from pg_roles where rolname = current_user) then
    grant overnight_migrations to current_user;
  end if;
end $$;

-- `overnight db upgrade` makes what it makes as the schema's owner, whichever member of it runs the command.
create schema if not exists overnight;
alter schema overnight owner to overnight_migrations;
do $$
declare name text;
begin
  for name in
    select relname from pg_class where relnamespace = 'overnight'::regnamespace and relkind in ('r', 'p', 'v', 'm')
  loop
    execute format('alter table overnight.%I owner to overnight_migrations', name);
  end loop;
end $$;

revoke all on schema overnight from public;
revoke all on all tables in schema overnight from public, overnight_worker, overnight_client, overnight_reader;

grant usage on schema overnight to overnight_worker, overnight_client, overnight_reader;
grant select on all tables in schema overnight to overnight_worker, overnight_client, overnight_reader;
alter default privileges for role overnight_migrations in schema overnight
  grant select on tables to overnight_worker, overnight_client, overnight_reader;

-- The worker, and whoever prunes and erases.
grant insert, update, delete on all tables in schema overnight to overnight_worker;
alter default privileges for role overnight_migrations in schema overnight
  grant insert, update, delete on tables to overnight_worker;

-- A client creates batches, fills, seals, and asks for a cancel. All else in a batch's row is the worker's to say. Before
-- the first upgrade there is nothing to grant it on.
do $$
begin
  if to_regclass('overnight.batches') is not null then
    grant insert on overnight.batches, overnight.entries to overnight_client;
    grant update (entry_count, request_bytes, input_count, sealed_at, cancel_requested_at)
      on overnight.batches to overnight_client;
    grant insert on overnight.campaigns to overnight_client;
    grant update (entry_count, has_own_ids, status, sealed_at, cancel_requested_at)
      on overnight.campaigns to overnight_client;
    revoke insert, update, delete on overnight.schema_version from overnight_worker;
  end if;
end $$;

-- The schema of version 0001, as released: never edited again. Later changes are later scripts.

comment on schema overnight is 'serves code from 0001';

create table overnight.campaigns (
    id uuid not null,
    provider text not null,
    model text not null,
    endpoint text not null,
    status text default 'pending' not null,
    handler text,
    handler_task_queue text,
    handler_activity text,
    metadata jsonb default '{}' not null,
    poll_waits interval[] not null,
    batch_max_age interval not null,
    max_age interval,
    on_ambiguous_submit text default 'wait' not null,
    rounds smallint not null,
    round smallint default 1 not null,
    retry_invalid boolean not null,
    max_concurrent_batches integer not null,
    max_batch_entries integer,
    max_cost numeric,
    parent_batch_id uuid,
    filling_token uuid,
    entry_count bigint default 0 not null,
    has_own_ids boolean default false not null,
    workflow_id text,
    created_at timestamptz default now() not null,
    sealed_at timestamptz,
    cancel_requested_at timestamptz,
    ended_at timestamptz,
    handler_dispatched_at timestamptz,
    skipped_round text,
    failure_code text,
    failure_reason text,
    last_error text,
    trouble_code text,
    trouble_since timestamptz,
    constraint campaigns_pkey primary key (id),
    constraint campaigns_status_check check (status in ('pending', 'submitted', 'in_progress', 'ended', 'canceled', 'expired', 'failed')),
    constraint campaigns_on_ambiguous_submit_check check (on_ambiguous_submit in ('wait', 'fail', 'resubmit')),
    constraint campaigns_terminal_has_end_check check ((status in ('ended', 'canceled', 'expired', 'failed')) = (ended_at is not null))
);
comment on column overnight.campaigns.handler_activity is 'a Temporal activity, run instead of a handler class';
comment on column overnight.campaigns.batch_max_age is 'of each of its batches';
comment on column overnight.campaigns.max_age is 'of the whole; null waits for as long as it takes';
comment on column overnight.campaigns.rounds is 'how often an entry may be asked, the first time included';
comment on column overnight.campaigns.retry_invalid is 'ask again, too, where the answer did not fit';
comment on column overnight.campaigns.max_batch_entries is 'null where a batch may be as large as the provider takes it';
comment on column overnight.campaigns.max_cost is 'US dollars, for all batches of all rounds together';
comment on column overnight.campaigns.parent_batch_id is 'the batch whose handler created it';
comment on column overnight.campaigns.filling_token is 'who may fill a campaign that is created by its key';
comment on column overnight.campaigns.entry_count is 'of the first round';
comment on column overnight.campaigns.skipped_round is 'why no further round was asked, where one was due';
comment on column overnight.campaigns.has_own_ids is 'not all custom ids are numbered';
comment on column overnight.campaigns.workflow_id is 'the one workflow that may run this campaign';
comment on column overnight.campaigns.last_error is 'a step''s newest failure, in full: it may quote entries, so it stays here';
comment on column overnight.campaigns.trouble_code is 'what keeps a step from succeeding, while something does';
create index campaigns_created_at_idx on overnight.campaigns (created_at desc);

create table overnight.batches (
    id uuid not null,
    provider text not null,
    model text not null,
    endpoint text not null,
    status text default 'pending' not null,
    handler text,
    handler_task_queue text,
    handler_activity text,
    parent_batch_id uuid,
    filling_token uuid,
    campaign_id uuid,
    number integer,
    round smallint,
    max_cost numeric,
    metadata jsonb default '{}' not null,
    poll_waits interval[] not null,
    max_age interval not null,
    on_ambiguous_submit text default 'wait' not null,
    entry_count integer default 0 not null,
    request_bytes bigint default 0 not null,
    input_count integer default 0 not null,
    workflow_id text,
    created_at timestamptz default now() not null,
    sealed_at timestamptz,
    submitted_at timestamptz,
    cancel_requested_at timestamptz,
    ended_at timestamptz,
    ingested_at timestamptz,
    hydrated_at timestamptz,
    handler_dispatched_at timestamptz,
    pruned_at timestamptz,
    results_lost_at timestamptz,
    results_awaited_since timestamptz,
    provider_batch_id text,
    provider_details jsonb default '{}' not null,
    progress_total integer default 0 not null,
    progress_done integer default 0 not null,
    progress_failed integer default 0 not null,
    failure_code text,
    failure_reason text,
    last_error text,
    trouble_code text,
    trouble_since timestamptz,
    ingest_source text default '' not null,
    ingest_offset bigint default 0 not null,
    hydrate_position integer default 0 not null,
    outcomes jsonb default '{}' not null,
    retried jsonb default '{}' not null,
    input_tokens bigint default 0 not null,
    cache_read_tokens bigint default 0 not null,
    cache_write_tokens bigint default 0 not null,
    cache_write_1h_tokens bigint default 0 not null,
    output_tokens bigint default 0 not null,
    reasoning_tokens bigint default 0 not null,
    cost numeric,
    list_cost numeric,
    price_version text,
    constraint batches_pkey primary key (id),
    constraint batches_status_check check (status in ('pending', 'submitted', 'in_progress', 'ended', 'canceled', 'expired', 'failed')),
    constraint batches_on_ambiguous_submit_check check (on_ambiguous_submit in ('wait', 'fail', 'resubmit')),
    constraint batches_terminal_has_end_check check ((status in ('ended', 'canceled', 'expired', 'failed')) = (ended_at is not null)),
    constraint batches_provider_provider_batch_id_key unique (provider, provider_batch_id),
    constraint batches_parent_batch_id_fkey foreign key(parent_batch_id) references overnight.batches (id) on delete set null,
    constraint batches_campaign_id_fkey foreign key(campaign_id) references overnight.campaigns (id) on delete cascade
);
comment on column overnight.batches.input_count is 'more than entries, for embeddings';
comment on column overnight.batches.handler_activity is 'a Temporal activity, run instead of a handler class';
comment on column overnight.batches.filling_token is 'who may fill a batch that is created by its key';
comment on column overnight.batches.max_cost is 'US dollars; a batch whose estimate is above is not submitted';
comment on column overnight.batches.number is '1, 2, ... within its campaign';
comment on column overnight.batches.round is 'of its campaign: which time its entries are asked';
comment on column overnight.batches.workflow_id is 'the one workflow that may run this batch';
comment on column overnight.batches.results_lost_at is 'when results were given up that the provider had and nobody can read';
comment on column overnight.batches.results_awaited_since is 'when the provider was first seen to give fewer result lines than it counts';
comment on column overnight.batches.last_error is 'a step''s newest failure, in full: it may quote entries, so it stays here';
comment on column overnight.batches.trouble_code is 'what keeps a step from succeeding, while something does';
comment on column overnight.batches.outcomes is 'entries per outcome';
comment on column overnight.batches.retried is 'those among them asked again later';
comment on column overnight.batches.cost is 'US dollars at the batch rate; null where no price is known';
comment on column overnight.batches.list_cost is 'US dollars that the same tokens cost without batching';
comment on column overnight.batches.price_version is 'which price table the costs come from';
alter table overnight.campaigns add constraint campaigns_parent_batch_id_fkey
    foreign key(parent_batch_id) references overnight.batches (id) on delete set null;
create index campaigns_parent_batch_id_idx on overnight.campaigns (parent_batch_id) where parent_batch_id is not null;
create index batches_created_at_idx on overnight.batches (created_at desc);
create index batches_parent_batch_id_idx on overnight.batches (parent_batch_id) where parent_batch_id is not null;
create index batches_unfinished_idx on overnight.batches (created_at) where handler_dispatched_at is null and sealed_at is not null;
create index batches_results_lost_idx on overnight.batches (created_at) where results_lost_at is not null;
create unique index batches_campaign_id_number_key on overnight.batches (campaign_id, number) where campaign_id is not null;

create table overnight.attempts (
    batch_id uuid not null,
    position integer not null,
    earlier_batch_id uuid not null,
    earlier_position integer not null,
    constraint attempts_pkey primary key (batch_id, position),
    constraint attempts_earlier_batch_id_earlier_position_key unique (earlier_batch_id, earlier_position),
    constraint attempts_batch_id_fkey foreign key(batch_id) references overnight.batches (id) on delete cascade,
    constraint attempts_earlier_batch_id_fkey foreign key(earlier_batch_id) references overnight.batches (id) on delete cascade
);
comment on column overnight.attempts.position is 'of the entry that asks again';
comment on column overnight.attempts.earlier_position is 'of the entry that did not succeed';

create table overnight.entries (
    batch_id uuid not null,
    position integer not null,
    custom_id text not null,
    task text,
    fields json,
    request text not null,
    constraint entries_pkey primary key (batch_id, position),
    constraint entries_batch_id_custom_id_key unique (batch_id, custom_id) include (position),
    constraint entries_batch_id_fkey foreign key(batch_id) references overnight.batches (id) on delete cascade
);
comment on column overnight.entries.position is '1, 2, ... in the order of adding';
comment on column overnight.entries.task is 'registered name of the Task; null for a raw request';
comment on column overnight.entries.fields is 'the Task''s fields, behind `$settings` of its own; json, for jsonb refuses \u0000';
comment on column overnight.entries.request is 'the provider''s body for this entry, as sent';

create table overnight.outputs (
    batch_id uuid not null,
    position integer not null,
    output json,
    tool_calls json,
    constraint outputs_pkey primary key (batch_id, position),
    constraint outputs_not_empty_check check (output is not null or tool_calls is not null)
);
comment on column overnight.outputs.position is 'of the entry';
comment on column overnight.outputs.output is 'what the Task made of the response; null for tool calls alone, and for invalid ones';
comment on column overnight.outputs.tool_calls is 'what the response asked to be called, with the results';

create table overnight.results (
    batch_id uuid not null,
    position integer not null,
    outcome text not null,
    error_code text,
    reason text,
    input_tokens bigint default 0 not null,
    cache_read_tokens bigint default 0 not null,
    cache_write_tokens bigint default 0 not null,
    cache_write_1h_tokens bigint default 0 not null,
    output_tokens bigint default 0 not null,
    reasoning_tokens bigint default 0 not null,
    cost numeric,
    list_cost numeric,
    line text,
    constraint results_pkey primary key (batch_id, position),
    constraint results_outcome_check check (outcome in ('succeeded', 'errored', 'canceled', 'expired', 'missing', 'invalid'))
);
comment on column overnight.results.position is 'of the entry';
comment on column overnight.results.line is 'the provider''s line as received; null where there was none';

create index results_failures_idx on overnight.results (batch_id, outcome, position) where outcome <> 'succeeded';

create table overnight.stray_results (
    batch_id uuid not null,
    source text not null,
    ends_at bigint not null,
    number integer not null,
    kind text not null,
    custom_id text,
    line bytea not null,
    received_at timestamptz default now() not null,
    constraint stray_results_pkey primary key (batch_id, source, ends_at, number),
    constraint stray_results_kind_check check (kind in ('malformed', 'unknown', 'duplicate')),
    constraint stray_results_batch_id_fkey foreign key(batch_id) references overnight.batches (id) on delete cascade
);
comment on column overnight.stray_results.source is 'which of the provider''s result files';
comment on column overnight.stray_results.ends_at is 'byte position behind the block that held the line';
comment on column overnight.stray_results.number is 'of the line within that block';
comment on column overnight.stray_results.line is 'bytes, for it may be anything';

create table overnight.submissions (
    batch_id uuid not null,
    number smallint not null,
    token varchar(8) not null,
    file_id text,
    marker text,
    created_at timestamptz default now() not null,
    started_at timestamptz,
    doubted_at timestamptz,
    accepted_at timestamptz,
    abandoned_at timestamptz,
    resolved_at timestamptz,
    provider_batch_id text,
    constraint submissions_pkey primary key (batch_id, number),
    constraint submissions_batch_id_fkey foreign key(batch_id) references overnight.batches (id) on delete cascade
);
comment on column overnight.submissions.token is 'marks what is ours at the provider';
comment on column overnight.submissions.file_id is 'the provider''s id of the uploaded input';
comment on column overnight.submissions.marker is 'the newest batch at the provider before the first create';
create unique index submissions_open_key on overnight.submissions (batch_id) where abandoned_at is null;
create index submissions_in_doubt_idx on overnight.submissions (batch_id) where abandoned_at is not null and started_at is not null and resolved_at is null;

-- In place of foreign keys, which would look the batch up again for each of a hundred thousand rows (docs/decisions/0021).
create function overnight.delete_rows_of_batch() returns trigger language plpgsql as $$
begin
    delete from overnight.results where batch_id = old.id;
    delete from overnight.outputs where batch_id = old.id;
    return null;
end
$$;
create trigger batches_delete_rows after delete on overnight.batches
    for each row execute function overnight.delete_rows_of_batch();

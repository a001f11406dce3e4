#!/bin/sh
# A login for each of the roles of `overnight db roles`, with the password that is in its URL. Running it again changes
# nothing but passwords: that is how they are rotated.
#
# Needs PGHOST and its like for a superuser, whose password is in the file PASSWORD_FILE, and the URLs in the folder SECRETS.
set -eu

PGPASSWORD=$(cat "$PASSWORD_FILE")
export PGPASSWORD

for ROLE in migrations worker client reader; do
  url=$(cat "$SECRETS/$ROLE-database-url")
  credentials=${url#*://}
  credentials=${credentials%%@*}
  LOGIN=${credentials%%:*} PASSWORD=${credentials#*:}
  export ROLE LOGIN PASSWORD # and not as arguments, which others can see
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 <<'SQL'
\getenv role ROLE
\getenv login LOGIN
\getenv password PASSWORD
set log_statement = 'none';
set log_min_duration_statement = -1;
set log_min_error_statement = 'panic';
set client_min_messages = 'error';
select format('create role %I login', :'login') where not exists (select from pg_roles where rolname = :'login') \gexec
alter role :"login" with login password :'password';
select format('grant %I to %I', 'overnight_' || :'role', :'login') \gexec
SQL
done

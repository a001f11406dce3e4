#!/bin/sh
# Brings Temporal's two databases to the schema of this image's server. Running it again changes nothing.
# SQL_HOST, SQL_USER and SQL_PASSWORD are read by temporal-sql-tool itself.
set -eu

for pair in temporal:temporal temporal_visibility:visibility; do
  database=${pair%%:*} schema=${pair##*:}
  sql() { temporal-sql-tool --plugin postgres12 --port 5432 --database "$database" "$@"; }
  sql create-database
  sql setup-schema --version 0.0
  sql update-schema --schema-dir "/etc/temporal/schema/postgresql/v12/$schema/versioned"
done

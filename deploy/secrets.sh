#!/bin/sh
# Makes the secrets that compose.yaml mounts, a file for each, where there is none yet. What is there is left alone.
#
#     deploy/secrets.sh [FOLDER]
#
# The folder is its owner's alone, the files in it can be read: a container sees one file and not the folder, its user has
# no rights on this machine, and Compose cannot give a file to that user.
set -eu

folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"

make() {
  if [ ! -e "$folder/$1" ]; then
    printf '%s' "$2" >"$folder/.new"
    chmod 644 "$folder/.new"
    mv "$folder/.new" "$folder/$1"
    echo "$folder/$1"
  fi
}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

make postgres-password "$(random)"
make temporal-postgres-password "$(random)"
make grafana-admin-password "$(random)"
make ui-token "$(random)"

# A login for each kind of process, as deploy/postgres/logins.sh makes them.
make admin-database-url "postgresql://postgres:$(cat "$folder/postgres-password")@postgres:5432/overnight"
for role in migrations worker reader; do
  make "$role-database-url" "postgresql://overnight_${role}_login:$(random)@postgres:5432/overnight"
done
# For programs of yours on this machine.
make client-database-url "postgresql://overnight_client_login:$(random)@127.0.0.1:${POSTGRES_PORT:-5432}/overnight"

# Yours to fill in; an empty one is none.
make openai-api-key ''
make anthropic-api-key ''

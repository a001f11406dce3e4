#!/bin/sh
# Runs a command that takes a secret from its environment alone: secret.sh VARIABLE FILE COMMAND...
set -eu

variable=$1
value=$(cat "$2")
shift 2
export "$variable=$value"
exec "$@"

#!/bin/sh
# Creates the namespace when there is none. The address and its name are in TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE.
# A batch lives up to 26 hours and its workflow is worth looking at for some days more.
set -eu

tries=60
until temporal operator cluster health >/dev/null 2>&1; do
  tries=$((tries - 1))
  if [ "$tries" -le 0 ]; then
    echo "Temporal does not answer at $TEMPORAL_ADDRESS" >&2
    exit 1
  fi
  sleep 1
done

temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
  temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention 7d

#!/bin/sh
# What the job does: calls the service with the token that `mayfly exec` keeps fresh in a file. There is no evidence
# in this environment, so nothing here can mint.
set -eu

# The token is bound to this job's key, so each request carries a proof for its own method and URL. It is never an
# argument, where every process of the machine could read it.
proof=$(mayfly proof POST "$API_URL" <"$MAYFLY_TOKEN_FILE")

printf 'Authorization: DPoP %s\nDPoP: %s\n' "$(cat "$MAYFLY_TOKEN_FILE")" "$proof" |
    curl --silent --show-error --fail-with-body --max-time 30 --request POST --header @- "$API_URL"
echo

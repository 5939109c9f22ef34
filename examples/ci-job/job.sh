#!/bin/sh
# One CI job with a lease. The same script runs in GitHub Actions and GitLab; the evidence is found by itself in both.
#
#   PROFILE  what to get          INTENT  what for, verb:object
#   API_URL  whom to call         REASON  words for people, kept in the audit record
#
# `mayfly exec` opens the job's task, mints, runs the command with the token in a file, and ends all of it with the
# command, whatever its end is. Its exit code is this job's.
set -eu
: "${PROFILE:?}" "${INTENT:?}" "${API_URL:?}"
exec mayfly exec --profile "$PROFILE" --intent "$INTENT" --reason "${REASON:-a CI job}" -- \
    sh "$(dirname "$0")/deploy.sh"

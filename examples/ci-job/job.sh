#!/bin/sh
# One CI job with a lease: opens its task, mints a token for it, calls the service, completes the task. The same
# script runs in GitHub Actions and GitLab; the evidence is found by itself in both.
#
#   PROFILE  what to get          INTENT  what for, verb:object
#   API_URL  whom to call         REASON  words for people, kept in the audit record
set -eu
: "${PROFILE:?}" "${INTENT:?}" "${API_URL:?}"

mayfly task start --intent "$INTENT" --reason "${REASON:-a CI job}"

# Whatever happens below, the task ends with the job, and all that was minted for it ends with the task.
complete() {
    status=$?
    trap - EXIT
    mayfly task complete || status=$((status == 0 ? 1 : status))
    exit "$status"
}
trap complete EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The token stays in this shell: it is never an argument, where every process of the machine could read it.
# In GitHub Actions the runner is told to mask it, too.
token=$(mayfly mint token --profile "$PROFILE" --intent "$INTENT" ${GITHUB_ACTIONS:+--mask})

# It is bound to this job's key, so each request carries a proof for its own method and URL.
proof=$(printf '%s' "$token" | mayfly proof POST "$API_URL")

printf 'Authorization: DPoP %s\nDPoP: %s\n' "$token" "$proof" |
    curl --silent --show-error --fail-with-body --max-time 30 --request POST --header @- "$API_URL"
echo

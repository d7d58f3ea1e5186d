#!/usr/bin/env bash
# Prints every line of SKIPS once, and how many there are. With ALLOWED, prints nothing, and fails if a test was skipped that
# ALLOWED does not name, or if ALLOWED names no test. Usage: skips.sh SKIPS [ALLOWED]
set -euo pipefail
root=$(dirname "$0")/..
[ -f "$1" ] || { echo "there is no $1: \`make test\` writes it" >&2; exit 1; }
mapfile -t lines < <(LC_ALL=C sort -u "$1")
if [ $# -lt 2 ]; then
    [ ${#lines[@]} -eq 0 ] || printf '%s\n' "${lines[@]}"
    echo "${#lines[@]} skipped"
    exit
fi

declare -A allowed
status=0
while IFS='#' read -r name reason; do
    name=${name%% *}
    [ -n "$name" ] || continue
    grep -rqF "fn ${name##*::}(" "$root/src" "$root/tests" || { echo "$2 names $name, which is no test" >&2; status=1; }
    # Such a test may be skipped only where the variable is not set.
    [[ -n ${SCGPT_TEST_DATA-} && $reason == *SCGPT_TEST_DATA* ]] || allowed[$name]=yes
done <"$2"
for line in "${lines[@]}"; do
    read -r _ name why <<<"$line"
    [ -n "${allowed[$name]-}" ] || { echo "$name may not be skipped here $why; see $2" >&2; status=1; }
done
exit $status

#!/usr/bin/env bash
# The Galaxy tools in a real Galaxy, made from PyPI packages: lint, the tests of all tools, the tests of the workflow,
# and checks.py.
# Usage: run.sh [NAME...], such as `run.sh annotate suite`, of tools and workflows; without names everything. Programs are taken from BIN (target/release).
set -euo pipefail
cd "$(dirname "$0")/../../.."
root=$PWD
here=$root/tests/engines/galaxy
deps=$root/.deps/galaxy
bin=$(realpath "${BIN:-${CARGO_TARGET_DIR:-target}/release}")
port=${PORT:-8899}
url=http://127.0.0.1:$port
admin_key=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
work=${WORK:-$(mktemp -d)}
image=quay.io/scgpt-tools/scgpt-tools:$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-cpu

# A Python environment, rebuilt when its list of packages changes.
environment() {
    local name=$1 list=$here/$1.txt
    cmp -s "$list" "$deps/$name/.made-from" && return
    python3 -m venv "$deps/$name"
    "$deps/$name/bin/pip" install --quiet --disable-pip-version-check -r "$list"
    cp "$list" "$deps/$name/.made-from"
}

# The server with our tools and the models of the test data; all files are in $work.
configure() {
    mkdir -p "$work/config"
    {
        echo '<toolbox><section id="get" name="Get data"><tool file="data_source/upload.xml"/></section><section id="scgpt" name="scGPT">'
        for tool in $(chosen); do echo "<tool file=\"$root/tools/$tool/$tool.xml\"/>"; done
        echo '</section></toolbox>'
    } > "$work/config/tool_conf.xml"
    for file in galaxy.yml job_conf.yml tpv.yml; do
        sed "s|@ROOT@|$root|g; s|@WORK@|$work|g; s|@ADMIN_KEY@|$admin_key|; s|@IMAGE@|$image|" "$here/$file" > "$work/config/$file"
    done
    # Models of the test data, in a table that a check empties.
    sed "s|\${__HERE__}|$root/tools/test-data|" "$root/tools/test-data/scgpt_models.loc" > "$work/config/scgpt_models.loc"
    sed "s|\${__HERE__}/test-data/|$work/config/|" "$root/tools/tool_data_table_conf.xml.test" > "$work/config/tool_data_table_conf.xml"
}

start() {
    # Jobs use `python` and our programs from PATH.
    (cd "$work" && PATH=$bin:$deps/server/bin:$PATH VIRTUAL_ENV=$deps/server exec galaxy-web -c "$work/config/galaxy.yml" -b "127.0.0.1:$port") > "$work/server.log" 2>&1 &
    server=$!
    trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true' EXIT
    for _ in $(seq 300); do
        curl -sf "$url/api/version" > /dev/null && return
        kill -0 $server || break
        sleep 1
    done
    echo "Galaxy did not start:" >&2
    tail -n 30 "$work/server.log" >&2
    return 1
}

# POST PATH JSON: the response of the server, as the administrator.
post() { curl -sf -H "x-api-key: $admin_key" -H 'content-type: application/json' "$url$1" -d "$2"; }
field() { python3 -c "import json, sys; response = json.load(sys.stdin); print(response['$1'] if isinstance(response, dict) else response)"; }

user_key() {
    local id
    id=$(post /api/users '{"username": "tester", "email": "tester@example.org", "password": "tester-of-tools"}' | field id)
    post "/api/users/$id/api_key" '{}' | field key
}

# Fails unless all tests of the file ran and passed.
run_tests() {
    local report
    report=$work/$(basename "$1").json
    rm -f "$report"
    "$deps/planemo/bin/planemo" test --engine external_galaxy --galaxy_url "$url" --galaxy_user_key "$key" --galaxy_admin_key "$admin_key" \
        --no_shed_install --test_data "$root/tools/test-data" --test_output "$work/report.html" --test_output_json "$report" "$1" > "$work/planemo.log" 2>&1 || true
    python3 "$here/summary.py" "$report" "$1"
}

# The named tools, or all.
chosen() {
    for tool in "$root"/tools/*/; do
        tool=$(basename "$tool")
        [ ! -f "$root/tools/$tool/$tool.xml" ] || ! is_wanted "$tool" "$@" || echo "$tool"
    done
}

# The named workflows, or all.
workflows() {
    for workflow in "$root"/tools/workflows/*.gxwf.yml; do
        ! is_wanted "$(basename "$workflow" .gxwf.yml)" "$@" || echo "$workflow"
    done
}

# Whether a name is listed, or the list is empty.
is_wanted() {
    [ $# -gt 1 ] || return 0
    local name=$1
    shift
    printf '%s\n' "$@" | grep -qxF "$name"
}

environment planemo
environment server
mapfile -t tools < <(chosen "$@")
configure
echo "== lint =="
for tool in "${tools[@]}"; do
    # bio.tools needs the network.
    "$deps/planemo/bin/planemo" lint --skip BioToolsValid "$root/tools/$tool/$tool.xml" > "$work/lint.log" 2>&1 || { cat "$work/lint.log"; exit 1; }
    echo "$tool: $(grep -c -E 'WARNING' "$work/lint.log" || true) warnings"
done
# The linter of the Tool Shed expects the last directories of the remote address. The version check needs the network.
mkdir -p "$work/main" && cp -r "$root/tools" "$work/main/"
"$deps/planemo/bin/planemo" shed_lint --skip version_bumped "$work/main/tools" > "$work/lint.log" 2>&1 || { cat "$work/lint.log"; exit 1; }
echo "== start =="
start
! grep -E 'Error (loading|reading) tool' "$work/server.log" || exit 1
curl -sf "$url/api/tools?in_panel=false" | python3 -c 'import json, sys; [print(t["id"], t["version"]) for t in json.load(sys.stdin) if t["id"].startswith("scgpt_")]'
key=$(user_key)
echo "== tests =="
failed=0
for tool in "${tools[@]}"; do run_tests "$root/tools/$tool/$tool.xml" || failed=1; done
for workflow in $(workflows "$@"); do run_tests "$workflow" || failed=1; done
[ $# -gt 0 ] || python3 "$here/checks.py" "$url" "$key" "$root/tools/test-data/cells.h5ad" "$work/config/scgpt_models.loc" "$image" || failed=1
exit $failed

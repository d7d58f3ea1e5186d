#!/usr/bin/env bash
# Builds the container images with buildah and tests them as workflow engines run them. Needs root, buildah, podman, runc and the two
# base images (BASE: debian:bookworm-slim, RUST: rust:1.95-bookworm; pulled, or built from Debian packages and imported under these
# names). Usage: run.sh [TARGET...]; default: tiny cpu cu130. A build from scratch takes about an hour and 40 GB.
# shellcheck disable=SC2016,SC2317
set -euo pipefail
cd "$(dirname "$0")/../../.."
root=$PWD
store=(--storage-driver vfs)
# Options that podman needs inside a container.
limits=(--runtime runc --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network host)
work=$(mktemp -d)
chmod 777 "$work"
trap 'rm -rf "$work"' EXIT
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
failed=0

image() { echo "quay.io/scgpt-tools/scgpt-tools:$version-$1"; }

build() {
    buildah bud "${store[@]}" --isolation chroot --layers --pull-never -f containers/Dockerfile --target "$1" \
        ${BASE:+--build-arg "BASE=$BASE"} ${RUST:+--build-arg "RUST=$RUST"} -t "$(image "$1")" . > "$work/build.log" 2>&1 \
        || { tail -n 30 "$work/build.log" >&2; return 1; }
}

# TARGET COMMAND...: run as a user without name or home, in an empty directory.
inside() {
    local target=$1
    shift
    podman "${store[@]}" run --rm "${limits[@]}" --user 12345:12345 --env HOME=/nonexistent --volume "$root/assets/test:/data:ro" \
        --volume "$work:/work" --workdir /work "$(image "$target")" "$@"
}

check() {
    local what=$1
    shift
    if "$@" > "$work/output" 2>&1; then echo "ok: $what"; else
        echo "FAILED: $what"
        sed 's/^/    /' "$work/output"
        failed=1
    fi
}

# CODE COMMAND...: must end with this exit code.
ends_with() {
    local code=0 expected=$1
    shift
    "$@" || code=$?
    [ "$code" = "$expected" ]
}

programs() {
    if [ "$1" = tiny ]; then echo scgpt-checkpoint scgpt-report scgpt-tokenize; else
        sed -n 's/^  "name": "\([^ "]*\).*/\1/p' tools/*/schema.json | sort -u | tr '\n' ' '
    fi
}

configuration() { podman "${store[@]}" inspect --format "$2" "$(image "$1")"; }
# Finds a file in the image; errors of find are ignored.
find_in() { inside "$1" bash -c "find / -xdev -name '$2' -print -quit 2> /dev/null || true"; }
holds() { find_in "$1" "$2" | grep .; }
lacks() { local found && found=$(find_in "$1" "$2") && echo "$found" && [ -z "$found" ]; }
is_set() { local found && found=$(configuration "$1" "$2") && echo "$found" && [ "$found" = "$3" ]; }

check_image() {
    local target=$1 library
    for program in $(programs "$target"); do check "$target: $program starts" inside "$target" "$program" --version; done
    check "$target: no entry point and no user" is_set "$target" '{{.Config.Entrypoint}}{{.Config.User}}' '[]'
    check "$target: has its version" is_set "$target" '{{index .Labels "org.opencontainers.image.version"}}' "$version"
    check "$target: has bash and ps" inside "$target" bash -c 'ps > /dev/null'
    check "$target: no driver" lacks "$target" 'libcuda.so*'
    check "$target: no weights" lacks "$target" '*.safetensors'
    check "$target: tokenizes" inside "$target" scgpt-tokenize --input /data/first.h5ad --output "corpus-$target"
    [ "$target" != tiny ] || return 0
    check "$target: fine-tunes" inside "$target" scgpt-finetune-annotation --input /data/reference.h5ad --labels cell_type --n-layers 1 --embedding-dim 16 \
        --n-heads 2 --ffn-dim 16 --epochs 2 --output "model-$target" --device auto
    check "$target: pre-trains" inside "$target" scgpt-pretrain --input "corpus-$target" --n-layers 1 --embedding-dim 16 --n-heads 2 --ffn-dim 16 \
        --epochs 1 --output "pretrained-$target"
    check "$target: generates" inside "$target" scgpt-generate --input /data/second.h5ad --checkpoint "pretrained-$target" \
        --rounds 2 --n-samples 2 --output "generated-$target.h5ad"
    check "$target: --device auto uses the CPU and records it" grep -q '"device": "CPU"' "$work/model-$target/run.json"
    check "$target: --device cuda without a GPU ends with 69" ends_with 69 inside "$target" scgpt-embed --input /data/first.h5ad \
        --checkpoint "model-$target" --output none.h5ad --device cuda
    [ "$target" = cu130 ] || return 0
    for library in libtorch_cuda.so 'libcublas.so.*' 'libcudnn.so.*' 'libnccl.so.*' 'libcudart.so.*'; do
        check "$target: has $library" holds "$target" "$library"
    done
    check "$target: all libraries but the driver are found" inside "$target" bash -c \
        'missing=$(ldd /usr/local/lib/scgpt-tools/libtorch_cuda.so | grep "not found" | grep -v libcuda.so.1); [ -z "$missing" ] || { echo "$missing"; exit 1; }'
}

# The annotation pipeline gives the same results in the image as with the programs of this machine.
pipeline() {
    local engine=$root/tests/engines/nextflow/nextflow directory=$work/pipeline
    mkdir -p "$directory/inside" "$directory/outside"
    cat > "$directory/podman.config" <<-CONFIG
		podman.engineOptions = '${store[*]}'
		podman.runOptions    = '${limits[*]} --user 12345:12345'
	CONFIG
    chmod -R 777 "$directory"
    (cd "$directory/inside" && umask 0 && NXF_HOME=$directory/home "$engine" run "$root" -profile test,podman -c "$directory/podman.config")
    (cd "$directory/outside" && PATH=$root/target/release:$PATH NXF_HOME=$directory/home "$engine" run "$root" -profile test)
    diff <(results "$directory/inside") <(results "$directory/outside")
}

results() { (cd "$1/results" && find . \( -name '*.h5ad' -o -name '*.tsv' -o -name '*.safetensors' \) -not -path './pipeline_info/*' -exec sha256sum {} + | sort); }

targets=("$@")
[ $# -gt 0 ] || targets=(tiny cpu cu130)
for target in "${targets[@]}"; do
    echo "== $target =="
    build "$target"
    check_image "$target"
    [ "$target" != cpu ] || check "cpu: the pipeline gives the same results inside and outside" pipeline
    podman "${store[@]}" image inspect --format '{{.Size}}' "$(image "$target")" | awk '{ printf "%s: %.0f MB\n", "'"$target"'", $1 / 1e6 }'
done
exit $failed

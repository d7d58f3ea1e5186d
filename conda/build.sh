#!/usr/bin/env bash
# Builds the package, for both recipes: libtorch comes from the host environment, HDF5 is compiled in.
set -euo pipefail
export LIBTORCH=${LIBTORCH:-$PREFIX}
export CMAKE=${CMAKE:-cmake}
cargo-bundle-licenses --format yaml --output THIRDPARTY.yml
cargo install --locked --no-track --bins --root "$PREFIX" --path .
# Programs that need no tensors, without libtorch.
cargo install --locked --no-track --force --no-default-features --bins --root "$PREFIX" --path .

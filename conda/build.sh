#!/usr/bin/env bash
# Builds the package for both recipes, with libtorch from the host environment and HDF5 linked statically.
set -euo pipefail
export LIBTORCH=${LIBTORCH:-$PREFIX}
export CMAKE=${CMAKE:-cmake}
cargo-bundle-licenses --format yaml --output THIRDPARTY.yml
cargo install --locked --no-track --bins --root "$PREFIX" --path .
# Programs that do not need libtorch.
cargo install --locked --no-track --force --no-default-features --bins --root "$PREFIX" --path .

"""Builds and tests the conda package with rattler-build, without conda-forge: the recipe without its requirements, with Rust, compiler,
CMake and libtorch of this machine instead.

Usage: run.py OUTPUT, after `make`; with Python of `.deps/python`, and cargo-bundle-licenses and patchelf on PATH.
"""
import os
import pathlib
import re
import sys
import tempfile

from rattler_build import EnvironmentIsolation, Package, Stage0Recipe

ROOT = pathlib.Path(__file__).resolve().parents[3]
OUTPUT = pathlib.Path(sys.argv[1]).resolve()


def recipe(directory):
    """The recipe without its requirements, in a separate directory."""
    text = (ROOT / "conda/recipe.yaml").read_text()
    text, removed = re.subn(r"requirements:\n(  .*\n)+", "", text)
    libraries = [f"{os.environ['LIBTORCH']}/lib", *map(str, (ROOT / ".deps/nvidia").glob("*/lib"))]
    text, added = re.subn(r"  - script:\n", f"  - script:\n      - export LD_LIBRARY_PATH={':'.join(libraries)}\n", text)
    assert removed == added == 1
    (directory / "recipe.yaml").write_text(text.replace("path: ..", f"path: {ROOT}"))
    (directory / "build.sh").write_text((ROOT / "conda/build.sh").read_text())
    return Stage0Recipe.from_file(directory / "recipe.yaml")


os.environ.setdefault("LIBTORCH", str(ROOT / ".deps/torch"))
os.environ.setdefault("CMAKE", str(ROOT / ".deps/cmake/data/bin/cmake"))
os.environ.setdefault("CARGO_TARGET_DIR", str(ROOT / "target"))
with tempfile.TemporaryDirectory() as directory:
    channel = pathlib.Path(directory) / "channel/noarch"
    channel.mkdir(parents=True)
    (channel / "repodata.json").write_text('{"packages": {}, "packages.conda": {}}')
    channels = [channel.parent.as_uri()]
    built = recipe(pathlib.Path(directory)).run_build(output_dir=OUTPUT, channels=channels, env_isolation=EnvironmentIsolation.NONE)
    [package] = [Package.from_file(path) for result in built for path in result.packages]
    print(package.path, package.name, package.version)
    print("\n".join(sorted(path for path in package.files if not path.startswith("info/"))))
    results = package.run_tests(channel=channels)
    assert results and all(result.success for result in results), [result.output for result in results]
    print(f"{len(results)} tests passed")

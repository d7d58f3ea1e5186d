//! The conda recipes `meta.yaml` (for bioconda) and `recipe.yaml` (for rattler-build), generated from the same values.
//!
//! One package serves CPU and GPU: programs load `libtorch_cuda` if the installed libtorch has it.

use super::{assert_current, libtorch};
use scgpt_tools::descriptor::{DOI, PACKAGE};
use scgpt_tools::programs::{ALL, Entry};
use std::collections::BTreeSet;
use std::path::Path;

const HOME: &str = env!("CARGO_PKG_REPOSITORY");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const BUILD: [&str; 4] = ["cargo-bundle-licenses", "cmake", "make", "patchelf"];

/// Package tests: every program starts.
fn commands(indent: &str) -> String {
    let binaries: BTreeSet<&str> = ALL.iter().map(Entry::binary).collect();
    let line = |binary: &str| format!("{indent}- {binary} --version\n");
    binaries.into_iter().map(line).collect()
}

fn list<'a>(indent: &str, items: impl IntoIterator<Item = &'a str>) -> String {
    let line = |item| format!("{indent}- {item}\n");
    items.into_iter().map(line).collect()
}

fn about(license: &str, home: [&str; 3]) -> String {
    let [home, source, documentation] = home;
    format!(
        "about:\n  {home}: {HOME}\n  {source}: {HOME}\n  {documentation}: {HOME}#readme\n  license: MIT\n{license}  license_file:\n    - \
         LICENSE\n    - THIRDPARTY.yml\n  summary: {}\n\nextra:\n  identifiers:\n    - doi:{DOI}\n",
        env!("CARGO_PKG_DESCRIPTION")
    )
}

const NOTE: &str =
    "Generated from the programs: change them or tests/artefacts/conda.rs, not this file.";

/// For bioconda. The release workflow fills in the checksum of the archive.
fn meta() -> String {
    let compilers =
        ["c", "cxx", "rust"].map(|language| format!("{{{{ compiler('{language}') }}}}"));
    let compilers = compilers.iter().map(String::as_str);
    format!(
        "# {NOTE}\n{{% set version = \"{VERSION}\" %}}\n{{% set sha256 = \"RELEASE\" %}}\n\n\
         package:\n  name: {PACKAGE}\n  version: {{{{ version }}}}\n\n\
         source:\n  url: {HOME}/archive/refs/tags/v{{{{ version }}}}.tar.gz\n  sha256: {{{{ sha256 }}}}\n\n\
         build:\n  number: 0\n  skip: true  # [not linux64]\n  run_exports:\n    - {{{{ pin_subpackage('{PACKAGE}', max_pin=\"x.x\") }}}}\n\n\
         requirements:\n  build:\n{}    - {{{{ stdlib('c') }}}}\n{}  host:\n    - libtorch {}.*\n\n\
         test:\n  commands:\n{}\n{}",
        list("    ", compilers),
        list("    ", BUILD),
        libtorch(),
        commands("    "),
        about("  license_family: MIT\n", ["home", "dev_url", "doc_url"])
    )
}

/// For rattler-build, from this source tree.
fn recipe() -> String {
    let compilers =
        ["c", "cxx", "rust"].map(|language| format!("${{{{ compiler('{language}') }}}}"));
    let compilers = compilers.iter().map(String::as_str);
    format!(
        "# {NOTE}\nschema_version: 1\n\ncontext:\n  version: \"{VERSION}\"\n\n\
         package:\n  name: {PACKAGE}\n  version: ${{{{ version }}}}\n\n\
         source:\n  path: ..\n\n\
         build:\n  number: 0\n  skip: not (linux and x86_64)\n  script: build.sh\n\n\
         requirements:\n  build:\n{}    - ${{{{ stdlib('c') }}}}\n{}  host:\n    - libtorch {}.*\n  run_exports:\n    - ${{{{ pin_subpackage('{PACKAGE}', \
         upper_bound='x.x') }}}}\n\n\
         tests:\n  - script:\n{}\n{}",
        list("    ", compilers),
        list("    ", BUILD),
        libtorch(),
        commands("      "),
        about("", ["homepage", "repository", "documentation"])
    )
}

#[test]
fn recipes_are_current() {
    assert_current(Path::new("conda/meta.yaml"), &meta());
    assert_current(Path::new("conda/recipe.yaml"), &recipe());
}

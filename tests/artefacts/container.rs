//! Checks the hand-written container files against the descriptors of the programs.

use super::committed;
use scgpt_tools::descriptor::{FLAVORS, IMAGE};
use std::path::Path;

#[test]
fn images_match_the_descriptors() {
    let text = committed(Path::new("containers/Dockerfile")).expect("a file for images");
    for flavor in FLAVORS {
        let stage = format!("FROM runtime AS {flavor}\n");
        assert!(text.contains(&stage), "`{stage}` is missing");
    }
    for (label, value) in [
        ("version", env!("CARGO_PKG_VERSION")),
        ("description", env!("CARGO_PKG_DESCRIPTION")),
        ("licenses", env!("CARGO_PKG_LICENSE")),
        ("source", env!("CARGO_PKG_REPOSITORY")),
    ] {
        let label = format!("org.opencontainers.image.{label}=\"{value}\"");
        assert!(text.contains(&label), "`{label}` is missing");
    }
    let apptainer = committed(Path::new("containers/apptainer.def")).expect("a definition");
    let image = format!(
        "From: {IMAGE}:{}-{}\n",
        env!("CARGO_PKG_VERSION"),
        FLAVORS[0]
    );
    assert!(apptainer.contains(&image), "`{image}` is missing");
    // Workflow engines start a shell as their own user.
    for forbidden in ["\nENTRYPOINT", "\nUSER"] {
        assert!(!text.contains(forbidden), "{forbidden}");
    }
}

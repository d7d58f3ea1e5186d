//! The images: hand-written, and true to the programs' descriptors.

use super::committed;
use scgpt_tools::descriptor::{FLAVOURS, IMAGE};
use std::path::Path;

#[test]
fn images_are_those_that_descriptors_name() {
    let text = committed(Path::new("containers/Dockerfile")).expect("a file for images");
    for flavour in FLAVOURS {
        let stage = format!("FROM runtime AS {flavour}\n");
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
        FLAVOURS[0]
    );
    assert!(apptainer.contains(&image), "`{image}` is missing");
    // Engines start a shell under a user of their own.
    for forbidden in ["\nENTRYPOINT", "\nUSER"] {
        assert!(!text.contains(forbidden), "{forbidden}");
    }
}

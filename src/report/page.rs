//! The HTML page of the report, with embedded style and script and no external resources.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::content::Content;
use super::html::shortened;
use super::tabs;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
/// The report as HTML.
pub fn write(content: &Content) -> String {
    let sections = [
        ("overview", "Overview", tabs::overview::section(content)),
        (
            "expression",
            "Gene expression",
            tabs::expression::section(content),
        ),
        (
            "attention",
            "Attention analysis",
            tabs::attention::section(content),
        ),
        (
            "comparison",
            "Method comparison",
            tabs::comparison::section(content),
        ),
        ("runs", "Runs", tabs::runs::section(content)),
    ];
    let title = shortened(&content.choice.title);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    (tabs::overview::headline(content))
                }
                nav { @for (id, name, _) in &sections { a href=(format!("#{id}")) { (name) } } }
                main { @for (id, name, section) in &sections { (tab(id, name, section)) } }
                footer { "Written by scgpt-report " (env!("CARGO_PKG_VERSION")) ". Every number is from a run record, a training curve or a table, or was computed from an h5ad file; the run record of this report lists the files." }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn tab(id: &str, name: &str, section: &Markup) -> Markup {
    html! { section id=(id) { h2 { (name) } (section) } }
}

/// Content security policy: nothing is loaded, and only the embedded script runs.
fn policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
    )
}

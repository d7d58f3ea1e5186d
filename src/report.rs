//! The HTML report: `collect` reads run outputs, `tabs` present them, `page` writes the report.
//!
//! The report is one self-contained HTML file without network access, and is complete without its scripts, which only add
//! convenience.

pub mod attention;
pub mod cells;
pub mod collect;
pub mod content;
mod figures;
mod html;
pub mod markers;
pub mod page;
pub mod provenance;
pub mod scores;
pub mod summary;
pub mod table;
mod tabs;

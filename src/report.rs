//! One page of everything that runs left behind: `gather` reads it, `tabs` say what it means, `page` writes it.
//!
//! The page is one file of HTML without network access, and is complete without its scripts, which only add convenience.

pub mod attention;
pub mod cells;
mod figures;
pub mod gather;
mod html;
pub mod lineage;
pub mod markers;
pub mod page;
pub mod scores;
pub mod summary;
pub mod table;
mod tabs;

//! What each tab says.

pub mod attention;
pub mod comparison;
pub mod expression;
pub mod overview;
pub mod runs;

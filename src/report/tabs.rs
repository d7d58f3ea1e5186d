//! The tabs of the report.

pub mod attention;
pub mod comparison;
pub mod expression;
pub mod overview;
pub mod runs;

//! sql.

pub mod parser;

//! Binding: syntax trees to typed expressions and relations; every error has its place.

pub mod aggregate;
pub mod build;
pub mod expr;
pub mod insert;
pub mod join;
pub mod place;
pub mod query;
pub mod window;

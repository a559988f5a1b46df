//! Binding: syntax trees to typed expressions and relations; every error has its place.

pub mod aggregate;
pub mod aggregate_call;
pub mod build;
mod changelog;
pub mod create_as;
pub mod expr;
mod hints;
pub mod insert;
pub mod join;
pub mod lateral;
mod lookup;
pub mod match_recognize;
pub mod order;
pub mod over;
pub mod pending;
pub mod place;
pub mod query;
pub mod setop;
pub mod subquery;
pub mod temporal;
pub mod window;

//! Compiled expressions and Flink's scalar functions over Arrow columns.
//!
//! [`build`] makes expressions from names and arguments; [`print`] and [`json`] write values as text.

pub mod build;
pub mod json;
pub mod print;

mod args;
mod arithmetic;
mod calendar;
mod cast;
mod compare;
mod decimal;
mod functions;
mod jsonpath;
mod like;
mod logic;
mod node;
mod parse;
mod select;
mod typing;
mod variant;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

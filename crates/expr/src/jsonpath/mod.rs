//! JSON documents and paths into them, as Flink reads them (with Jackson and Jayway's JsonPath).

mod eval;
mod filter;
mod path;
mod value;

pub(crate) use path::Path;
pub(crate) use value::{Json, big_decimal, key_order};

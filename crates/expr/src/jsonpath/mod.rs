//! JSON documents and paths into them, as Flink reads them (with Jackson and Jayway's JsonPath).

mod eval;
mod filter;
mod path;
mod value;
mod variant;

pub(crate) use path::Path;
pub(crate) use value::{Json, big_decimal, key_order};
pub(crate) use variant::{parse as parse_variant, to_json as variant_to_json};

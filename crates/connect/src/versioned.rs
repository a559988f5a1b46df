//! Values that checkpoints and markers hold as JSON, with a version that is looked at before anything else.

use millstream_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a value whose field `version` has to be `version`; `what` begins the sentence of an error.
///
/// # Errors
/// State if it is damaged or of another version.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str, version: u32) -> Result<T> {
    let damaged = |e: serde_json::Error| Error::state(format!("{what} can't be read: {e}"));
    let value: Value = serde_json::from_slice(bytes).map_err(damaged)?;
    match value.get("version").and_then(Value::as_u64) {
        Some(found) if found == u64::from(version) => serde_json::from_value(value).map_err(damaged),
        found => Err(Error::state(format!(
            "{what} has version {}; this program knows version {version}",
            found.map_or("none".to_string(), |v| v.to_string())
        ))),
    }
}

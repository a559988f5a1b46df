//! The `filesystem` connector: files in folders, local or in an object store.

pub mod sink;
pub mod source;

//! The `filesystem` sink.

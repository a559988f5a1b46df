//! The `filesystem` source.

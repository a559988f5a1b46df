//! The `print` connector: rows as lines on standard output.

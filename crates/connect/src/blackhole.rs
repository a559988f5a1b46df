//! The `blackhole` connector: takes rows and forgets them.

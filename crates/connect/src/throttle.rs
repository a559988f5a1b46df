//! A limit on rows a second.

//! The formats: bytes to batches and back.

//! The dead-letter file: where records that could not be decoded are kept.

//! Tests of the generated rows.

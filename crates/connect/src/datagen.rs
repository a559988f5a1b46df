//! The `datagen` connector: random or sequential rows.

//! The `nexmark` connector: the events of an online auction, generated.

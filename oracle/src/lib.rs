//! Random queries, answered by Millstream and by DataFusion; see `tests/it`.

//! The vocabulary of Millstream: rows and row kinds, types, time, keys, settings, errors, and the
//! traits through which sources, sinks, operators and expressions meet.
//!
//! Reading order is the order of the modules below. Nothing here does I/O.

mod aggregates;
pub mod batch;
pub mod bitmap;
pub mod connector;
pub mod error;
pub mod expr;
pub mod fail_point;
pub mod format;
pub mod graph;
pub mod key;
pub mod lookup;
pub mod metrics;
pub mod operator;
pub mod options;
pub mod pattern;
mod ranking;
pub mod settings;
pub mod sink;
pub mod source;
pub mod suggest;
pub mod time;
pub mod types;
pub mod variant;

pub use batch::{Batch, RowKind};
pub use error::{Error, ErrorKind, Place, Result};
pub use expr::{Expr, ExprRef};
pub use time::{Clock, Watermark};
pub use types::{DataType, Field, Schema, TypeKind};

//! Flink SQL to a job graph: parser, binder, planner.
//!
//! [`plan_script`] is the way in: text is parsed ([`parser`]), bound against the catalog to a logical plan of typed
//! columns (`bind`, `rel`), optimised and turned into the nodes of a job (`plan`).

pub mod parser;

mod bind;
mod catalog;
mod plan;
mod rel;
mod script;

pub use script::{Output, PlanOptions, Planned, explain, plan_script};

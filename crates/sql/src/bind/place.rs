//! Where things stand in the script, and their names, as errors tell them.

use millstream_core::{Error, Result};
use sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, Spanned};
use sqlparser::tokenizer::Span;

/// A line and a column, from 1; line 0: unknown.
pub type At = (u64, u64);

/// The start of a span.
pub fn at_span(span: Span) -> At {
    (span.start.line, span.start.column)
}

/// Where an expression starts.
pub fn at_expr(expr: &Expr) -> At {
    crate::parser::position_of(expr).unwrap_or((0, 0))
}

/// Where a name stands.
pub fn at_name(name: &ObjectName) -> At {
    at_span(name.span())
}

/// Where an identifier stands.
pub fn at_ident(ident: &Ident) -> At {
    at_span(ident.span)
}

/// The parts of a name.
pub fn parts(name: &ObjectName) -> Vec<&str> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => ident.value.as_str(),
            ObjectNamePart::Function(function) => function.name.value.as_str(),
        })
        .collect()
}

/// Places errors that have no place yet.
pub trait Placed {
    /// Sets the place, if it is known and none is set.
    fn at_place(self, at: At) -> Self;
}

impl Placed for Error {
    fn at_place(self, at: At) -> Self {
        if at.0 == 0 { self } else { self.at_script(at.0, at.1) }
    }
}

impl<T> Placed for Result<T> {
    fn at_place(self, at: At) -> Self {
        self.map_err(|e| e.at_place(at))
    }
}

/// A script error at a place.
pub fn error<T>(at: At, message: impl Into<String>) -> Result<T> {
    Err(Error::script(message).at_place(at))
}

/// A feature that is not there yet, at a place.
pub fn unsupported<T>(at: At, feature: impl Into<String>) -> Result<T> {
    Err(Error::unsupported(feature).at_place(at))
}

/// Adds `did you mean ..?` if a candidate is near, or the list of the candidates.
pub fn with_nearest<'a>(error: Error, name: &str, candidates: impl Iterator<Item = &'a str>) -> Error {
    let all: Vec<&str> = candidates.collect();
    match millstream_core::suggest::did_you_mean(name, all.iter().copied()) {
        Some(hint) => error.hint(hint),
        None if all.is_empty() => error,
        None => error.hint(format!("known are: {}", all.join(", "))),
    }
}

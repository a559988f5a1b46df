//! Errors: what happened, where, a detail, a hint, and a kind that tells the caller what to do.

use std::fmt;

/// What the one who catches an [`Error`] should do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The script, an option or a setting is wrong: tell the person, exit with code 2, run nothing.
    Script,
    /// Valid SQL that is not supported yet: told like `Script`, names the feature.
    Unsupported,
    /// A record, file or value of the data is wrong: the job fails (exit code 1), a restart would
    /// meet the same data, so it is not restarted.
    Data,
    /// Something outside (disk, network, another process) failed and may heal: restart the job from
    /// its last checkpoint.
    Retry,
    /// Stored state can't be used (corrupt, newer version, does not fit the script, in use): stand
    /// down (exit code 1), touch nothing.
    State,
    /// An invariant of our own broke: stop at once; a bug.
    Internal,
}

impl ErrorKind {
    /// The exit code of a process that ends with this error.
    pub fn exit_code(self) -> i32 {
        match self {
            ErrorKind::Script | ErrorKind::Unsupported => 2,
            ErrorKind::Data | ErrorKind::Retry | ErrorKind::State | ErrorKind::Internal => 1,
        }
    }

    /// Whether restarting the job from its last checkpoint can help.
    pub fn is_restartable(self) -> bool {
        match self {
            ErrorKind::Retry => true,
            ErrorKind::Script | ErrorKind::Unsupported | ErrorKind::Data | ErrorKind::State | ErrorKind::Internal => {
                false
            }
        }
    }
}

/// Where in a text or file something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A position in the script; line and column count from 1 (columns in characters).
    Script {
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
    },
    /// A line of an input file.
    File {
        /// The file's path or URL.
        path: String,
        /// Line, from 1, if known.
        line: Option<u64>,
    },
    /// An option of a table.
    Option {
        /// The table's name.
        table: String,
        /// The option's key.
        key: String,
        /// Its line and column in the script, if known.
        at: Option<(u64, u64)>,
    },
    /// Anything else that has a name: an option, a table, a folder.
    Named(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Script { line, column } => write!(f, "line {line}, column {column}"),
            Place::File { path, line: Some(line) } => write!(f, "{path}, line {line}"),
            Place::File { path, line: None } => write!(f, "{path}"),
            Place::Option { table, key, at: Some((line, column)) } => {
                write!(f, "table '{table}', option '{key}', line {line}, column {column}")
            }
            Place::Option { table, key, at: None } => write!(f, "table '{table}', option '{key}'"),
            Place::Named(name) => write!(f, "{name}"),
        }
    }
}

/// An error for people: a lowercase fact with its place, then details, then a hint.
///
/// Printed as `message (place)`, followed by indented `detail:` and `hint:` lines. Context added on
/// the way up ([`Error::context`], a verb in the present) becomes further details.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    place: Option<Place>,
    details: Vec<String>,
    hint: Option<String>,
}

/// The result type of the whole project.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A new error of `kind`; `message` is one lowercase fact without a final stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), place: None, details: vec![], hint: None }))
    }
    /// A mistake in the script, an option or a setting.
    pub fn script(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Script, message)
    }
    /// Valid, but not supported yet.
    pub fn unsupported(feature: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, format!("{} is not supported yet", feature.into()))
    }
    /// Data that can't be handled.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }
    /// A fault from outside that may heal.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Retry, message)
    }
    /// Stored state that can't be used.
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::State, message)
    }
    /// A broken invariant of our own.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
    /// Sets the place, if none is set yet (the innermost is the most exact).
    pub fn at(mut self, place: Place) -> Self {
        self.0.place.get_or_insert(place);
        self
    }
    /// Sets the place in the script.
    pub fn at_script(self, line: u64, column: u64) -> Self {
        self.at(Place::Script { line, column })
    }
    /// If the place is an option: sets where in the script it is, given its key.
    pub fn at_option(mut self, place_of: impl FnOnce(&str) -> (u64, u64)) -> Self {
        if let Some(Place::Option { key, at, .. }) = &mut self.0.place {
            *at = Some(place_of(key));
        }
        self
    }
    /// Adds a detail.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.details.push(detail.into());
        self
    }
    /// Adds what was being done, a verb in the present: `read manifest`.
    pub fn context(self, doing: impl fmt::Display) -> Self {
        self.detail(format!("while trying to {doing}"))
    }
    /// Sets the hint, if none is set yet.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert(hint.into());
        self
    }
    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
    /// The message alone.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// The place, if known.
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }
    /// The hint, if any.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
    /// The details, innermost first.
    pub fn details(&self) -> &[String] {
        &self.0.details
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(place) = &self.0.place {
            write!(f, " ({place})")?;
        }
        for detail in &self.0.details {
            write!(f, "\n  detail: {detail}")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<arrow::error::ArrowError> for Error {
    /// Arrow's kernels fail on data (overflow in a checked cast, a division by zero); a shape they
    /// do not know is our own mistake.
    fn from(e: arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError::*;
        match e {
            DivideByZero => Error::data("division by zero"),
            ArithmeticOverflow(m) => Error::data(format!("arithmetic overflow: {m}")),
            CastError(m) | ParseError(m) | ComputeError(m) => Error::data(m),
            IoError(m, _) => Error::retry(m),
            other => Error::internal(other.to_string()),
        }
    }
}

impl From<std::io::Error> for Error {
    /// I/O faults may heal; a full disk is named so that the person can make room.
    fn from(e: std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::StorageFull {
            return Error::retry(format!("the disk is full: {e}"))
                .hint("free some space; the job goes on from its last checkpoint");
        }
        Error::retry(e.to_string())
    }
}

/// Adds context to a `Result` on its way up.
pub trait ResultExt<T> {
    /// Adds what was being done; see [`Error::context`].
    fn context(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.into().context(doing))
    }
}

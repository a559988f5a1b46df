//! The contracts of formats: bytes to batches and back.

use crate::{Batch, Error, Result, Schema};
use std::fmt;

/// What a decoder does with a record that it can't decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBadRecord {
    /// The job fails, with the place and the reason.
    Fail,
    /// It is skipped and counted.
    Skip,
    /// It is handed to the caller with the reason, who writes it to the dead-letter file.
    DeadLetter,
}

/// A record that could not be decoded.
#[derive(Debug)]
pub struct BadRecord {
    /// The record's bytes.
    pub record: Vec<u8>,
    /// Its line within the bytes that the decoder was given, from 0.
    pub line: usize,
    /// Why; without a place.
    pub reason: Error,
}

/// Turns bytes into batches of one schema. One for each split being read.
pub trait Decoder: Send {
    /// The columns that it gives.
    fn schema(&self) -> &Schema;
    /// Decodes whole records from the front of `bytes`, until about `max_rows` rows or the end.
    ///
    /// Returns how many bytes it consumed: at least one record unless `bytes` is empty; `bytes` ends
    /// at a record's end. Bad records are handled as its [`OnBadRecord`] says; with `DeadLetter`
    /// they are pushed to `bad`. With `Fail` the error's place is the line within `bytes`, from 0,
    /// as `BadRecord` in `bad`, too.
    fn decode(&mut self, bytes: &[u8], max_rows: usize, bad: &mut Vec<BadRecord>) -> Result<usize>;
    /// Decodes the value of one message, which is a single record whatever is in it; `None`: the message has no value, which
    /// most formats take for no row. Bad records are handled as by [`Decoder::decode`].
    fn decode_message(&mut self, message: Option<&[u8]>, bad: &mut Vec<BadRecord>) -> Result<()> {
        let mut rest = message.unwrap_or_default();
        while !rest.is_empty() {
            let consumed = self.decode(rest, usize::MAX, bad)?;
            rest = rest.get(consumed.max(1)..).unwrap_or_default();
        }
        Ok(())
    }
    /// The rows decoded since the last call.
    fn take(&mut self) -> Result<Batch>;
    /// How many rows [`Decoder::take`] would give.
    fn num_rows(&self) -> usize;
}

/// Turns batches into bytes of a line- or record-oriented format.
pub trait Encoder: Send {
    /// Appends the records of `batch` to `out`.
    fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()>;
}

/// Makes decoders of one schema.
pub trait DecoderFactory: Send + Sync + fmt::Debug {
    /// A decoder that gives `schema`, a projection of the table's physical columns.
    fn decoder(&self, schema: &Schema) -> Result<Box<dyn Decoder>>;
}

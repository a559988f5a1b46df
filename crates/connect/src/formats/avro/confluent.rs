//! The `avro-confluent` format: a message is a zero byte, the number of its schema in a registry (4 bytes, the highest
//! first), and one Avro value. For connectors of messages; files are of the format `avro`.

use super::decode::Plan;
use super::message::AvroEncoder;
use super::registry::Registry;
use super::schema::{Schema as AvroSchema, TimestampMapping, derive};
use crate::formats::rows::{MadeRows, undecodable};
use millstream_core::format::{BadRecord, Decoder, DecoderFactory, OnBadRecord};
use millstream_core::options::Options;
use millstream_core::{Batch, Error, Result, Schema};
use std::collections::HashMap;
use std::sync::Arc;

/// The format's name, by which its options begin.
pub const NAME: &str = "avro-confluent";

/// The format for reading: the options `avro-confluent.*` but for those of writing.
///
/// Its decoders take one message a call of [`Decoder::decode`], always whole.
pub fn read_format(options: &Options<'_>, on_bad: OnBadRecord) -> Result<Arc<dyn DecoderFactory>> {
    options.allow([format!("{NAME}.subject").as_str()]);
    super::mapping(options, NAME)?;
    Ok(Arc::new(ConfluentReading { registry: Arc::new(Registry::new(options, NAME)?), on_bad }))
}

/// The format for writing columns of `schema`. `subject`: under which the schema is registered if the option
/// `avro-confluent.subject` doesn't tell, such as the topic's name and `-value`.
pub fn write_format(schema: &Schema, options: &Options<'_>, subject: Option<&str>) -> Result<ConfluentWriting> {
    let mapping = super::mapping(options, NAME)?;
    derive(&schema.fields, mapping).map_err(|e| e.at(options.place("format")))?;
    let subject = match (options.string(&format!("{NAME}.subject")), subject) {
        (Some(subject), _) | (None, Some(subject)) => subject.to_string(),
        (None, None) => options.required(&format!("{NAME}.subject"))?.to_string(),
    };
    Ok(ConfluentWriting { registry: Arc::new(Registry::new(options, NAME)?), subject, mapping })
}

#[derive(Debug)]
struct ConfluentReading {
    registry: Arc<Registry>,
    on_bad: OnBadRecord,
}

impl DecoderFactory for ConfluentReading {
    fn decoder(&self, schema: &Schema) -> Result<Box<dyn Decoder>> {
        Ok(Box::new(ConfluentDecoder {
            registry: self.registry.clone(),
            made: MadeRows::new(schema, self.on_bad)?,
            plans: HashMap::new(),
        }))
    }
}

struct ConfluentDecoder {
    registry: Arc<Registry>,
    made: MadeRows,
    /// By the number of the schema.
    plans: HashMap<u32, Plan>,
}

impl ConfluentDecoder {
    /// Decodes a message. The outer error is the registry's, or that of a schema which doesn't fit the table: it is
    /// that of all such messages. The inner one is the message's own.
    fn message(&mut self, message: &[u8]) -> Result<Result<(), String>> {
        let (magic, rest) = (message.first(), message.get(1..).unwrap_or_default());
        let (Some(0), Some((id, value))) = (magic, rest.split_first_chunk::<4>()) else {
            return Ok(Err("it doesn't begin with a zero byte and the number of a schema".into()));
        };
        let id = u32::from_be_bytes(*id);
        if !self.plans.contains_key(&id) {
            let text = self.registry.schema(id)?;
            let plan = AvroSchema::parse(&text).and_then(|schema| Plan::new(schema, &self.made.schema.fields));
            self.plans.insert(id, plan.map_err(|e| e.context(format!("read messages of the schema {id}")))?);
        }
        let Some(plan) = self.plans.get(&id) else { return Err(Error::internal("a plan is not there")) };
        Ok(plan.decode_message(value, &mut self.made))
    }
}

impl Decoder for ConfluentDecoder {
    fn schema(&self) -> &Schema {
        &self.made.schema
    }

    fn decode(&mut self, bytes: &[u8], _max_rows: usize, bad: &mut Vec<BadRecord>) -> Result<usize> {
        let decoded = self.message(bytes)?;
        decoded.or_else(|reason| self.made.refuse(bytes, 0, undecodable(&reason), bad))?;
        Ok(bytes.len())
    }

    fn take(&mut self) -> Result<Batch> {
        self.made.take()
    }

    fn num_rows(&self) -> usize {
        self.made.rows
    }
}

/// Makes encoders of messages.
#[derive(Debug)]
pub struct ConfluentWriting {
    registry: Arc<Registry>,
    subject: String,
    mapping: TimestampMapping,
}

impl ConfluentWriting {
    /// An encoder of rows of `schema`, which it registers.
    pub fn encoder(&self, schema: &Schema) -> Result<AvroEncoder> {
        let text = derive(&schema.fields, self.mapping)?.to_string();
        let id = self.registry.register(&self.subject, &text)?;
        Ok(AvroEncoder::new(schema, &[&[0][..], &id.to_be_bytes()].concat()))
    }
}

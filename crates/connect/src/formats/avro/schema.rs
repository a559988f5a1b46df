//! Avro schemas: read from JSON, and derived from a table's columns as Flink derives them.

use millstream_core::{DataType, Error, Field, Result, TypeKind};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// A schema: its types, which name each other by number, as types may contain themselves.
#[derive(Debug)]
pub(super) struct Schema {
    types: Vec<Type>,
    root: TypeId,
}

/// The number of a type of a schema.
pub(super) type TypeId = usize;

/// A type, as it is stored.
#[derive(Debug)]
pub(super) enum Type {
    Null,
    Boolean,
    Int(Logical),
    Long(Logical),
    Float,
    Double,
    Bytes(Logical),
    String,
    Fixed(usize, Logical),
    Enum(Vec<String>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<(String, TypeId)>),
}

/// What a stored number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logical {
    Plain,
    Date,
    /// A time of day, so many units a second.
    Time(i64),
    /// An instant or a local time, so many units a second.
    Timestamp(i64),
    Decimal {
        scale: i64,
    },
}

/// Types may be within each other so deep.
const MAX_DEPTH: usize = 64;

fn bad(detail: impl Into<String>) -> Error {
    Error::data("the Avro schema can't be read").detail(detail)
}

struct Parser {
    types: Vec<Type>,
    named: HashMap<String, TypeId>,
}

impl Schema {
    /// Reads a schema's JSON text.
    pub fn parse(text: &str) -> Result<Schema> {
        let json: Value = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        let mut parser = Parser { types: vec![], named: HashMap::new() };
        let root = parser.parse(&json, "", 0)?;
        Ok(Schema { types: parser.types, root })
    }
    /// The outermost type.
    pub fn root(&self) -> TypeId {
        self.root
    }
    /// The type of a number that this schema has given.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id]
    }
    /// What a type is called, for messages.
    pub fn name(&self, id: TypeId) -> String {
        match self.get(id) {
            Type::Null => "null".into(),
            Type::Boolean => "boolean".into(),
            Type::Int(logical) => logical.name("int"),
            Type::Long(logical) => logical.name("long"),
            Type::Float => "float".into(),
            Type::Double => "double".into(),
            Type::Bytes(logical) => logical.name("bytes"),
            Type::String => "string".into(),
            Type::Fixed(size, logical) => logical.name(&format!("fixed of {size} bytes")),
            Type::Enum(_) => "enum".into(),
            Type::Array(_) => "array".into(),
            Type::Map(_) => "map".into(),
            Type::Record(_) => "record".into(),
            Type::Union(branches) => {
                let names: Vec<String> = branches.iter().map(|b| self.name(*b)).collect();
                format!("union of {}", names.join(" and "))
            }
        }
    }
}

impl Logical {
    fn name(&self, stored: &str) -> String {
        match self {
            Logical::Plain => stored.into(),
            Logical::Date => "date".into(),
            Logical::Time(_) => "time".into(),
            Logical::Timestamp(_) => "timestamp".into(),
            Logical::Decimal { scale } => format!("decimal with scale {scale}"),
        }
    }
}

impl Parser {
    fn add(&mut self, found: Type) -> TypeId {
        self.types.push(found);
        self.types.len() - 1
    }

    fn parse(&mut self, json: &Value, namespace: &str, depth: usize) -> Result<TypeId> {
        if depth > MAX_DEPTH {
            return Err(bad("its types are within each other too deep"));
        }
        match json {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|b| self.parse(b, namespace, depth + 1));
                let branches = branches.collect::<Result<Vec<_>>>()?;
                Ok(self.add(Type::Union(branches)))
            }
            Value::Object(members) => match members.get("type") {
                Some(Value::String(name)) => self.object(members, name, namespace, depth),
                Some(inner) => self.parse(inner, namespace, depth + 1),
                None => Err(bad(format!("a type has no 'type': {json}"))),
            },
            other => Err(bad(format!("{other} is no type"))),
        }
    }

    fn by_name(&mut self, name: &str, namespace: &str) -> Result<TypeId> {
        let primitive = primitive(name, Logical::Plain);
        match primitive {
            Some(found) => Ok(self.add(found)),
            None => {
                let found = self.named.get(&full_name(name, namespace)).or_else(|| self.named.get(name));
                found.copied().ok_or_else(|| bad(format!("there is no type '{name}'")))
            }
        }
    }

    fn object(&mut self, members: &Map<String, Value>, kind: &str, namespace: &str, depth: usize) -> Result<TypeId> {
        let nested = |key: &str| members.get(key).ok_or_else(|| bad(format!("a type '{kind}' has no '{key}'")));
        let logical = logical_type(members);
        match kind {
            "array" => {
                let items = self.parse(nested("items")?, namespace, depth + 1)?;
                Ok(self.add(Type::Array(items)))
            }
            "map" => {
                let values = self.parse(nested("values")?, namespace, depth + 1)?;
                Ok(self.add(Type::Map(values)))
            }
            "record" | "error" => {
                // The name is known within the record itself.
                let (id, namespace) = self.named(members, namespace, Type::Record(vec![]))?;
                let fields = nested("fields")?.as_array().ok_or_else(|| bad("a record's 'fields' are no array"))?;
                let mut found = vec![];
                for field in fields {
                    let name = field.get("name").and_then(Value::as_str);
                    let (Some(name), Some(json)) = (name, field.get("type")) else {
                        return Err(bad(format!("a field lacks its name or type: {field}")));
                    };
                    found.push((name.to_string(), self.parse(json, &namespace, depth + 1)?));
                }
                self.types[id] = Type::Record(found);
                Ok(id)
            }
            "enum" => {
                let symbols = nested("symbols")?.as_array().ok_or_else(|| bad("an enum's 'symbols' are no array"))?;
                let symbols = symbols.iter().filter_map(|s| s.as_str().map(str::to_string)).collect();
                self.named(members, namespace, Type::Enum(symbols)).map(|(id, _)| id)
            }
            "fixed" => {
                let size = nested("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| bad("a fixed's 'size' is no number"))?;
                self.named(members, namespace, Type::Fixed(size, logical)).map(|(id, _)| id)
            }
            other => match primitive(other, logical) {
                Some(found) => Ok(self.add(found)),
                None => self.by_name(other, namespace),
            },
        }
    }

    /// Adds a type that has a name; gives its namespace, too.
    fn named(&mut self, members: &Map<String, Value>, around: &str, found: Type) -> Result<(TypeId, String)> {
        let name = members.get("name").and_then(Value::as_str).ok_or_else(|| bad("a named type has no 'name'"))?;
        let namespace = members.get("namespace").and_then(Value::as_str).unwrap_or(around);
        let full = full_name(name, namespace);
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_string();
        let id = self.add(found);
        self.named.insert(full, id);
        Ok((id, namespace))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_string() } else { format!("{namespace}.{name}") }
}

fn primitive(name: &str, logical: Logical) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int(logical),
        "long" => Type::Long(logical),
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes(logical),
        "string" => Type::String,
        _ => return None,
    })
}

/// A logical type that isn't known means nothing, by Avro's specification.
fn logical_type(members: &Map<String, Value>) -> Logical {
    match members.get("logicalType").and_then(Value::as_str).unwrap_or_default() {
        "date" => Logical::Date,
        "time-millis" => Logical::Time(1_000),
        "time-micros" => Logical::Time(1_000_000),
        "timestamp-millis" | "local-timestamp-millis" => Logical::Timestamp(1_000),
        "timestamp-micros" | "local-timestamp-micros" => Logical::Timestamp(1_000_000),
        "timestamp-nanos" | "local-timestamp-nanos" => Logical::Timestamp(1_000_000_000),
        "decimal" => Logical::Decimal { scale: members.get("scale").and_then(Value::as_i64).unwrap_or(0) },
        _ => Logical::Plain,
    }
}

/// How timestamps are written: the option `timestamp_mapping.legacy` of Flink's formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimestampMapping {
    /// TIMESTAMP as an instant in UTC; TIMESTAMP_LTZ not at all.
    Legacy,
    /// TIMESTAMP as a local time, TIMESTAMP_LTZ as an instant.
    Exact,
}

/// The schema of files and messages of these columns, under Flink's names. (flink: `AvroSchemaConverter`)
pub(super) fn derive(fields: &[Field], mapping: TimestampMapping) -> Result<Value> {
    record(fields, "org.apache.flink.avro.generated.record", mapping)
}

fn record(fields: &[Field], name: &str, mapping: TimestampMapping) -> Result<Value> {
    let mut found = vec![];
    for field in fields {
        // The namespace stands in the name of the outermost record only.
        let path = format!("{}_{}", name.rsplit('.').next().unwrap_or(name), field.name);
        let json = nullable(&field.data_type, &path, mapping)
            .map_err(|e| e.context(format!("derive the Avro type of field '{}'", field.name)))?;
        found.push(match field.data_type.nullable {
            true => json!({"name": field.name, "type": json, "default": null}),
            false => json!({"name": field.name, "type": json}),
        });
    }
    Ok(match name.rsplit_once('.') {
        Some((namespace, name)) => json!({"type": "record", "name": name, "namespace": namespace, "fields": found}),
        None => json!({"type": "record", "name": name, "fields": found}),
    })
}

fn nullable(data_type: &DataType, path: &str, mapping: TimestampMapping) -> Result<Value> {
    let json = not_null(data_type, path, mapping)?;
    Ok(if data_type.nullable && data_type.kind != TypeKind::Null { json!(["null", json]) } else { json })
}

fn not_null(data_type: &DataType, path: &str, mapping: TimestampMapping) -> Result<Value> {
    let unsupported = |detail: &str| Err(Error::unsupported(format!("type {data_type} in Avro")).detail(detail));
    let text_key = |key: &DataType| key.kind.is_character();
    Ok(match &data_type.kind {
        TypeKind::Null => json!("null"),
        TypeKind::Boolean => json!("boolean"),
        TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int => json!("int"),
        TypeKind::BigInt => json!("long"),
        TypeKind::Float => json!("float"),
        TypeKind::Double => json!("double"),
        TypeKind::Char(_) | TypeKind::VarChar(_) => json!("string"),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => json!("bytes"),
        TypeKind::Date => json!({"type": "int", "logicalType": "date"}),
        TypeKind::Time(0..=3) => json!({"type": "int", "logicalType": "time-millis"}),
        TypeKind::Time(_) => return unsupported("Avro's times have at most 3 digits after the point"),
        TypeKind::Decimal(precision, scale) => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => {
            let unit = match p {
                0..=3 => "millis",
                4..=6 => "micros",
                _ => return unsupported("Avro's timestamps have at most 6 digits after the point"),
            };
            let is_ltz = matches!(data_type.kind, TypeKind::TimestampLtz(_));
            let local = match (mapping, is_ltz) {
                (TimestampMapping::Legacy, true) => {
                    return unsupported("'avro.timestamp_mapping.legacy' = 'false' writes it");
                }
                (TimestampMapping::Exact, false) => "local-",
                _ => "",
            };
            json!({"type": "long", "logicalType": format!("{local}timestamp-{unit}")})
        }
        TypeKind::Array(element) => json!({"type": "array", "items": nullable(element, path, mapping)?}),
        TypeKind::Map(key, value) if text_key(key) => {
            json!({"type": "map", "values": nullable(value, path, mapping)?})
        }
        TypeKind::Multiset(element) if text_key(element) => json!({"type": "map", "values": "int"}),
        TypeKind::Map(..) | TypeKind::Multiset(_) => return unsupported("the keys of Avro's maps are text"),
        TypeKind::Row(fields) => record(fields, path, mapping)?,
        TypeKind::IntervalYearMonth | TypeKind::IntervalDayTime => return unsupported("Avro has no intervals"),
        TypeKind::Bitmap | TypeKind::Variant => return unsupported("Avro has no such type"),
    })
}

//! Nexmark's events, a column at a time: only what is asked for is made.

use super::config::Config;
use super::text::Texts;
use crate::datagen::sequence::{below, mix, unit};
use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType as ArrowType;
use millstream_core::{Error, Result, Schema, TypeKind};
use std::cell::OnceCell;
use std::hint::select_unpredictable;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

const FIRST_PERSON_ID: u64 = 1000;
const FIRST_AUCTION_ID: u64 = 1000;
const FIRST_CATEGORY_ID: u64 = 10;
const CATEGORIES: u64 = 5;
/// People and auctions that a bid may name before they exist.
const ID_LEAD: u64 = 10;
const ACTIVE_PEOPLE: u64 = 1000;
const AUCTIONS_IN_FLIGHT: u64 = 100;
/// Every so many people and auctions there is a hot one.
const HOT_EVERY: u64 = 100;

/// The kinds of events, by the values of `event_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Person = 0,
    Auction = 1,
    Bid = 2,
}

/// A value of an event. Each draws its random bits from the event's number and itself, so that it
/// doesn't depend on which others are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    PersonId,
    PersonName,
    Email,
    CreditCard,
    City,
    State,
    PersonExtra,
    AuctionId,
    ItemName,
    Description,
    InitialBid,
    Reserve,
    Expires,
    Seller,
    Category,
    AuctionExtra,
    BidAuction,
    Bidder,
    Price,
    Channel,
    Url,
    BidExtra,
    DateTime,
}

/// The columns to make.
#[derive(Clone, Debug)]
pub(super) struct Plan(Vec<Column>);

#[derive(Clone, Debug)]
enum Column {
    EventType,
    /// A row of one kind of event, NULL for the others: its values with their Arrow types.
    Event {
        kind: Kind,
        arrow: ArrowType,
        values: Vec<(Value, ArrowType)>,
    },
}

impl Plan {
    /// The plan of a table with some of Nexmark's columns; else what is wrong with it.
    pub(super) fn new(schema: &Schema) -> Result<Plan, String> {
        let columns = schema.fields.iter().map(|field| {
            let kind = match (field.name.as_str(), &field.data_type.kind) {
                ("event_type", TypeKind::Int) => return Ok(Column::EventType),
                ("person", TypeKind::Row(_)) => Kind::Person,
                ("auction", TypeKind::Row(_)) => Kind::Auction,
                ("bid", TypeKind::Row(_)) => Kind::Bid,
                (name, _) => {
                    return Err(format!(
                        "the column '{name}' of type {} is not one of Nexmark's: event_type INT, person, auction and \
                         bid ROW<...>",
                        field.data_type
                    ));
                }
            };
            let TypeKind::Row(fields) = &field.data_type.kind else { return Err("no row".into()) };
            let values = fields.iter().map(|f| match value(kind, &f.name, &f.data_type.kind) {
                Some(value) => Ok((value, f.data_type.arrow())),
                None => Err(format!(
                    "the field '{}.{}' of type {} is not one of Nexmark's",
                    field.name, f.name, f.data_type
                )),
            });
            Ok(Column::Event { kind, arrow: field.data_type.arrow(), values: values.collect::<Result<_, _>>()? })
        });
        Ok(Plan(columns.collect::<Result<_, String>>()?))
    }

    /// The columns of the events `ids`, which ascend.
    pub(super) fn generate(&self, config: &Config, texts: &Texts, ids: &[u64]) -> Result<Vec<ArrayRef>> {
        let events = Events::new(config, texts, ids);
        let columns = self.0.iter().map(|column| match column {
            Column::EventType => Ok(events.types()),
            Column::Event { kind, arrow, values } => events.event(*kind, arrow, values),
        });
        columns.collect()
    }
}

fn value(kind: Kind, name: &str, data_type: &TypeKind) -> Option<Value> {
    let (value, fits) = match (kind, name) {
        (_, "dateTime") => (Value::DateTime, is_time(data_type)),
        (Kind::Auction, "expires") => (Value::Expires, is_time(data_type)),
        (Kind::Person, "id") => (Value::PersonId, *data_type == TypeKind::BigInt),
        (Kind::Auction, "id") => (Value::AuctionId, *data_type == TypeKind::BigInt),
        (Kind::Auction, "initialBid") => (Value::InitialBid, *data_type == TypeKind::BigInt),
        (Kind::Auction, "reserve") => (Value::Reserve, *data_type == TypeKind::BigInt),
        (Kind::Auction, "seller") => (Value::Seller, *data_type == TypeKind::BigInt),
        (Kind::Auction, "category") => (Value::Category, *data_type == TypeKind::BigInt),
        (Kind::Bid, "auction") => (Value::BidAuction, *data_type == TypeKind::BigInt),
        (Kind::Bid, "bidder") => (Value::Bidder, *data_type == TypeKind::BigInt),
        (Kind::Bid, "price") => (Value::Price, *data_type == TypeKind::BigInt),
        (Kind::Person, "name") => (Value::PersonName, is_text(data_type)),
        (Kind::Person, "emailAddress") => (Value::Email, is_text(data_type)),
        (Kind::Person, "creditCard") => (Value::CreditCard, is_text(data_type)),
        (Kind::Person, "city") => (Value::City, is_text(data_type)),
        (Kind::Person, "state") => (Value::State, is_text(data_type)),
        (Kind::Person, "extra") => (Value::PersonExtra, is_text(data_type)),
        (Kind::Auction, "itemName") => (Value::ItemName, is_text(data_type)),
        (Kind::Auction, "description") => (Value::Description, is_text(data_type)),
        (Kind::Auction, "extra") => (Value::AuctionExtra, is_text(data_type)),
        (Kind::Bid, "channel") => (Value::Channel, is_text(data_type)),
        (Kind::Bid, "url") => (Value::Url, is_text(data_type)),
        (Kind::Bid, "extra") => (Value::BidExtra, is_text(data_type)),
        _ => return None,
    };
    fits.then_some(value)
}

fn is_time(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Timestamp(3) | TypeKind::TimestampLtz(3))
}

fn is_text(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::VarChar(_))
}

/// Consecutive rows whose events are of one kind and of one round of `people + auctions + bids`.
struct Stretch {
    kind: Kind,
    rows: Range<usize>,
    round: u64,
    /// The number of the round's first event.
    start: u64,
}

/// A batch of events: what all columns need to know of each.
struct Events<'a> {
    config: &'a Config,
    texts: &'a Texts,
    ids: &'a [u64],
    stretches: Vec<Stretch>,
    /// The time of each event, milliseconds.
    times: OnceCell<ScalarBuffer<i64>>,
    /// The channel of each event that is a bid.
    channels: OnceCell<Vec<u32>>,
}

impl<'a> Events<'a> {
    fn new(config: &'a Config, texts: &'a Texts, ids: &'a [u64]) -> Self {
        let total = config.people + config.auctions + config.bids;
        let mut stretches = Vec::new();
        let mut row = 0;
        while let Some(id) = ids.get(row) {
            let round = id / total;
            let start = round * total;
            let (kind, end) = match id - start {
                offset if offset < config.people => (Kind::Person, start + config.people),
                offset if offset < config.people + config.auctions => {
                    (Kind::Auction, start + config.people + config.auctions)
                }
                _ => (Kind::Bid, start + total),
            };
            let most = ids.len().min(row + (end - id) as usize);
            let next = row + ids[row..most].partition_point(|id| *id < end);
            stretches.push(Stretch { kind, rows: row..next, round, start });
            row = next;
        }
        Events { config, texts, ids, stretches, times: OnceCell::new(), channels: OnceCell::new() }
    }

    /// The stretches of one kind of event.
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Stretch> {
        self.stretches.iter().filter(move |s| s.kind == kind)
    }

    fn types(&self) -> ArrayRef {
        let mut types = vec![0; self.ids.len()];
        self.stretches.iter().for_each(|s| types[s.rows.clone()].fill(s.kind as i32));
        Arc::new(Int32Array::from(types))
    }

    fn event(&self, kind: Kind, arrow: &ArrowType, values: &[(Value, ArrowType)]) -> Result<ArrayRef> {
        let ArrowType::Struct(fields) = arrow else { return Err(Error::internal("an event is a row")) };
        let mut valid = BooleanBufferBuilder::new(self.ids.len());
        self.stretches.iter().for_each(|s| valid.append_n(s.rows.len(), s.kind == kind));
        let nulls = Some(NullBuffer::new(valid.finish()));
        let arrays = values.iter().map(|(value, arrow)| self.column(*value, kind, arrow, nulls.clone()));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, self.ids.len())?))
    }

    fn column(&self, value: Value, kind: Kind, arrow: &ArrowType, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        use Value::*;
        let config = self.config;
        let salt = salt(config, value);
        let powers = &*POWERS;
        let numbers = match value {
            PersonId => self.numbers(kind, |s| {
                let first = FIRST_PERSON_ID + s.round * config.people;
                move |id| first + (id - s.start)
            }),
            AuctionId => self.numbers(kind, |s| {
                let first = FIRST_AUCTION_ID + s.round * config.auctions;
                move |id| first + (id - s.start - config.people)
            }),
            InitialBid | Price => self.numbers(kind, |_| |id| price(powers, mix(salt ^ id))),
            Reserve => {
                let initial = self::salt(config, InitialBid);
                self.numbers(kind, |_| move |id| price(powers, mix(initial ^ id)) + price(powers, mix(salt ^ id)))
            }
            Seller => self.numbers(kind, |s| person(salt, s.newest_person(config), config.hot_sellers, 0)),
            Bidder => self.numbers(kind, |s| person(salt, s.newest_person(config), config.hot_bidders, 1)),
            Category => self.numbers(kind, |_| |id| FIRST_CATEGORY_ID + below(mix(salt ^ id), CATEGORIES)),
            BidAuction => self.numbers(kind, |s| bid_auction(salt, s.newest_auction(config), config.hot_auctions)),
            Expires => return times(arrow, self.numbers(kind, |_| |id| expires(config, salt, id) as u64), nulls),
            DateTime => {
                let time = || self.ids.iter().map(|id| time(config, *id)).collect();
                return times(arrow, self.times.get_or_init(time).clone(), nulls);
            }
            PersonName | Email | CreditCard | City | State | PersonExtra | ItemName | Description | AuctionExtra
            | Channel | Url | BidExtra => return self.strings(value, kind, nulls),
        };
        Ok(Arc::new(Int64Array::try_new(numbers, nulls)?))
    }

    /// A value for each event of `kind`, by the function of its number that its stretch gives.
    fn numbers<'s, F: Fn(u64) -> u64>(&'s self, kind: Kind, of: impl Fn(&'s Stretch) -> F) -> ScalarBuffer<i64> {
        let mut numbers = vec![0; self.ids.len()];
        for stretch in self.of(kind) {
            let number = of(stretch);
            let rows = stretch.rows.clone();
            for (slot, id) in numbers[rows.clone()].iter_mut().zip(&self.ids[rows]) {
                *slot = number(*id) as i64;
            }
        }
        numbers.into()
    }

    fn strings(&self, value: Value, kind: Kind, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let salt = salt(self.config, value);
        let texts = self.texts;
        let size = texts.size(value);
        match value {
            Value::Channel => self.write(kind, size, nulls, |row, out| texts.channel(self.channels()[row], out)),
            Value::Url => self.write(kind, size, nulls, |row, out| texts.url(self.channels()[row], out)),
            _ => self.write(kind, size, nulls, |row, out| {
                let id = self.ids[row];
                texts.write(value, mix(salt ^ id), &|other| mix(self::salt(self.config, other) ^ id), out);
            }),
        }
    }

    /// The texts, of about `size` bytes each, that `f` writes for the rows of one kind of event.
    fn write(
        &self,
        kind: Kind,
        size: usize,
        nulls: Option<NullBuffer>,
        f: impl Fn(usize, &mut Vec<u8>),
    ) -> Result<ArrayRef> {
        let (mut bytes, mut offsets) =
            (Vec::with_capacity(self.ids.len() * size), Vec::with_capacity(self.ids.len() + 1));
        offsets.push(0i32);
        for stretch in &self.stretches {
            for row in stretch.rows.clone() {
                if stretch.kind == kind {
                    f(row, &mut bytes);
                }
                let end = i32::try_from(bytes.len());
                offsets.push(end.map_err(|_| Error::internal("a batch of events has more than 2 GiB of text"))?);
            }
        }
        let offsets = OffsetBuffer::new(offsets.into());
        Ok(Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?))
    }

    fn channels(&self) -> &[u32] {
        let make = || {
            let salt = salt(self.config, Value::Channel);
            self.ids.iter().map(|id| channel(mix(salt ^ id))).collect()
        };
        self.channels.get_or_init(make)
    }
}

impl Stretch {
    /// The newest person there is when an auction or a bid comes, from 0.
    fn newest_person(&self, config: &Config) -> u64 {
        self.round * config.people + config.people - 1
    }
    /// The newest auction there is when a bid comes, from 0.
    fn newest_auction(&self, config: &Config) -> u64 {
        self.round * config.auctions + config.auctions - 1
    }
}

/// What the random bits of a value are mixed from, besides the event's number.
fn salt(config: &Config, value: Value) -> u64 {
    mix(config.seed ^ ((value as u64 + 1) << 56))
}

/// A column of times; NULL where `nulls` says so.
fn times(arrow: &ArrowType, values: ScalarBuffer<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let array = TimestampMillisecondArray::try_new(values, nulls)?;
    Ok(match arrow {
        ArrowType::Timestamp(_, Some(zone)) => Arc::new(array.with_timezone(zone.clone())),
        _ => Arc::new(array),
    })
}

/// The event time of event `id`, milliseconds.
fn time(config: &Config, id: u64) -> i64 {
    let micros = (id as f64 * (1_000_000.0 / config.rate as f64)) as i64;
    config.base_ms.saturating_add(micros / 1000)
}

/// Where half of the rows go each way a branch costs more than both values do.
fn hot_or(is_hot: bool, hot: u64, other: u64) -> u64 {
    select_unpredictable(is_hot, hot, other)
}

/// A hot person, or one of those active and a few yet to come.
fn person(salt: u64, newest: u64, hot_ratio: u64, hot_offset: u64) -> impl Fn(u64) -> u64 {
    let hot = FIRST_PERSON_ID + newest / HOT_EVERY * HOT_EVERY + hot_offset;
    let active = (newest + 1).min(ACTIVE_PEOPLE);
    let first = FIRST_PERSON_ID + newest + 1 - active;
    move |id| {
        let bits = mix(salt ^ id);
        hot_or(below(bits, hot_ratio) > 0, hot, first + below(mix(bits), active + ID_LEAD))
    }
}

/// A hot auction, or one of those in flight and a few yet to come.
fn bid_auction(salt: u64, newest: u64, hot_ratio: u64) -> impl Fn(u64) -> u64 {
    let hot = FIRST_AUCTION_ID + newest / HOT_EVERY * HOT_EVERY;
    let first = newest.saturating_sub(AUCTIONS_IN_FLIGHT);
    move |id| {
        let bits = mix(salt ^ id);
        hot_or(
            below(bits, hot_ratio) > 0,
            hot,
            FIRST_AUCTION_ID + first + below(mix(bits), newest - first + 1 + ID_LEAD),
        )
    }
}

/// An auction lasts, on average, until as many others as are in flight have begun.
fn expires(config: &Config, salt: u64, id: u64) -> i64 {
    let total = config.people + config.auctions + config.bids;
    let now = time(config, id);
    let later = time(config, id + AUCTIONS_IN_FLIGHT * total / config.auctions);
    let most = u64::try_from((later - now).saturating_mul(2)).unwrap_or(0).max(1);
    now + 1 + below(mix(salt ^ id), most) as i64
}

/// The channel of a bid: half of them come through a hot one.
fn channel(bits: u64) -> u32 {
    let which = mix(bits);
    let hot = Texts::hot_channel(which);
    select_unpredictable(below(bits, 2) > 0, hot, Texts::other_channel(which))
}

/// Entries of [`POWERS`].
const POWER_STEPS: usize = 512;
type Powers = [f64; POWER_STEPS];
/// Prices, in cents, that are evenly spread over six orders of magnitude.
static POWERS: LazyLock<Powers> =
    LazyLock::new(|| std::array::from_fn(|i| 10f64.powf(i as f64 * 6.0 / POWER_STEPS as f64) * 100.0));

/// Prices are spread evenly over their orders of magnitude: 100 to 100 000 000 cents.
///
/// That is 10 to the power of a number in `0.0 .. 6.0`, times 100: the table has that of its beginning, the series of
/// the exponential function gives that of the rest.
fn price(powers: &Powers, bits: u64) -> u64 {
    let place = unit(bits) * POWER_STEPS as f64;
    let step = place as i64 as usize % POWER_STEPS;
    let x = (place - step as f64) * (6.0 * std::f64::consts::LN_10 / POWER_STEPS as f64);
    let rest = 1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0)));
    (powers[step] * (1.0 + x * (1.0 + x * (0.5 + x * rest))) + 0.5) as i64 as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_powers_of_ten() {
        let numbers = (0..100_000).map(mix).chain([0, u64::MAX, 1 << 55, (1 << 55) - 1]);
        for bits in numbers {
            let exact = 10f64.powf(unit(bits) * 6.0) * 100.0;
            let found = price(&POWERS, bits) as f64;
            assert!((found - exact).abs() <= 0.5 + exact * 1e-13, "{found} for {exact}");
        }
    }
}

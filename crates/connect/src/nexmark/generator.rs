//! Nexmark's events, a column at a time: only what is asked for is made.

use super::config::Config;
use crate::datagen::sequence::{below, mix, unit};
use arrow::array::*;
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType as ArrowType;
use millstream_core::{Error, Result, Schema, TypeKind};
use std::sync::Arc;

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
const CHANNELS: u64 = 10_000;

const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

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
enum Value {
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

    /// The columns of the events `ids`.
    pub(super) fn generate(&self, config: &Config, ids: &[u64]) -> Result<Vec<ArrayRef>> {
        let events = Events::new(config, ids);
        let columns = self.0.iter().map(|column| match column {
            Column::EventType => {
                Ok(Arc::new(Int32Array::from_iter_values(events.kinds.iter().map(|k| *k as i32))) as ArrayRef)
            }
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

/// A batch of events: what all columns need to know of each.
struct Events<'a> {
    config: &'a Config,
    ids: &'a [u64],
    kinds: Vec<Kind>,
    /// Which round of `people + auctions + bids` it is in, and where there.
    places: Vec<(u64, u64)>,
}

impl<'a> Events<'a> {
    fn new(config: &'a Config, ids: &'a [u64]) -> Self {
        let total = config.people + config.auctions + config.bids;
        let mut places = Vec::with_capacity(ids.len());
        let mut kinds = Vec::with_capacity(ids.len());
        let (mut last, mut round, mut offset) = (0, 0, 0);
        for id in ids {
            // Numbers are close together, so most stay in their round, and no division is needed.
            offset += id - last;
            last = *id;
            if offset >= total {
                round += offset / total;
                offset %= total;
            }
            places.push((round, offset));
            kinds.push(match offset {
                o if o < config.people => Kind::Person,
                o if o < config.people + config.auctions => Kind::Auction,
                _ => Kind::Bid,
            });
        }
        Events { config, ids, kinds, places }
    }

    fn event(&self, kind: Kind, arrow: &ArrowType, values: &[(Value, ArrowType)]) -> Result<ArrayRef> {
        let ArrowType::Struct(fields) = arrow else { return Err(Error::internal("an event is a row")) };
        let valid = BooleanBuffer::collect_bool(self.ids.len(), |i| self.kinds[i] == kind);
        let nulls = Some(NullBuffer::new(valid));
        let arrays = values.iter().map(|(value, arrow)| self.column(*value, kind, arrow, nulls.clone()));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, self.ids.len())?))
    }

    fn column(&self, value: Value, kind: Kind, arrow: &ArrowType, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        use Value::*;
        match value {
            PersonId => self.numbers(kind, nulls, |i| FIRST_PERSON_ID + self.last_person(i)),
            AuctionId => self.numbers(kind, nulls, |i| FIRST_AUCTION_ID + self.last_auction(i)),
            InitialBid => self.numbers(kind, nulls, |i| price(self.bits(i, InitialBid))),
            Reserve => self.numbers(kind, nulls, |i| price(self.bits(i, InitialBid)) + price(self.bits(i, Reserve))),
            Seller => self.numbers(kind, nulls, |i| self.person(i, Seller, self.config.hot_sellers, 0)),
            Category => self.numbers(kind, nulls, |i| FIRST_CATEGORY_ID + below(self.bits(i, Category), CATEGORIES)),
            BidAuction => self.numbers(kind, nulls, |i| self.bid_auction(i)),
            Bidder => self.numbers(kind, nulls, |i| self.person(i, Bidder, self.config.hot_bidders, 1)),
            Price => self.numbers(kind, nulls, |i| price(self.bits(i, Price))),
            DateTime => self.times(kind, arrow, nulls, |i| self.time(self.ids[i])),
            Expires => self.times(kind, arrow, nulls, |i| self.expires(i)),
            PersonName | Email | CreditCard | City | State | PersonExtra | ItemName | Description | AuctionExtra
            | Channel | Url | BidExtra => {
                let mut strings = StringBuilder::with_capacity(self.ids.len(), 0);
                let mut text = String::new();
                for i in 0..self.ids.len() {
                    if self.kinds[i] == kind {
                        text.clear();
                        self.text(i, value, &mut text);
                        strings.append_value(&text);
                    } else {
                        strings.append_null();
                    }
                }
                Ok(Arc::new(strings.finish()))
            }
        }
    }

    fn numbers(&self, kind: Kind, nulls: Option<NullBuffer>, f: impl Fn(usize) -> u64) -> Result<ArrayRef> {
        let values = self.kinds.iter().enumerate().map(|(i, k)| if *k == kind { f(i) as i64 } else { 0 });
        Ok(Arc::new(Int64Array::try_new(values.collect::<Vec<i64>>().into(), nulls)?))
    }

    fn times(
        &self,
        kind: Kind,
        arrow: &ArrowType,
        nulls: Option<NullBuffer>,
        f: impl Fn(usize) -> i64,
    ) -> Result<ArrayRef> {
        let values = self.kinds.iter().enumerate().map(|(i, k)| if *k == kind { f(i) } else { 0 });
        let array = TimestampMillisecondArray::try_new(values.collect::<Vec<i64>>().into(), nulls)?;
        Ok(match arrow {
            ArrowType::Timestamp(_, Some(zone)) => Arc::new(array.with_timezone(zone.clone())),
            _ => Arc::new(array),
        })
    }

    fn bits(&self, i: usize, value: Value) -> u64 {
        mix(mix(self.config.seed ^ ((value as u64 + 1) << 56)) ^ self.ids[i])
    }

    /// The event time of event `id`, milliseconds.
    fn time(&self, id: u64) -> i64 {
        let micros = (id as f64 * (1_000_000.0 / self.config.rate as f64)) as i64;
        self.config.base_ms.saturating_add(micros / 1000)
    }

    /// The newest person there is at this event, from 0.
    fn last_person(&self, i: usize) -> u64 {
        let (round, offset) = self.places[i];
        round * self.config.people + offset.min(self.config.people - 1)
    }

    /// The newest auction, from 0; the first one before there is any.
    fn last_auction(&self, i: usize) -> u64 {
        let (round, offset) = self.places[i];
        let (people, auctions) = (self.config.people, self.config.auctions);
        match offset.checked_sub(people) {
            None => (round * auctions).saturating_sub(1),
            Some(offset) => round * auctions + offset.min(auctions - 1),
        }
    }

    /// A hot person, or one of those active and a few yet to come.
    fn person(&self, i: usize, value: Value, hot_ratio: u64, hot_offset: u64) -> u64 {
        let bits = self.bits(i, value);
        let last = self.last_person(i);
        if below(bits, hot_ratio) > 0 {
            return FIRST_PERSON_ID + last / HOT_EVERY * HOT_EVERY + hot_offset;
        }
        let active = (last + 1).min(ACTIVE_PEOPLE);
        FIRST_PERSON_ID + last + 1 - active + below(mix(bits), active + ID_LEAD)
    }

    /// A hot auction, or one of those in flight and a few yet to come.
    fn bid_auction(&self, i: usize) -> u64 {
        let bits = self.bits(i, Value::BidAuction);
        let last = self.last_auction(i);
        if below(bits, self.config.hot_auctions) > 0 {
            return FIRST_AUCTION_ID + last / HOT_EVERY * HOT_EVERY;
        }
        let first = last.saturating_sub(AUCTIONS_IN_FLIGHT);
        FIRST_AUCTION_ID + first + below(mix(bits), last - first + 1 + ID_LEAD)
    }

    /// An auction lasts, on average, until as many others as are in flight have begun.
    fn expires(&self, i: usize) -> i64 {
        let total = self.config.people + self.config.auctions + self.config.bids;
        let now = self.time(self.ids[i]);
        let later = self.time(self.ids[i] + AUCTIONS_IN_FLIGHT * total / self.config.auctions);
        let most = u64::try_from((later - now).saturating_mul(2)).unwrap_or(0).max(1);
        now + 1 + below(self.bits(i, Value::Expires), most) as i64
    }

    fn text(&self, i: usize, value: Value, out: &mut String) {
        use Value::*;
        let bits = self.bits(i, value);
        match value {
            PersonName => {
                out.push_str(pick(&FIRST_NAMES, bits));
                out.push(' ');
                out.push_str(pick(&LAST_NAMES, mix(bits)));
            }
            Email => {
                push_words(out, bits, 7, ' ');
                out.push('@');
                push_words(out, mix(bits), 5, ' ');
                out.push_str(".com");
            }
            CreditCard => {
                let number = below(bits, 10_000_000_000_000_000);
                let digits = format!("{number:016}");
                let (a, b, c, d) = (&digits[..4], &digits[4..8], &digits[8..12], &digits[12..]);
                out.extend([a, " ", b, " ", c, " ", d]);
            }
            City => out.push_str(pick(&CITIES, bits)),
            State => out.push_str(pick(&STATES, bits)),
            ItemName => push_words(out, bits, 20, ' '),
            Description => push_words(out, bits, 100, ' '),
            PersonExtra => {
                [PersonName, Email, CreditCard, City, State].into_iter().for_each(|v| self.text(i, v, out));
                let others = out.len() + 8;
                out.clear();
                push_extra(out, bits, others, self.config.person_bytes);
            }
            AuctionExtra => {
                [ItemName, Description].into_iter().for_each(|v| self.text(i, v, out));
                let others = out.len() + 48;
                out.clear();
                push_extra(out, bits, others, self.config.auction_bytes);
            }
            BidExtra => push_extra(out, bits, 32, self.config.bid_bytes),
            Channel => match self.channel(i) {
                Ok(hot) => out.push_str(HOT_CHANNELS[hot]),
                Err(number) => out.push_str(&format!("channel-{number}")),
            },
            Url => {
                // A channel's address never changes: it depends on the channel alone.
                let channel = self.channel(i);
                let mut bits = match channel {
                    Ok(hot) => mix(self.config.seed ^ hot as u64),
                    Err(number) => mix(self.config.seed ^ (1000 + number)),
                };
                out.push_str("https://www.nexmark.com/");
                for _ in 0..3 {
                    push_words(out, bits, 5, '_');
                    out.push('/');
                    bits = mix(bits);
                }
                out.push_str("item.htm?query=1");
                if let Err(number) = channel
                    && below(bits, 10) > 0
                {
                    let reversed = (number as u32).reverse_bits() as i32;
                    out.push_str(&format!("&channel_id={}", reversed.wrapping_abs()));
                }
            }
            PersonId | AuctionId | InitialBid | Reserve | Expires | Seller | Category | BidAuction | Bidder | Price
            | DateTime => {}
        }
    }

    /// One of the hot channels, or the number of another.
    fn channel(&self, i: usize) -> Result<usize, u64> {
        let bits = self.bits(i, Value::Channel);
        match below(bits, 2) {
            0 => Err(below(mix(bits), CHANNELS)),
            _ => Ok(below(mix(bits), HOT_CHANNELS.len() as u64) as usize),
        }
    }
}

fn pick<'a>(from: &[&'a str], bits: u64) -> &'a str {
    from[below(bits, from.len() as u64) as usize]
}

/// Prices are spread evenly over their orders of magnitude: 100 to 100 000 000 cents.
fn price(bits: u64) -> u64 {
    (10f64.powf(unit(bits) * 6.0) * 100.0).round() as u64
}

/// Three to `max - 1` letters, one of 13 a `gap`; no space at the ends.
fn push_words(out: &mut String, bits: u64, max: u64, gap: char) {
    let length = 3 + below(bits, max - 3);
    let start = out.len();
    let mut bits = bits;
    for n in 0..length {
        if n % 8 == 0 {
            bits = mix(bits);
        }
        let byte = bits >> (8 * (n % 8)) & 0xff;
        // Of 256 values 20 are a gap, the others letters.
        let c = if byte < 20 { gap } else { char::from(b'a' + ((byte - 20) % 26) as u8) };
        if !(c == ' ' && (out.len() == start || n + 1 == length)) {
            out.push(c);
        }
    }
    out.truncate(start.max(out.trim_end_matches(' ').len()));
}

/// Letters that bring an event with `others` bytes to about `average` of them.
fn push_extra(out: &mut String, bits: u64, others: usize, average: usize) {
    let Some(wanted) = average.checked_sub(others).filter(|w| *w > 0) else { return };
    let spread = (wanted as f64 * 0.2).round() as usize;
    let length = wanted - spread + below(bits, (2 * spread).max(1) as u64) as usize;
    let mut bits = bits;
    for n in 0..length {
        if n % 8 == 0 {
            bits = mix(bits);
        }
        out.push(char::from(b'a' + ((bits >> (8 * (n % 8)) & 0xff) % 26) as u8));
    }
}

//! Nexmark's texts: names, words, channels with their addresses, and what fills an event up to its size.

use super::config::Config;
use super::generator::Value;
use crate::datagen::sequence::{below, mix};
use std::io::Write;
use std::sync::OnceLock;

const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
/// Channels that are not hot.
const CHANNELS: u64 = 10_000;

/// Writes the texts of events. A channel is a number: those that are not hot first.
#[derive(Debug)]
pub(super) struct Texts {
    seed: u64,
    person_bytes: usize,
    auction_bytes: usize,
    bid_bytes: usize,
    /// Made when first asked for.
    channels: OnceLock<Channels>,
}

/// The names and addresses of all channels.
#[derive(Debug)]
struct Channels {
    names: Vec<Vec<u8>>,
    urls: Vec<Vec<u8>>,
}

impl Texts {
    pub(super) fn new(config: &Config) -> Self {
        let Config { seed, person_bytes, auction_bytes, bid_bytes, .. } = *config;
        Texts { seed, person_bytes, auction_bytes, bid_bytes, channels: OnceLock::new() }
    }

    /// One of the channels that are hot.
    pub(super) fn hot_channel(bits: u64) -> u32 {
        (CHANNELS + below(bits, HOT_CHANNELS.len() as u64)) as u32
    }

    /// One of the others.
    pub(super) fn other_channel(bits: u64) -> u32 {
        below(bits, CHANNELS) as u32
    }

    pub(super) fn channel(&self, number: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.channels().names[number as usize]);
    }

    pub(super) fn url(&self, number: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.channels().urls[number as usize]);
    }

    fn channels(&self) -> &Channels {
        self.channels.get_or_init(|| {
            let hot = HOT_CHANNELS.iter().map(|name| name.as_bytes().to_vec());
            let names = (0..CHANNELS).map(|number| format!("channel-{number}").into_bytes()).chain(hot).collect();
            let others = (0..CHANNELS).map(|number| url(mix(self.seed ^ (1000 + number)), Some(number)));
            let hot = (0..HOT_CHANNELS.len() as u64).map(|number| url(mix(self.seed ^ number), None));
            Channels { names, urls: others.chain(hot).collect() }
        })
    }

    /// About how many bytes `value` takes in an event, for those of which there are many.
    pub(super) fn size(&self, value: Value) -> usize {
        match value {
            Value::BidExtra => self.bid_bytes.min(256),
            Value::Url => 72,
            _ => 16,
        }
    }

    /// Writes `value` by its random bits and those of the event's other values.
    pub(super) fn write(&self, value: Value, bits: u64, other: &dyn Fn(Value) -> u64, out: &mut Vec<u8>) {
        use Value::*;
        let start = out.len();
        match value {
            PersonName => {
                push(out, pick(&FIRST_NAMES, bits));
                push(out, " ");
                push(out, pick(&LAST_NAMES, mix(bits)));
            }
            Email => {
                push_words(out, bits, 7, b' ');
                push(out, "@");
                push_words(out, mix(bits), 5, b' ');
                push(out, ".com");
            }
            CreditCard => {
                let number = below(bits, 10_000_000_000_000_000);
                let part = |n: u32| number / 10_000u64.pow(n) % 10_000;
                // Writing to memory doesn't fail.
                let _ = write!(out, "{:04} {:04} {:04} {:04}", part(3), part(2), part(1), part(0));
            }
            City => push(out, pick(&CITIES, bits)),
            State => push(out, pick(&STATES, bits)),
            ItemName => push_words(out, bits, 20, b' '),
            Description => push_words(out, bits, 100, b' '),
            PersonExtra => {
                [PersonName, Email, CreditCard, City, State]
                    .into_iter()
                    .for_each(|v| self.write(v, other(v), other, out));
                let others = out.len() - start + 8;
                out.truncate(start);
                push_extra(out, bits, others, self.person_bytes);
            }
            AuctionExtra => {
                [ItemName, Description].into_iter().for_each(|v| self.write(v, other(v), other, out));
                let others = out.len() - start + 48;
                out.truncate(start);
                push_extra(out, bits, others, self.auction_bytes);
            }
            BidExtra => push_extra(out, bits, 32, self.bid_bytes),
            Channel | Url | PersonId | AuctionId | InitialBid | Reserve | Expires | Seller | Category | BidAuction
            | Bidder | Price | DateTime => {}
        }
    }
}

/// A channel's address never changes: it depends on the channel alone. Hot ones have no number.
fn url(bits: u64, number: Option<u64>) -> Vec<u8> {
    let mut bits = bits;
    let mut out = b"https://www.nexmark.com/".to_vec();
    for _ in 0..3 {
        push_words(&mut out, bits, 5, b'_');
        push(&mut out, "/");
        bits = mix(bits);
    }
    push(&mut out, "item.htm?query=1");
    if let Some(number) = number
        && below(bits, 10) > 0
    {
        let reversed = (number as u32).reverse_bits() as i32;
        push(&mut out, &format!("&channel_id={}", reversed.wrapping_abs()));
    }
    out
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn pick<'a>(from: &[&'a str], bits: u64) -> &'a str {
    from[below(bits, from.len() as u64) as usize]
}

/// Three to `max - 1` letters, one of 13 a `gap`; no space at the ends.
fn push_words(out: &mut Vec<u8>, bits: u64, max: u64, gap: u8) {
    let length = 3 + below(bits, max - 3);
    let start = out.len();
    let mut bits = bits;
    for n in 0..length {
        if n % 8 == 0 {
            bits = mix(bits);
        }
        let byte = bits >> (8 * (n % 8)) & 0xff;
        // Of 256 values 20 are a gap, the others letters.
        let c = if byte < 20 { gap } else { b'a' + ((byte - 20) % 26) as u8 };
        if !(c == b' ' && (out.len() == start || n + 1 == length)) {
            out.push(c);
        }
    }
    while out.len() > start && out.last() == Some(&b' ') {
        out.pop();
    }
}

/// Letters that bring an event with `others` bytes to about `average` of them.
fn push_extra(out: &mut Vec<u8>, bits: u64, others: usize, average: usize) {
    let Some(wanted) = average.checked_sub(others).filter(|w| *w > 0) else { return };
    // A fifth, rounded.
    let spread = (wanted + 2) / 5;
    let length = wanted - spread + below(bits, (2 * spread).max(1) as u64) as usize;
    let mut buffer = [0; 128];
    let mut seeds = (1u64..).map(|n| bits.wrapping_add(n));
    let mut missing = length;
    while missing > 0 {
        let count = missing.min(buffer.len());
        let (words, _) = buffer.as_chunks_mut::<8>();
        for (word, seed) in words[..count.div_ceil(8)].iter_mut().zip(&mut seeds) {
            *word = letters(mix(seed)).to_le_bytes();
        }
        out.extend_from_slice(&buffer[..count]);
        missing -= count;
    }
}

/// Eight letters in the bytes of a number, each from eight bits: `bits * 26 / 256` above `a`.
fn letters(bits: u64) -> u64 {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    let even = (((bits & EVEN) * 26) >> 8) & EVEN;
    let odd = (((bits >> 8) & EVEN) * 26) & !EVEN;
    (even | odd) + 0x6161_6161_6161_6161
}

//! Random queries: what Millstream's changes add up to, over epochs, crashes and any parallelism, is what DataFusion
//! answers over the same rows at once.

mod case;
mod engine;
mod generate;
mod query;
mod reference;
mod tables;

use case::{Case, Verdict};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many seeds are tried, unless `MILLSTREAM_SEEDS` says `COUNT` or `FIRST..LAST`; the case of a single one is shown.
const SEEDS: u64 = 2000;
/// After so many failures no more are looked for.
const FAILURES: usize = 8;
/// Plans of queries nest deeply where nothing is optimised.
const STACK_BYTES: usize = 256 << 20;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("MILLSTREAM_SEEDS") else { return 0..SEEDS };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("MILLSTREAM_SEEDS is COUNT or FIRST..LAST"));
    match text.split_once("..") {
        Some((first, last)) => number(first)..number(last),
        None => 0..number(&text),
    }
}

#[derive(Default)]
struct Tally {
    agreed: u64,
    refused: BTreeMap<String, u64>,
    unanswered: BTreeMap<String, u64>,
    failed: Vec<String>,
}

fn try_seed(seed: u64, tally: &Mutex<Tally>, shows: bool) {
    let case = Case::generate(seed);
    if shows {
        println!("{}", case.report());
    }
    let verdict = case.check();
    let first_line = |text: &str| text.lines().take(3).collect::<Vec<_>>().join(" ");
    match verdict {
        Verdict::Agree => tally.lock().unwrap().agreed += 1,
        Verdict::Refused(text) => {
            *tally.lock().unwrap().refused.entry(format!("{} (seed {seed})", first_line(&text))).or_default() += 1;
        }
        Verdict::NoReference(text) => {
            *tally.lock().unwrap().unanswered.entry(format!("{} (seed {seed})", first_line(&text))).or_default() += 1;
        }
        Verdict::Failed(failure) => {
            let (case, failure) = case.shrink(failure);
            let again = format!("MILLSTREAM_SEEDS={seed}..{} cargo test --manifest-path oracle/Cargo.toml", seed + 1);
            let text =
                format!("seed {seed}: {}\n{}\n\n{}\nagain: {again}\n", failure.class, failure.text, case.report());
            tally.lock().unwrap().failed.push(text);
        }
    }
}

#[test]
fn streaming_results_add_up_to_the_answers_of_a_batch_engine() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let tally = Mutex::new(Tally::default());
    let work = || {
        while tally.lock().unwrap().failed.len() < FAILURES {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            try_seed(seed, &tally, seeds.end - seeds.start == 1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).unwrap();
        }
    });
    let tally = tally.into_inner().unwrap();
    assert!(tally.failed.is_empty(), "{}", tally.failed.join("\n"));
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    let (refused, unanswered) = (sum(&tally.refused), sum(&tally.unanswered));
    println!("{} agreed, {refused} refused, {unanswered} without reference", tally.agreed);
    let all = tally.agreed + refused + unanswered;
    let shown = || format!("{:#?}\n{:#?}", tally.refused, tally.unanswered);
    assert!((refused + unanswered) * 10 <= all, "of {all} queries too few could be compared:\n{}", shown());
}

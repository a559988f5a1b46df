//! One random case: made from a seed, checked, and cut smaller while it fails.

use crate::engine::{self, Run};
use crate::generate::Generator;
use crate::query::{Dialect, Query};
use crate::reference;
use crate::tables::Table;
use millstream_core::ErrorKind;
use millstream_trial::{Crash, Folded};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::fmt::Write;

/// Tables, a query, and the ways to run it.
#[derive(Clone, Debug)]
pub struct Case {
    pub tables: Vec<Table>,
    pub query: Query,
    /// So many columns are the result's key.
    pub keys: Option<usize>,
    pub runs: Vec<Run>,
}

/// What came of a case.
#[derive(Clone, Debug)]
pub enum Verdict {
    Agree,
    /// Millstream says that it can't run the script.
    Refused(String),
    /// DataFusion can't.
    NoReference(String),
    Failed(Failure),
}

#[derive(Clone, Debug)]
pub struct Failure {
    /// Failures of one class are taken for the same one.
    pub class: String,
    pub text: String,
}

/// How many cases a failure is tried on at most, to make it small.
const ATTEMPTS: usize = 1500;

impl Case {
    pub fn generate(seed: u64) -> Case {
        let mut rng = SmallRng::seed_from_u64(seed);
        let tables: Vec<Table> = (0..3).map(|i| Table::generate(&mut rng, &format!("t{i}"))).collect();
        let (query, keys) = Generator::new(&mut rng, &tables).query();
        let runs = vec![Run::generate(&mut rng, tables.len(), false), Run::generate(&mut rng, tables.len(), true)];
        Case { tables, query, keys, runs }
    }

    pub fn check(&self) -> Verdict {
        let [plain, others @ ..] = reference::DISPUTED;
        let mut expected = match reference::answer(&self.tables, &self.query, plain) {
            Ok(expected) => expected,
            Err(error) => return Verdict::NoReference(error),
        };
        for run in &self.runs {
            match engine::answer(&self.tables, &self.query, self.keys, run) {
                Ok(actual) if actual == expected => {}
                // Where the reference disagrees with itself, one of its answers is enough, the same one for all runs.
                Ok(actual)
                    if std::ptr::eq(run, &self.runs[0])
                        && others
                            .iter()
                            .any(|rules| reference::answer(&self.tables, &self.query, rules) == Ok(actual.clone())) =>
                {
                    expected = actual;
                }
                Ok(actual) => {
                    let text = format!("{}with {run:?}", difference(&expected, &actual));
                    return Verdict::Failed(Failure { class: "another answer".into(), text });
                }
                Err(error) if matches!(error.kind(), ErrorKind::Script | ErrorKind::Unsupported) => {
                    return Verdict::Refused(error.to_string());
                }
                Err(error) => {
                    let class = format!("{:?}: {}", error.kind(), error.message());
                    return Verdict::Failed(Failure { class, text: format!("{error}\nwith {run:?}") });
                }
            }
        }
        Verdict::Agree
    }

    /// The smallest case found that fails in the same way.
    pub fn shrink(self, failure: Failure) -> (Case, Failure) {
        let (mut case, mut failure) = (self, failure);
        let mut attempts = 0;
        'smaller: loop {
            for candidate in case.smaller() {
                attempts += 1;
                if attempts > ATTEMPTS {
                    return (case, failure);
                }
                if let Verdict::Failed(same) = candidate.check()
                    && same.class == failure.class
                {
                    (case, failure) = (candidate, same);
                    continue 'smaller;
                }
            }
            return (case, failure);
        }
    }

    fn smaller(&self) -> Vec<Case> {
        let mut all = vec![];
        if self.runs.len() > 1 {
            all.extend(self.runs.iter().map(|run| Case { runs: vec![run.clone()], ..self.clone() }));
        }
        if let [run] = self.runs.as_slice() {
            all.extend(run.smaller().into_iter().map(|run| Case { runs: vec![run], ..self.clone() }));
        }
        let is_keyed = |query: &Query, keys: usize| match query {
            Query::Select(select) => select
                .group
                .as_ref()
                .is_some_and(|group| group.len() == keys && select.items.get(..keys) == Some(group.as_slice())),
            Query::Set { .. } => false,
        };
        for query in self.query.smaller() {
            let keys = self.keys.filter(|keys| is_keyed(&query, *keys));
            all.push(Case { query, keys, ..self.clone() });
        }
        if self.keys.is_some() {
            all.push(Case { keys: None, ..self.clone() });
        }
        for (i, table) in self.tables.iter().enumerate() {
            let mut entities: Vec<usize> = table.changes.iter().map(|change| change.entity).collect();
            entities.sort_unstable();
            entities.dedup();
            let half = entities.len() / 2;
            let mut drops: Vec<&[usize]> = vec![];
            if half > 1 {
                drops.extend([&entities[..half], &entities[half..]]);
            }
            drops.extend(entities.chunks(1));
            for drop in drops {
                let mut tables = self.tables.clone();
                tables[i].changes.retain(|change| !drop.contains(&change.entity));
                all.push(Case { tables, ..self.clone() });
            }
        }
        all
    }

    /// All of it, for a person.
    pub fn report(&self) -> String {
        let mut text = engine::script(&self.tables, &self.query);
        let _ = writeln!(text, "\nin the reference:\n{}\n\nrows:", self.query.sql(Dialect::Theirs));
        self.tables.iter().for_each(|table| text.push_str(&table.text()));
        text
    }
}

impl Run {
    fn generate(rng: &mut SmallRng, tables: usize, crashes: bool) -> Run {
        let count = rng.random_range(1..=5);
        let mut epochs: Vec<Vec<usize>> = vec![vec![1000; tables]; count];
        for table in 0..tables {
            let mut parts: Vec<usize> = (1..count).map(|_| rng.random_range(0..=1000)).collect();
            parts.sort_unstable();
            parts.iter().enumerate().for_each(|(i, part)| epochs[i][table] = *part);
        }
        let mut after: Vec<usize> = match crashes {
            true => (0..rng.random_range(1..=2)).map(|_| rng.random_range(0..=count)).collect(),
            false => vec![],
        };
        after.sort_unstable();
        after.dedup();
        let crashes = after.into_iter().map(|after| Crash { after, workers: rng.random_range(1..=3) }).collect();
        Run { workers: rng.random_range(1..=3), batch_rows: [1, 2, 7, 8192][rng.random_range(0..4)], epochs, crashes }
    }

    fn smaller(&self) -> Vec<Run> {
        let mut all = vec![];
        if self.epochs.len() > 1 && self.crashes.is_empty() {
            all.push(Run { epochs: vec![self.epochs[self.epochs.len() - 1].clone()], ..self.clone() });
        }
        for i in 0..self.crashes.len() {
            all.push(Run { crashes: [&self.crashes[..i], &self.crashes[i + 1..]].concat(), ..self.clone() });
        }
        if self.workers > 1 {
            all.push(Run { workers: self.workers - 1, ..self.clone() });
        }
        for i in 0..self.crashes.len() {
            if self.crashes[i].workers > 1 {
                let mut run = self.clone();
                run.crashes[i].workers -= 1;
                all.push(run);
            }
        }
        for i in 0..self.epochs.len().saturating_sub(1) {
            let mut run = self.clone();
            run.epochs.remove(i);
            run.crashes.iter_mut().filter(|crash| crash.after > i).for_each(|crash| crash.after -= 1);
            run.crashes.dedup_by_key(|crash| crash.after);
            all.push(run);
        }
        if self.batch_rows != 8192 {
            all.push(Run { batch_rows: 8192, ..self.clone() });
        }
        all
    }
}

fn difference(expected: &Folded, actual: &Folded) -> String {
    let mut text = String::new();
    let mut rows: Vec<&String> = expected.keys().chain(actual.keys()).collect();
    rows.sort();
    rows.dedup();
    for row in rows {
        let (e, a) = (expected.get(row).unwrap_or(&0), actual.get(row).unwrap_or(&0));
        if e != a {
            let _ = writeln!(text, "  expected {e}, got {a}: {row}");
        }
    }
    text
}

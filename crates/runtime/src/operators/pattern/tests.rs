//! The search against a brute-force matcher: for each first row all ways to map rows to variables, checked as a whole.

use crate::operators::testing::{column, times};
use crate::operators::window_tests::{Job, text};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::Int64Type;
use millstream_core::expr::{Columnar, EvalContext};
use millstream_core::graph::*;
use millstream_core::operator::Progress;
use millstream_core::pattern::*;
use millstream_core::{Batch, DataType, Expr, ExprRef, Field, Result, Schema, TypeKind, Watermark};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Time, key, value.
type Row = (i64, Option<i64>, Option<i64>);

/// The columns: time, key, value, and the row's number in the order of arrival.
const WIDTH: usize = 4;

fn bigint() -> DataType {
    TypeKind::BigInt.nullable()
}

fn input() -> Schema {
    let mut fields = vec![Field::new("t", TypeKind::Timestamp(3).nullable())];
    fields.extend(["k", "v", "id"].map(|name| Field::new(name, bigint())));
    Schema::new(fields)
}

fn batch(rows: &[(i64, Row)]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        times(&rows.iter().map(|r| r.1.0).collect::<Vec<_>>()),
        Arc::new(rows.iter().map(|r| r.1.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.1.2).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>()),
    ];
    Batch::from_columns(input().arrow().clone(), columns, rows.len()).unwrap()
}

/// What a variable asks of a row.
#[derive(Clone, Copy, Debug)]
enum Condition {
    Always,
    /// The value is below this.
    Below(i64),
    /// The value is above this.
    Above(i64),
    /// The value is above that of the last row of a variable.
    AboveLast(usize),
    /// The value is below that of the row `offset` before the last of all.
    BelowEarlier(u32),
    /// The value is above that of the variable's own first row, or it is that row.
    FromFirst,
    /// The sum of the variable's own rows, with this one, is below this.
    SumBelow(i64),
    /// So many rows at most, of all variables.
    AtMost(i64),
}

/// A BOOLEAN over BIGINT columns.
#[derive(Debug)]
struct Test {
    args: Vec<ExprRef>,
    condition: Condition,
}

const BOOLEAN: DataType = DataType { kind: TypeKind::Boolean, nullable: true };

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.condition)
    }
}

impl Expr for Test {
    fn data_type(&self) -> &DataType {
        &BOOLEAN
    }
    fn evaluate(&self, batch: &Batch, eval: &EvalContext) -> Result<Columnar> {
        let arrays = self
            .args
            .iter()
            .map(|a| a.evaluate(batch, eval)?.into_array(batch.num_rows()))
            .collect::<Result<Vec<_>>>()?;
        let value = |row: usize| {
            let cell = |a: &ArrayRef| a.is_valid(row).then(|| a.as_primitive::<Int64Type>().value(row));
            judge(self.condition, &arrays.iter().map(cell).collect::<Vec<_>>())
        };
        Ok(Columnar::Array(Arc::new((0..batch.num_rows()).map(value).collect::<BooleanArray>())))
    }
    fn children(&self) -> Vec<&ExprRef> {
        self.args.iter().collect()
    }
    fn with_children(&self, args: Vec<ExprRef>) -> ExprRef {
        Arc::new(Test { args, condition: self.condition })
    }
}

/// The condition over the value and what it reads beside it.
fn judge(condition: Condition, args: &[Option<i64>]) -> Option<bool> {
    match condition {
        Condition::Always => Some(true),
        Condition::Below(limit) => Some(args[0]? < limit),
        Condition::Above(limit) => Some(args[0]? > limit),
        Condition::AboveLast(_) => Some(args[0]? > args[1]?),
        Condition::BelowEarlier(_) => Some(args[0]? < args[1]?),
        Condition::FromFirst => Some(args[0]? >= args[1]?),
        Condition::SumBelow(limit) => Some(args[0]? < limit),
        Condition::AtMost(limit) => Some(args[0]? <= limit),
    }
}

#[derive(Clone, Debug)]
struct Variable {
    min: u32,
    max: Option<u32>,
    greedy: bool,
    condition: Condition,
}

#[derive(Clone, Debug)]
struct Pattern {
    variables: Vec<Variable>,
    skip: AfterMatch,
    within: Option<i64>,
    keyed: bool,
    by_value: bool,
}

fn call(function: AggregateFunction) -> AggregateCall {
    AggregateCall {
        function,
        args: vec![2],
        arg_types: vec![bigint()],
        distinct: false,
        filter: None,
        result: bigint(),
    }
}

fn job(search: MatchRecognize) -> Job {
    let mut types = vec![bigint(); search.keys.len()];
    types.extend(search.measures.iter().map(|m| m.data_type().clone()));
    let fields = types.into_iter().enumerate().map(|(i, t)| Field::new(format!("m{i}"), t));
    let output = Schema::new(fields.collect());
    Job::new(OperatorSpec::Match(search), input(), output)
}

impl Pattern {
    fn search(&self) -> MatchRecognize {
        let mut define = vec![];
        let mut made = |wanted: MatchColumn| {
            define.push(wanted);
            column(WIDTH + define.len() - 1, bigint())
        };
        let row = |variable, from_last, offset| MatchColumn::Row { variable, from_last, offset, column: 2 };
        let mut variables = vec![];
        for (number, v) in self.variables.iter().enumerate() {
            let value = column(2, bigint());
            let args = match v.condition {
                Condition::Always => None,
                Condition::Below(_) | Condition::Above(_) => Some(vec![value]),
                Condition::AboveLast(of) => Some(vec![value, made(row(Some(of), true, 0))]),
                Condition::BelowEarlier(offset) => Some(vec![value, made(row(None, true, offset))]),
                Condition::FromFirst => Some(vec![value, made(row(Some(number), false, 0))]),
                Condition::SumBelow(_) => {
                    let call = call(AggregateFunction::Sum);
                    Some(vec![made(MatchColumn::Aggregate { variable: Some(number), call })])
                }
                Condition::AtMost(_) => {
                    let call = AggregateCall { args: vec![], arg_types: vec![], ..call(AggregateFunction::Count) };
                    Some(vec![made(MatchColumn::Aggregate { variable: None, call })])
                }
            };
            let condition = args.map(|args| Arc::new(Test { args, condition: v.condition }) as ExprRef);
            let (min, max, greedy) = (v.min, v.max, v.greedy);
            variables.push(PatternVariable { name: format!("V{number}"), min, max, greedy, condition });
        }
        let id = |variable, from_last| MatchColumn::Row { variable, from_last, offset: 0, column: 3 };
        let mut measure_columns = vec![id(None, false), id(None, true)];
        for number in 0..variables.len() {
            measure_columns.push(id(Some(number), false));
            let call = AggregateCall { args: vec![3], ..call(AggregateFunction::Count) };
            measure_columns.push(MatchColumn::Aggregate { variable: Some(number), call });
        }
        measure_columns.push(MatchColumn::Aggregate { variable: None, call: call(AggregateFunction::Sum) });
        let measures = (0..measure_columns.len()).map(|i| column(i, bigint())).collect();
        MatchRecognize {
            keys: self.keys(),
            time: WindowTime::Event { column: 0 },
            order: match self.by_value {
                true => vec![SortColumn { column: 2, descending: true, nulls_first: false }],
                false => vec![],
            },
            variables,
            define_columns: define,
            measure_columns,
            measures,
            skip: self.skip,
            within_ms: self.within,
        }
    }

    fn keys(&self) -> Vec<usize> {
        if self.keyed { vec![1] } else { vec![] }
    }

    fn job(&self) -> Job {
        job(self.search())
    }

    /// Whether a row of this number can be mapped to a variable after `before` has been mapped.
    fn fits(&self, variable: usize, rows: &[Row], before: &[usize]) -> bool {
        let (row, earlier) = (rows[before.len()], &rows[..before.len()]);
        let mut all: Vec<(usize, Option<i64>)> = before.iter().copied().zip(earlier.iter().map(|r| r.2)).collect();
        all.push((variable, row.2));
        let of = |wanted: usize| all.iter().filter(move |(v, _)| *v == wanted).map(|(_, value)| *value);
        let args = match self.variables[variable].condition {
            Condition::Always => vec![],
            Condition::Below(_) | Condition::Above(_) => vec![row.2],
            Condition::AboveLast(wanted) => vec![row.2, of(wanted).next_back().flatten()],
            Condition::BelowEarlier(offset) => {
                vec![row.2, all.iter().rev().nth(offset as usize).and_then(|(_, value)| *value)]
            }
            Condition::FromFirst => vec![row.2, of(variable).next().flatten()],
            Condition::SumBelow(_) => {
                let known: Vec<i64> = of(variable).flatten().collect();
                vec![(!known.is_empty()).then(|| known.iter().sum())]
            }
            Condition::AtMost(_) => vec![Some(all.len() as i64)],
        };
        judge(self.variables[variable].condition, &args) == Some(true)
    }

    /// Whether a variable keeps a row that fits it from the next one.
    fn keeps(&self, variable: usize) -> bool {
        let v = &self.variables[variable];
        v.greedy && v.max != Some(v.min) && (v.min, v.max) != (0, Some(1))
    }

    /// Whether the first rows can be mapped like this.
    fn is_valid(&self, rows: &[Row], mapped: &[usize]) -> bool {
        (0..mapped.len()).all(|at| {
            let (before, to) = (&mapped[..at], mapped[at]);
            let count = |v: usize| before.iter().filter(|m| **m == v).count() as u32;
            let from = before.last().copied();
            let first_passed = from.unwrap_or(0);
            let enough = (first_passed..to).all(|v| count(v) >= self.variables[v].min);
            let room = self.variables[to].max.is_none_or(|max| count(to) < max);
            let kept = (first_passed..to).any(|v| self.keeps(v) && self.fits(v, rows, before));
            let in_time = self.within.is_none_or(|within| rows[at].0 - rows[0].0 < within);
            enough && room && !kept && in_time && self.fits(to, rows, before)
        })
    }

    fn is_complete(&self, rows: &[Row], mapped: &[usize]) -> bool {
        let Some((last, before)) = mapped.split_last() else { return false };
        let count = mapped.iter().filter(|m| *m == last).count() as u32;
        let rest = *last + 1..self.variables.len();
        count >= self.variables[*last].min
            && rest.clone().all(|v| self.variables[v].min == 0)
            && !rest.into_iter().any(|v| self.keeps(v - 1) && self.fits(v - 1, rows, before))
    }

    /// All ways to map one more row, in order.
    fn extend(&self, rows: &[Row], mappings: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
        let longer = |m: Vec<usize>| {
            let from = m.last().copied().unwrap_or(0);
            (from..self.variables.len()).map(move |v| [m.as_slice(), &[v]].concat())
        };
        mappings.into_iter().flat_map(longer).filter(|m| self.is_valid(rows, m)).collect()
    }

    /// The match that starts at the first row; `Err`: whether more rows could make one.
    fn first_match(&self, rows: &[Row]) -> Result<Vec<usize>, bool> {
        let last = self.variables.len() - 1;
        let mut mappings = vec![vec![]];
        for len in 1..=rows.len() {
            mappings = self.extend(rows, mappings);
            if let Some(found) = mappings.iter().find(|m| self.is_complete(rows, m)) {
                return Ok(found.clone());
            }
            if mappings.is_empty() {
                return Err(false);
            }
            if len == rows.len() {
                let is_full = |m: &Vec<usize>| {
                    let count = m.iter().filter(|v| **v == last).count() as u32;
                    self.variables[last].max == Some(count)
                };
                return Err(self.within.is_none() && !mappings.iter().all(is_full));
            }
        }
        Err(true)
    }

    /// All matches in the rows of one key, as lines.
    fn oracle(&self, key: Option<i64>, rows: &[(i64, Row)]) -> Vec<String> {
        let plain: Vec<Row> = rows.iter().map(|r| r.1).collect();
        let (mut lines, mut at) = (vec![], 0);
        while at < rows.len() {
            let mapped = match self.first_match(&plain[at..]) {
                Ok(mapped) => mapped,
                Err(true) => break,
                Err(false) => {
                    at += 1;
                    continue;
                }
            };
            let show = |v: Option<i64>| v.map_or("-".to_string(), |v| v.to_string());
            let mut cells = if self.keyed { vec![show(key)] } else { vec![] };
            cells.extend([rows[at].0.to_string(), rows[at + mapped.len() - 1].0.to_string()]);
            for v in 0..self.variables.len() {
                let first = mapped.iter().position(|m| *m == v);
                cells.push(show(first.map(|i| rows[at + i].0)));
                cells.push(mapped.iter().filter(|m| **m == v).count().to_string());
            }
            let known: Vec<i64> = plain[at..at + mapped.len()].iter().filter_map(|r| r.2).collect();
            cells.push(show((!known.is_empty()).then(|| known.iter().sum())));
            lines.push(cells.join("|"));
            at += match self.skip {
                AfterMatch::ToNextRow => 1,
                AfterMatch::PastLastRow => mapped.len(),
                AfterMatch::ToFirst(v) => mapped.iter().position(|m| *m == v).unwrap(),
                AfterMatch::ToLast(v) => mapped.iter().rposition(|m| *m == v).unwrap(),
            };
        }
        lines
    }
}

#[derive(Clone, Debug)]
enum Step {
    Rows(Vec<Row>),
    Watermark(i64),
    Restore(usize),
}

/// The lines of all matches and the number of late rows.
fn expected(pattern: &Pattern, steps: &[Step]) -> (Vec<String>, u64) {
    let (mut watermark, mut late, mut id) = (i64::MIN, 0, 0);
    let mut keys: BTreeMap<Option<i64>, Vec<(i64, Row)>> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Rows(rows) => {
                for row in rows {
                    match row.0 <= watermark {
                        true => late += 1,
                        false => {
                            keys.entry(row.1.filter(|_| pattern.keyed)).or_default().push((id, *row));
                        }
                    }
                    id += 1;
                }
            }
            Step::Watermark(w) => watermark = watermark.max(*w),
            Step::Restore(_) => {}
        }
    }
    let mut lines = vec![];
    for (key, mut rows) in keys {
        let value = |row: &Row| if pattern.by_value { row.2.map_or(i64::MAX, |v| -v) } else { 0 };
        rows.sort_by_key(|(id, row)| (row.0, value(row), *id));
        lines.extend(pattern.oracle(key, &rows));
    }
    lines.sort();
    (lines, late)
}

fn drive(pattern: &Pattern, steps: &[Step], one_by_one: bool) -> (Vec<String>, u64) {
    let mut job = pattern.job();
    let (mut highest, mut id) = (i64::MIN, 0);
    for step in steps {
        match step {
            Step::Rows(rows) => {
                let numbered: Vec<(i64, Row)> = (id..).zip(rows.iter().copied()).collect();
                id += rows.len() as i64;
                let size = if one_by_one { 1 } else { numbered.len().max(1) };
                numbered.chunks(size).for_each(|part| job.rows(&batch(part), &pattern.keys()));
            }
            Step::Watermark(w) => {
                highest = highest.max(*w);
                job.watermark(highest);
            }
            Step::Restore(count) => job.restart(*count),
        }
    }
    job.watermark(i64::MAX);
    (text(&job.sink.0), job.metrics.late_rows.load(Ordering::Relaxed))
}

fn conditions(number: usize) -> impl Strategy<Value = Condition> {
    prop_oneof![
        2 => Just(Condition::Always),
        3 => (0i64..8).prop_map(Condition::Below),
        3 => (0i64..6).prop_map(Condition::Above),
        2 => (0..number.max(1)).prop_map(Condition::AboveLast),
        1 => (1u32..3).prop_map(Condition::BelowEarlier),
        1 => Just(Condition::FromFirst),
        1 => (2i64..16).prop_map(Condition::SumBelow),
        1 => (1i64..5).prop_map(Condition::AtMost),
    ]
}

fn quantifiers() -> impl Strategy<Value = (u32, Option<u32>, bool)> {
    prop_oneof![
        3 => Just((1, Some(1), true)),
        2 => (0u32..2, any::<bool>()).prop_map(|(min, greedy)| (min, None, greedy)),
        1 => Just((0, Some(1), true)),
        1 => (0u32..3, 1u32..3, any::<bool>()).prop_map(|(min, more, greedy)| (min, Some(min + more), greedy)),
        1 => (1u32..3).prop_map(|n| (n, Some(n), true)),
        1 => (2u32..3, any::<bool>()).prop_map(|(min, greedy)| (min, None, greedy)),
    ]
}

fn patterns() -> impl Strategy<Value = Pattern> {
    let variable = |number: usize| {
        (quantifiers(), conditions(number)).prop_map(|((min, max, greedy), condition)| Variable {
            min,
            max,
            greedy,
            condition,
        })
    };
    let variables = (1usize..5).prop_flat_map(move |count| (0..count).map(variable).collect::<Vec<_>>());
    let skip = prop_oneof![
        2 => Just(AfterMatch::ToNextRow),
        2 => Just(AfterMatch::PastLastRow),
        1 => (0usize..4).prop_map(AfterMatch::ToFirst),
        1 => (0usize..4).prop_map(AfterMatch::ToLast),
    ];
    let limits = (skip, prop::option::weighted(0.4, 2i64..20), any::<bool>(), prop::bool::weighted(0.3));
    (variables, limits).prop_filter_map("a pattern that can be searched for", |(variables, limits)| {
        let (skip, within, keyed, by_value) = limits;
        let mut pattern = Pattern { variables, skip, within, keyed, by_value };
        let last = pattern.variables.len() - 1;
        if pattern.keeps(last) {
            pattern.variables[last].greedy = false;
        }
        if pattern.variables.iter().all(|v| v.min == 0) {
            return None;
        }
        // What can't be skipped to fails the job: a test of its own.
        let can_skip_to =
            |v: usize| (1..=last).contains(&v) && pattern.variables[v].min > 0 && pattern.variables[0].min > 0;
        match pattern.skip {
            AfterMatch::ToFirst(v) | AfterMatch::ToLast(v) if !can_skip_to(v) => pattern.skip = AfterMatch::PastLastRow,
            _ => {}
        }
        Some(pattern)
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0i64..60, prop::option::weighted(0.9, 0i64..3), prop::option::weighted(0.9, 0i64..8));
    let step = prop_oneof![
        4 => prop::collection::vec(row, 0..8).prop_map(Step::Rows),
        2 => (-5i64..60).prop_map(Step::Watermark),
        1 => (1usize..4).prop_map(Step::Restore),
    ];
    prop::collection::vec(step, 0..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn matches_are_those_that_brute_force_finds(pattern in patterns(), steps in steps()) {
        prop_assert_eq!(drive(&pattern, &steps, false), expected(&pattern, &steps));
    }

    #[test]
    fn matches_dont_depend_on_batches_watermarks_and_restores(pattern in patterns(), steps in steps()) {
        let all = drive(&pattern, &steps, false);
        prop_assert_eq!(drive(&pattern, &steps, true), all.clone());
        let restored: Vec<Step> =
            steps.iter().enumerate().flat_map(|(i, s)| [s.clone(), Step::Restore(i % 3 + 1)]).collect();
        prop_assert_eq!(drive(&pattern, &restored, false), all);
    }
}

fn variable(min: u32, max: Option<u32>, greedy: bool, condition: Condition) -> Variable {
    Variable { min, max, greedy, condition }
}

fn pattern(variables: Vec<Variable>, skip: AfterMatch, within: Option<i64>) -> Pattern {
    Pattern { variables, skip, within, keyed: true, by_value: false }
}

/// A row above 4, then any number below 6, then one above 6.
fn rising(skip: AfterMatch, within: Option<i64>) -> Pattern {
    let loop_ = variable(0, None, true, Condition::Below(6));
    let one = |condition| variable(1, Some(1), true, condition);
    pattern(vec![one(Condition::Above(4)), loop_, one(Condition::Above(6))], skip, within)
}

fn hashed(i: i64) -> i64 {
    i.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407).rotate_left(23)
}

/// Once a watermark has come, the rows that are due are state: whatever is called before it is asked for again.
#[test]
fn a_watermark_may_be_interrupted() {
    let rows: Vec<Row> = (0..30_000i64).map(|i| (i / 2, Some(i % 2), Some(hashed(i).rem_euclid(9)))).collect();
    let later: Vec<Row> = (0..2_000i64).map(|i| (15_000 + i, Some(i % 3), Some(hashed(i).rem_euclid(8)))).collect();
    let steps = [Step::Rows(rows.clone()), Step::Watermark(14_999), Step::Rows(later.clone())];
    let pattern = rising(AfterMatch::PastLastRow, None);
    let expected = expected(&pattern, &steps);
    assert!(expected.0.len() > 1_000);
    for count in [1, 3] {
        let mut job = pattern.job();
        let mut id = 0;
        let mut numbered = |rows: &[Row]| {
            let numbered: Vec<(i64, Row)> = (id..).zip(rows.iter().copied()).collect();
            id += rows.len() as i64;
            batch(&numbered)
        };
        job.rows(&numbered(&rows), &[1]);
        let once = |job: &mut Job| {
            let mut progress = Progress::Done;
            job.each(|o, ctx| {
                progress = o.on_watermark(Watermark(14_999), ctx)?;
                Ok(Progress::Done)
            });
            progress
        };
        assert_eq!(once(&mut job), Progress::More);
        job.restart(count);
        job.rows(&numbered(&later), &[1]);
        let _ = once(&mut job);
        job.restart(1);
        job.watermark(i64::MAX);
        assert_eq!((text(&job.sink.0), 0), expected);
    }
}

/// Keys come and go: neither in memory nor in the checkpoint is anything left of those that have gone.
#[test]
fn keys_are_forgotten_with_their_last_match() {
    let pattern = rising(AfterMatch::ToNextRow, Some(40));
    let mut steps = vec![];
    for round in 0..6i64 {
        let row = |i: i64| (round * 100 + i % 7, Some(round * 3_000 + i / 2), Some(hashed(i + round).rem_euclid(9)));
        steps.extend([Step::Rows((0..6_000).map(row).collect()), Step::Watermark(round * 100 + 60)]);
        steps.push(Step::Restore(round as usize % 3 + 1));
    }
    assert_eq!(drive(&pattern, &steps, false), expected(&pattern, &steps));
    let mut job = pattern.job();
    for step in &steps {
        match step {
            Step::Rows(rows) => job.rows(&batch(&rows.iter().map(|r| (0, *r)).collect::<Vec<_>>()), &[1]),
            Step::Watermark(w) => job.watermark(*w),
            Step::Restore(count) => {
                job.restart(*count);
                assert_eq!(job.stored_rows(), 0, "the watermark is past all that may match");
            }
        }
    }
}

/// The search of [`rising`]'s kind that gives the match's time, too.
fn with_time(pattern: &Pattern) -> MatchRecognize {
    let mut search = pattern.search();
    search.measure_columns = vec![
        MatchColumn::Row { variable: None, from_last: false, offset: 0, column: 3 },
        MatchColumn::Row { variable: None, from_last: true, offset: 0, column: 3 },
        MatchColumn::RowTime { local_time_zone: false },
    ];
    let time: DataType = TypeKind::Timestamp(3).not_null();
    search.measures = vec![column(0, bigint()), column(1, bigint()), column(2, time)];
    search
}

#[test]
fn a_match_that_waited_has_the_time_at_which_an_earlier_one_was_decided() {
    let any = |min, max| variable(min, max, false, Condition::Always);
    let higher = variable(1, Some(1), true, Condition::AboveLast(0));
    let variables = vec![any(1, Some(1)), any(0, None), higher];
    let mut pattern = pattern(variables, AfterMatch::ToNextRow, Some(50));
    pattern.keyed = false;
    let time = |ms: i64| arrow::util::display::array_value_to_string(&times(&[ms]), 0).unwrap();
    let rows: Vec<(i64, Row)> =
        [(0, 8), (10, 7), (20, 8), (30, 9)].into_iter().zip(0..).map(|((t, v), id)| (id, (t, None, Some(v)))).collect();
    // Row 1 and 2 are a match, but not before it is certain that none starts at row 0.
    let mut job = self::job(with_time(&pattern));
    job.rows(&batch(&rows[..3]), &[]);
    job.watermark(40);
    assert!(job.sink.0.is_empty());
    job.restart(2);
    job.watermark(49);
    assert!(job.sink.0.is_empty());
    job.watermark(i64::MAX);
    assert_eq!(text(&job.sink.0), [format!("1|2|{}", time(50))]);
    let mut job = self::job(with_time(&pattern));
    job.rows(&batch(&rows), &[]);
    job.watermark(i64::MAX);
    assert_eq!(text(&job.sink.0), ["0|3", "1|2", "2|3"].map(|ids| format!("{ids}|{}", time(30))));
}

#[test]
fn what_cant_be_skipped_to_fails() {
    for (skip, message) in
        [(AfterMatch::ToFirst(0), "the match's own first row"), (AfterMatch::ToLast(1), "a variable that has no row")]
    {
        let mut job = rising(skip, None).job();
        job.rows(&batch(&[(0, (1, None, Some(5))), (1, (2, None, Some(7)))]), &[1]);
        job.each(|o, ctx| {
            let error = o.on_watermark(Watermark(5), ctx).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
            Ok(Progress::Done)
        });
    }
}

#[test]
fn processing_time_searches_rows_as_they_come_or_sorts_those_of_a_millisecond() {
    let of = |id: i64, v: i64| (id, (0, Some(1), Some(v)));
    let mut search = with_time(&rising(AfterMatch::PastLastRow, Some(100)));
    search.time = WindowTime::Processing;
    let time = |ms: i64| arrow::util::display::array_value_to_string(&times(&[ms]), 0).unwrap();
    let mut job = self::job(search.clone());
    job.now_ms = 1_000;
    job.rows(&batch(&[of(0, 5), of(1, 3)]), &[1]);
    job.restart(3);
    job.now_ms = 1_050;
    job.rows(&batch(&[of(2, 7), of(3, 5)]), &[1]);
    assert_eq!(text(&job.sink.0), [format!("1|0|2|{}", time(1_050))]);
    // The partial match that started at 1050 is too old for this row.
    job.now_ms = 1_150;
    job.rows(&batch(&[of(4, 8)]), &[1]);
    assert_eq!(job.sink.0.len(), 1);

    search.order = vec![SortColumn { column: 2, descending: false, nulls_first: true }];
    let mut job = self::job(search);
    job.now_ms = 1_000;
    job.rows(&batch(&[of(0, 7), of(1, 5)]), &[1]);
    job.restart(2);
    job.each(|o, ctx| o.on_timer(ctx));
    assert!(job.sink.0.is_empty(), "the millisecond is not over");
    job.now_ms = 1_001;
    job.each(|o, ctx| {
        assert!(o.next_timer().is_none_or(|at| at <= 1_001));
        o.on_timer(ctx)
    });
    assert_eq!(text(&job.sink.0), [format!("1|1|0|{}", time(1_000))]);
    job.rows(&batch(&[of(2, 5), of(3, 7)]), &[1]);
    job.each(|o, ctx| o.on_end(ctx));
    assert_eq!(text(&job.sink.0).len(), 2);
}

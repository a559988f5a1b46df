//! What a case goes through: its rows in order of time, cut into epochs.

use super::tables::Steps;
use millstream_trial::Epoch;
use std::collections::{BTreeMap, BTreeSet};

/// About so many epochs hold the rows of a case: few rows are an epoch each.
const EPOCHS: usize = 24;

/// The epochs of a case; `tables` in the order in which the job knows them.
///
/// Rows come at the time that their file says; those before its first time come with the first time of all files.
/// Of what comes at one time each table's rows are in order, and the tables take turns.
pub fn epochs(tables: &[String], steps: &BTreeMap<String, Steps>) -> Vec<Epoch> {
    let times: BTreeSet<i64> = steps.values().flatten().filter_map(|(time, _)| *time).collect();
    let first = times.first().copied().unwrap_or(0);
    let rows: usize = steps.values().flatten().map(|(_, rows)| rows).sum();
    let chunk = rows.div_ceil(EPOCHS).max(1);
    let mut come = vec![0; tables.len()];
    let mut epochs = vec![];
    for now_ms in std::iter::once(first).chain(times.iter().copied().filter(|time| *time > first)) {
        let due = |table: &String| -> usize {
            let steps = steps.get(table).map(Vec::as_slice).unwrap_or_default();
            steps.iter().filter(|(time, _)| time.unwrap_or(first) == now_ms).map(|(_, rows)| rows).sum()
        };
        let due: Vec<usize> = tables.iter().map(due).collect();
        let turns = due.iter().map(|rows| rows.div_ceil(chunk)).max().unwrap_or(0);
        if turns == 0 {
            epochs.push(Epoch { now_ms, rows: come.clone() });
        }
        let before = come.clone();
        for turn in 1..=turns {
            for table in 0..tables.len() {
                let rows = before[table] + due[table] * turn / turns;
                if rows > come[table] {
                    come[table] = rows;
                    epochs.push(Epoch { now_ms, rows: come.clone() });
                }
            }
        }
    }
    epochs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: &[(&str, &[(Option<i64>, usize)])], expected: &[(i64, &[usize])]) {
        let tables: Vec<String> = steps.iter().map(|(name, _)| name.to_string()).collect();
        let steps = steps.iter().map(|(name, steps)| (name.to_string(), steps.to_vec())).collect();
        let epochs = epochs(&tables, &steps);
        let seen: Vec<(i64, &[usize])> = epochs.iter().map(|e| (e.now_ms, e.rows.as_slice())).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn tables_take_turns_and_follow_the_clock() {
        let a: &[(Option<i64>, usize)] = &[(None, 1), (Some(50), 0), (Some(70), 2)];
        let b: &[(Option<i64>, usize)] = &[(None, 2), (Some(90), 0)];
        let expected: &[(i64, &[usize])] =
            &[(50, &[0, 1]), (50, &[1, 1]), (50, &[1, 2]), (70, &[2, 2]), (70, &[3, 2]), (90, &[3, 2])];
        check(&[("a", a), ("b", b)], expected);
    }

    #[test]
    fn no_rows_and_no_times_are_one_epoch() {
        check(&[("a", &[(None, 0)])], &[(0, &[0])]);
    }

    #[test]
    fn many_rows_share_epochs() {
        let epochs = epochs(&["a".into()], &BTreeMap::from([("a".to_string(), vec![(None, 1000)])]));
        assert_eq!(epochs.len(), EPOCHS);
        assert_eq!(epochs.last().map(|e| e.rows.clone()), Some(vec![1000]));
    }
}

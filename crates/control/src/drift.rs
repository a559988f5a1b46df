//! Tells each worker process how far the slowest sources in all the others are, where sources wait for each other in event time.

use std::collections::{BTreeMap, BTreeSet};

/// How far the slowest source is, by group; milliseconds.
type Slowest = BTreeMap<String, i64>;

/// What each process has said, and was told.
#[derive(Debug)]
pub struct Drift {
    /// By process; `None`: nothing yet.
    heard: Vec<Option<Slowest>>,
    told: Vec<Slowest>,
}

impl Drift {
    /// Of so many processes.
    pub fn of(processes: usize) -> Self {
        Drift { heard: vec![None; processes], told: vec![Slowest::new(); processes] }
    }

    /// A process says how far it is; what others are to be told, by process.
    pub fn hear(&mut self, process: usize, slowest: &Slowest) -> Vec<(usize, Slowest)> {
        let Some(heard) = self.heard.get_mut(process) else { return Vec::new() };
        if heard.as_ref() == Some(slowest) {
            return Vec::new();
        }
        *heard = Some(slowest.clone());
        let mut news = Vec::new();
        for other in (0..self.heard.len()).filter(|other| *other != process) {
            let elsewhere = self.slowest_but(other);
            if self.told[other] != elsewhere {
                self.told[other].clone_from(&elsewhere);
                news.push((other, elsewhere));
            }
        }
        news
    }

    /// How far the slowest of all processes but one is; of a group that one of them has not spoken of, nothing.
    fn slowest_but(&self, process: usize) -> Slowest {
        let others = || self.heard.iter().enumerate().filter(|(other, _)| *other != process).map(|(_, heard)| heard);
        let groups: BTreeSet<&String> = others().flatten().flat_map(Slowest::keys).collect();
        let slowest = |group: &str| others().map(|heard| heard.as_ref()?.get(group).copied()).min().flatten();
        groups.into_iter().filter_map(|group| Some((group.clone(), slowest(group)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Slowest {
        Slowest::from([("g".to_string(), ms)])
    }

    #[test]
    fn each_process_hears_of_the_slowest_of_the_others_once_all_of_them_have_spoken() {
        let mut drift = Drift::of(3);
        assert_eq!(drift.hear(0, &Slowest::new()), []);
        assert_eq!(drift.hear(0, &at(7)), []);
        assert_eq!(drift.hear(1, &at(5)), [(2, at(5))]);
        assert_eq!(drift.hear(2, &at(9)), [(0, at(5)), (1, at(7))]);
        assert_eq!(drift.hear(2, &at(9)), []);
        assert_eq!(drift.hear(1, &at(i64::MAX)), [(0, at(9)), (2, at(7))]);
    }

    #[test]
    fn a_single_process_has_nobody_to_wait_for() {
        assert_eq!(Drift::of(1).hear(0, &at(7)), []);
    }
}

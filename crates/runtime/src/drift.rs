//! Which source instances wait for each other in event time, and how far the slowest of them is, here and in other processes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// How far one instance is: the watermark of its slowest split that has more rows, milliseconds; `i64::MAX`: none has;
/// `i64::MIN`: not known yet.
type Progress = AtomicI64;

/// One instance; it leaves its group with the value.
///
/// A process belongs to one job alone, so that groups are told apart by their names.
pub(crate) struct Member {
    own: Arc<Progress>,
    group: String,
}

/// The members of this process, by group, and how far those of other processes are.
#[derive(Default)]
struct Groups {
    members: BTreeMap<String, Vec<Weak<Progress>>>,
    elsewhere: Elsewhere,
}

#[derive(Default)]
enum Elsewhere {
    /// There is no other process.
    #[default]
    Nobody,
    /// By group; of one that isn't there nothing is known yet.
    Heard(BTreeMap<String, i64>),
}

impl Groups {
    fn slowest_here(&mut self, group: &str) -> i64 {
        let Some(members) = self.members.get_mut(group) else { return i64::MAX };
        members.retain(|member| member.strong_count() > 0);
        let all = members.iter().filter_map(Weak::upgrade);
        all.map(|progress| progress.load(Ordering::Relaxed)).min().unwrap_or(i64::MAX)
    }
    fn slowest(&mut self, group: &str) -> i64 {
        let elsewhere = match &self.elsewhere {
            Elsewhere::Nobody => i64::MAX,
            Elsewhere::Heard(groups) => groups.get(group).copied().unwrap_or(i64::MIN),
        };
        self.slowest_here(group).min(elsewhere)
    }
}

fn groups() -> std::sync::MutexGuard<'static, Groups> {
    static GROUPS: OnceLock<Mutex<Groups>> = OnceLock::new();
    GROUPS.get_or_init(Default::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// There are other processes with members of the same groups: nobody runs ahead until they are heard of.
pub fn expect_others() {
    groups().elsewhere = Elsewhere::Heard(BTreeMap::new());
}

/// Notes how far the slowest members in all other processes are, by group, in milliseconds; `i64::MAX`: they have no more rows.
pub fn hear_of_others(slowest: BTreeMap<String, i64>) {
    groups().elsewhere = Elsewhere::Heard(slowest);
}

/// How far the slowest member of this process is, by group, in milliseconds; `i64::MAX`: none has more rows, `i64::MIN`: not
/// known yet.
pub fn slowest_here() -> BTreeMap<String, i64> {
    let mut groups = groups();
    let names: Vec<String> = groups.members.keys().cloned().collect();
    names.into_iter().map(|name| (name.clone(), groups.slowest_here(&name))).collect()
}

impl Member {
    /// A new member of `group`: nobody runs ahead until it has said how far it is.
    pub fn of(group: &str) -> Member {
        let own = Arc::new(Progress::new(i64::MIN));
        groups().members.entry(group.to_string()).or_default().push(Arc::downgrade(&own));
        Member { own, group: group.to_string() }
    }

    /// Tells the others how far it is; how far the slowest is.
    pub fn slowest_of_all(&self, own: i64) -> i64 {
        self.own.store(own, Ordering::Relaxed);
        groups().slowest(&self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_group_wait_for_its_slowest_and_not_for_one_that_has_left() {
        let (a, b) = (Member::of("drift-test"), Member::of("drift-test"));
        assert_eq!(a.slowest_of_all(7), i64::MIN, "the other one has not said where it is");
        assert_eq!(b.slowest_of_all(9), 7);
        assert_eq!(Member::of("drift-test-alone").slowest_of_all(50), 50);
        drop(a);
        assert_eq!(b.slowest_of_all(9), 9);
        assert_eq!(slowest_here()["drift-test"], 9);
    }

    #[test]
    fn members_in_other_processes_are_waited_for_from_the_start() {
        let mut groups = Groups::default();
        let own = Arc::new(Progress::new(9));
        groups.members.insert("g".into(), vec![Arc::downgrade(&own)]);
        assert_eq!(groups.slowest("g"), 9);
        groups.elsewhere = Elsewhere::Heard(BTreeMap::new());
        assert_eq!(groups.slowest("g"), i64::MIN);
        groups.elsewhere = Elsewhere::Heard(BTreeMap::from([("g".into(), 4)]));
        assert_eq!((groups.slowest("g"), groups.slowest_here("g")), (4, 9));
        groups.elsewhere = Elsewhere::Heard(BTreeMap::from([("g".into(), i64::MAX)]));
        assert_eq!(groups.slowest("g"), 9);
    }
}

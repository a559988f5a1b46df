//! Which source instances of this process wait for each other in event time, and how far the slowest of them is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// How far one instance is: the watermark of its slowest split that has more rows, milliseconds; `i64::MAX`: none has.
type Progress = AtomicI64;

/// One instance; it leaves its group with the value.
///
/// A process belongs to one job alone, so that groups are told apart by their names. Instances in other processes are not
/// waited for: what they hold is theirs.
pub(crate) struct Member {
    own: Arc<Progress>,
    group: Option<String>,
}

fn groups() -> &'static Mutex<HashMap<String, Vec<Weak<Progress>>>> {
    static GROUPS: OnceLock<Mutex<HashMap<String, Vec<Weak<Progress>>>>> = OnceLock::new();
    GROUPS.get_or_init(Default::default)
}

impl Member {
    /// A new member of `group`; `None`: it is alone.
    pub fn of(group: Option<&str>) -> Member {
        let own = Arc::new(Progress::new(i64::MAX));
        if let Some(group) = group {
            let mut groups = groups().lock().unwrap_or_else(PoisonError::into_inner);
            groups.entry(group.to_string()).or_default().push(Arc::downgrade(&own));
        }
        Member { own, group: group.map(str::to_string) }
    }

    /// Tells the others how far it is; how far the slowest is.
    pub fn slowest_of_all(&self, own: i64) -> i64 {
        self.own.store(own, Ordering::Relaxed);
        let Some(group) = &self.group else { return own };
        let mut groups = groups().lock().unwrap_or_else(PoisonError::into_inner);
        let Some(members) = groups.get_mut(group) else { return own };
        members.retain(|member| member.strong_count() > 0);
        let all = members.iter().filter_map(Weak::upgrade);
        all.map(|progress| progress.load(Ordering::Relaxed)).min().unwrap_or(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_group_wait_for_its_slowest_and_not_for_one_that_has_left() {
        let (a, b) = (Member::of(Some("drift-test")), Member::of(Some("drift-test")));
        assert_eq!(a.slowest_of_all(7), 7);
        assert_eq!(b.slowest_of_all(9), 7);
        assert_eq!(Member::of(None).slowest_of_all(50), 50);
        drop(a);
        assert_eq!(b.slowest_of_all(9), 9);
    }
}

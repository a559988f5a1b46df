//! How partial matches grow by a row: Flink's rules for patterns without rows between.
//!
//! Variables take rows one after the other, so that a partial match is known by its first row and by how many rows each
//! variable has so far. Three rules are Flink's own: every start is followed in parallel, and of those with the same
//! first row the one that is complete first counts; a row that can be mapped to a greedy variable is never mapped to the
//! variable after it instead; an optional variable (`B?`) is followed both ways.

use millstream_core::pattern::PatternVariable;

/// A partial or complete match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// The number of its first row among the key's rows.
    pub(super) start: i64,
    /// How many rows each variable has, up to the last that has any.
    pub(super) counts: Vec<u32>,
}

impl Match {
    /// The number of its rows.
    pub(super) fn len(&self) -> i64 {
        self.counts.iter().map(|count| i64::from(*count)).sum()
    }
    /// The number of its last row.
    pub(super) fn last(&self) -> i64 {
        self.start + self.len() - 1
    }
    /// How many rows a variable has.
    pub(super) fn count(&self, variable: usize) -> u32 {
        self.counts.get(variable).copied().unwrap_or(0)
    }
    /// The number of a variable's first row, if it has any.
    pub(super) fn first_of(&self, variable: usize) -> Option<i64> {
        let before: i64 = self.counts.iter().take(variable).map(|count| i64::from(*count)).sum();
        (self.count(variable) > 0).then_some(self.start + before)
    }
    /// The number of a variable's last row, if it has any.
    pub(super) fn last_of(&self, variable: usize) -> Option<i64> {
        self.first_of(variable).map(|first| first + i64::from(self.count(variable)) - 1)
    }
}

/// The pattern.
pub(super) struct Nfa {
    elements: Vec<Element>,
}

#[derive(Clone, Copy)]
struct Element {
    min: u32,
    max: Option<u32>,
    /// Whether a row that it could take is kept from the next element.
    keeps_rows: bool,
}

impl Element {
    fn takes(&self, count: u32) -> bool {
        self.max.is_none_or(|max| count < max)
    }
}

impl Nfa {
    pub(super) fn new(variables: &[PatternVariable]) -> Self {
        let element = |v: &PatternVariable| {
            let is_plain = v.max == Some(v.min) || (v.min == 0 && v.max == Some(1));
            Element { min: v.min, max: v.max, keeps_rows: v.greedy && !is_plain }
        };
        Nfa { elements: variables.iter().map(element).collect() }
    }

    /// The element that a match (`None`: not begun) is in, and how many rows that has.
    fn place(partial: Option<&Match>) -> (usize, u32) {
        match partial {
            None => (0, 0),
            Some(m) => (m.counts.len() - 1, m.counts.last().copied().unwrap_or(0)),
        }
    }

    /// Whether `element`, which has no row yet, may not be gone to because of the row that `holds` tells of.
    fn is_barred(&self, element: usize, holds: &impl Fn(usize) -> bool) -> bool {
        element > 0 && self.elements[element - 1].keeps_rows && holds(element - 1)
    }

    /// Calls `need` with each variable whose condition [`Nfa::step`] may ask for.
    pub(super) fn needs(&self, partial: Option<&Match>, mut need: impl FnMut(usize)) {
        let (mut at, mut count) = Nfa::place(partial);
        let last = self.elements.len() - 1;
        loop {
            let element = self.elements[at];
            if element.takes(count) || (element.keeps_rows && at < last) {
                need(at);
            }
            if count < element.min || at == last {
                break;
            }
            (at, count) = (at + 1, 0);
        }
        // What is taken here may end the match, past optional elements that greedy ones among them may bar.
        let rest = &self.elements[at + 1..];
        if self.elements[at].takes(count) && count + 1 >= self.elements[at].min && rest.iter().all(|e| e.min == 0) {
            (at + 1..last).filter(|e| self.elements[*e].keeps_rows).for_each(need);
        }
    }

    /// Follows a match (`None`: one that begins) by the row of number `row`, for which `holds` tells whether a
    /// variable's condition is true: what it becomes goes to `partial`, and to `complete` as far as it is.
    pub(super) fn step(
        &self,
        from: Option<&Match>,
        row: i64,
        holds: impl Fn(usize) -> bool,
        partial: &mut Vec<Match>,
        complete: &mut Vec<Match>,
    ) {
        let (mut at, mut count) = Nfa::place(from);
        let mut is_fresh = false;
        while let Some(element) = self.elements.get(at) {
            if is_fresh && self.is_barred(at, &holds) {
                return;
            }
            if element.takes(count) && holds(at) {
                let mut grown = from.cloned().unwrap_or(Match { start: row, counts: vec![] });
                grown.counts.resize(at + 1, 0);
                grown.counts[at] = count + 1;
                if self.is_complete(at, count + 1, &holds) {
                    complete.push(grown.clone());
                }
                if element.takes(count + 1) || at + 1 < self.elements.len() {
                    partial.push(grown);
                }
            }
            if count < element.min {
                return;
            }
            (at, count, is_fresh) = (at + 1, 0, true);
        }
    }

    /// Whether a match is complete whose last row is the `count`-th of element `at`.
    fn is_complete(&self, at: usize, count: u32, holds: &impl Fn(usize) -> bool) -> bool {
        let rest = at + 1..self.elements.len();
        count >= self.elements[at].min
            && rest.into_iter().all(|e| self.elements[e].min == 0 && !self.is_barred(e, holds))
    }
}

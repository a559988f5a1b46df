//! Where windows begin and end, and the slices that they are made of; all in the zone's local milliseconds.

use arrow::array::{ArrayRef, TimestampMillisecondArray};
use millstream_core::graph::{WindowShape, WindowSpec};
use millstream_core::types::SessionZone;
use millstream_core::{Error, Result};
use std::sync::Arc;

/// The windows of one TUMBLE, HOP or CUMULATE.
///
/// Time is cut in *slices*, none of which a window's border falls into; a slice is known by its end. So a window
/// is the slices whose ends lie in `(start, end]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    shape: Shape,
    zone: SessionZone,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Ends at `offset + size + k * slide`; slices of `unit`. TUMBLE is HOP with slide = size.
    Hop { size: i64, slide: i64, unit: i64, offset: i64 },
    /// Starts at `offset + k * size`, ends every `step` within.
    Cumulate { size: i64, step: i64, offset: i64 },
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The largest value `<= time` that is `origin` plus a multiple of `step`.
fn floor_to(time: i64, step: i64, origin: i64) -> i64 {
    time - (time - origin).rem_euclid(step)
}

/// The smallest value `>= time` that is `origin` plus a multiple of `step`.
fn ceil_to(time: i64, step: i64, origin: i64) -> i64 {
    time + (origin - time).rem_euclid(step)
}

impl Windows {
    /// The windows of a TUMBLE, HOP or CUMULATE; an internal error for other shapes.
    pub(super) fn new(spec: &WindowSpec) -> Result<Self> {
        let positive = |lengths: &[i64]| {
            if lengths.iter().all(|l| *l > 0) {
                Ok(())
            } else {
                Err(Error::script("a window's length must be positive"))
            }
        };
        let shape = match spec.shape {
            WindowShape::Tumble { size_ms: size, offset_ms } => {
                positive(&[size])?;
                Shape::Hop { size, slide: size, unit: size, offset: offset_ms.rem_euclid(size) }
            }
            WindowShape::Hop { size_ms: size, slide_ms: slide, offset_ms } => {
                positive(&[size, slide])?;
                Shape::Hop { size, slide, unit: gcd(size, slide), offset: offset_ms.rem_euclid(slide) }
            }
            WindowShape::Cumulate { size_ms: size, step_ms: step, offset_ms } => {
                positive(&[size, step])?;
                Shape::Cumulate { size, step, offset: offset_ms.rem_euclid(size) }
            }
            WindowShape::Session { .. } | WindowShape::Attached { .. } => {
                return Err(Error::internal("session and attached windows depend on the rows"));
            }
        };
        Ok(Windows { shape, zone: spec.zone })
    }

    pub(super) fn zone(&self) -> SessionZone {
        self.zone
    }

    /// The local time of an instant.
    pub(super) fn local(&self, utc_ms: i64) -> i64 {
        self.zone.to_local_ms(utc_ms)
    }

    /// The end of the slice that local `time` is in.
    #[inline]
    pub(super) fn slice_end(&self, time: i64) -> i64 {
        match self.shape {
            Shape::Hop { unit, offset, .. } => floor_to(time, unit, offset) + unit,
            Shape::Cumulate { size, step, offset } => {
                let start = floor_to(time, size, offset);
                (floor_to(time, step, start) + step).min(start + size)
            }
        }
    }

    /// The end of the first window, ending after `after`, that the slice is in.
    pub(super) fn window_after(&self, slice_end: i64, after: i64) -> Option<i64> {
        let from = slice_end.max(after.saturating_add(1));
        match self.shape {
            Shape::Hop { size, slide, offset, .. } => {
                let end = ceil_to(from.min(i64::MAX - slide), slide, offset + size);
                if end - size >= slice_end { None } else { Some(end) }
            }
            Shape::Cumulate { size, step, offset } => {
                let start = floor_to(slice_end - 1, size, offset);
                let last = start + size;
                if from > last { None } else { Some(ceil_to(from, step, start).min(last)) }
            }
        }
    }

    /// The end of the last window that the slice is in; `None` if it falls between windows.
    #[inline]
    pub(super) fn last_window(&self, slice_end: i64) -> Option<i64> {
        match self.shape {
            Shape::Hop { size, slide, offset, .. } => {
                let end = floor_to(slice_end + size - 1, slide, offset + size);
                (end >= slice_end).then_some(end)
            }
            Shape::Cumulate { size, offset, .. } => Some(floor_to(slice_end - 1, size, offset) + size),
        }
    }

    /// Below which slice ends nothing is needed once all windows to the end `closed` have fired.
    pub(super) fn first_needed(&self, closed: i64) -> i64 {
        if closed == i64::MAX {
            return i64::MAX;
        }
        match self.shape {
            Shape::Hop { size, slide, offset, .. } => ceil_to(closed + 1, slide, offset + size) - size + 1,
            Shape::Cumulate { size, offset, .. } => floor_to(closed, size, offset) + 1,
        }
    }

    /// The start of the window that ends at `end`.
    pub(super) fn start_of(&self, end: i64) -> i64 {
        match self.shape {
            Shape::Hop { size, .. } => end - size,
            Shape::Cumulate { size, offset, .. } => floor_to(end - 1, size, offset),
        }
    }

    /// Calls `each(start, end)` for the windows that local `time` is in, in the order of their ends.
    pub(super) fn for_each_window(&self, time: i64, mut each: impl FnMut(i64, i64)) {
        let slice = self.slice_end(time);
        let mut after = i64::MIN;
        while let Some(end) = self.window_after(slice, after) {
            each(self.start_of(end), end);
            after = end;
        }
    }
}

/// `window_time` of windows by their local ends: the last millisecond, as local time or as an instant.
pub(super) fn window_time_array(ends: &[i64], local_time_zone: bool, zone: SessionZone) -> ArrayRef {
    if local_time_zone {
        let mut known = None;
        let mut last_instant = |end: i64| match known {
            Some((of, instant)) if of == end => instant,
            _ => known.insert((end, zone.past_at_utc_ms(end) - 1)).1,
        };
        let instants = ends.iter().map(|end| last_instant(*end)).collect::<Vec<_>>();
        Arc::new(TimestampMillisecondArray::from(instants).with_timezone("UTC"))
    } else {
        Arc::new(TimestampMillisecondArray::from(ends.iter().map(|end| end - 1).collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::graph::WindowTime;
    use proptest::prelude::*;

    fn windows(shape: WindowShape) -> Windows {
        Windows::new(&WindowSpec { shape, time: WindowTime::Processing, zone: SessionZone::UTC }).unwrap()
    }

    proptest! {
        #[test]
        fn hops_are_those_of_the_definition(t in -500i64..500, size in 1i64..40, slide in 1i64..40, offset in -9i64..9) {
            let w = windows(WindowShape::Hop { size_ms: size, slide_ms: slide, offset_ms: offset });
            let mut got = vec![];
            w.for_each_window(t, |s, e| got.push((s, e)));
            let want: Vec<_> = (t - size + 1..=t).filter(|s| (s - offset).rem_euclid(slide) == 0).map(|s| (s, s + size)).collect();
            prop_assert_eq!(&got, &want);
            prop_assert_eq!(w.last_window(w.slice_end(t)), want.last().map(|w| w.1));
        }

        #[test]
        fn cumulating_windows_are_those_of_the_definition(t in -500i64..500, step in 1i64..20, n in 1i64..6, offset in -9i64..9) {
            let size = step * n;
            let w = windows(WindowShape::Cumulate { size_ms: size, step_ms: step, offset_ms: offset });
            let mut got = vec![];
            w.for_each_window(t, |s, e| got.push((s, e)));
            let start = (t - size + 1..=t).find(|s| (s - offset).rem_euclid(size) == 0).unwrap();
            let want: Vec<_> = (1..=n).map(|k| (start, start + k * step)).filter(|w| w.1 > t).collect();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn a_windows_time_is_its_last_instant_also_when_its_hour_comes_twice() {
        use arrow::array::AsArray;
        // The end is 02:20 in Berlin in the night in which 02:00 to 03:00 comes twice; 01:20 UTC is the second.
        let midnight = 1_729_987_200_000;
        let times = window_time_array(&[midnight + 140 * 60_000], true, "Europe/Berlin".parse().unwrap());
        let times = times.as_primitive::<arrow::datatypes::TimestampMillisecondType>();
        assert_eq!(times.value(0), midnight + 80 * 60_000 - 1);
    }
}

//! Fail points: named steps at which a test lets the process die or the step fail.

/// A step that a test can stop at: `fail_point!("commit::before")?`. Its name stands in the list `FAIL_POINTS` of the crate
/// that takes the step; nothing happens without that crate's feature `failpoints`.
#[macro_export]
#[allow(clippy::crate_in_macro_def, reason = "each crate has a list of its own")]
macro_rules! fail_point {
    ($name:expr) => {
        (|name: &'static str| -> $crate::Result<()> {
            debug_assert!(crate::FAIL_POINTS.contains(&name), "fail point {name} is missing in the list");
            // The caller's dependency: so the crates below are the same with and without the feature.
            ::fail::fail_point!(name, |_| Err($crate::Error::retry(format!("fail point {name}"))));
            Ok(())
        })($name)
    };
}

//! String functions.

use super::{Function, plain};
use crate::args::{int, text};

pub(super) fn functions() -> Vec<Function> {
    vec![
        plain("UPPER", &["s"], "STRING", |_| {
            text(|a, i, out| {
                out.push_str(&a.str(0, i)?.to_uppercase());
                Some(())
            })
        }),
        plain("CHAR_LENGTH", &["s"], "INT", |_| int(|a, i| Some(a.str(0, i)?.chars().count() as i64))),
    ]
}

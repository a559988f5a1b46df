//! Functions over bitmaps.

use super::{Function, plain, special};
use crate::args::{Args, Kernel, try_bytes, try_int, try_text};
use crate::cast::implicit;
use crate::node::call;
use arrow::array::*;
use arrow::datatypes::Int32Type;
use millstream_core::bitmap::{self, RoaringBitmap};
use millstream_core::types::SessionZone;
use millstream_core::{Error, ExprRef, Result, TypeKind};
use std::sync::Arc;

/// The bitmap of argument `k`; `None` for NULL.
fn set(a: &Args<'_>, k: usize, i: usize) -> Result<Option<RoaringBitmap>> {
    a.bytes(k, i).map(bitmap::read).transpose()
}

/// One bitmap of two.
fn combined(combine: fn(RoaringBitmap, RoaringBitmap) -> RoaringBitmap) -> Kernel {
    try_bytes(move |a, i| match (set(a, 0, i)?, set(a, 1, i)?) {
        (Some(l), Some(r)) => Ok(Some(bitmap::write(combine(l, r)))),
        _ => Ok(None),
    })
}

fn build(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let [x] = args else { return Ok(None) };
    use TypeKind::{Array, Int, Null, SmallInt, TinyInt};
    let ints = match &x.data_type().kind {
        Null => true,
        Array(item) => matches!(item.kind, Null | TinyInt | SmallInt | Int),
        _ => false,
    };
    if !ints {
        return Ok(None);
    }
    let nullable = x.data_type().nullable;
    let x = implicit(x, &Array(Box::new(Int.nullable())).nullable(), zone)?;
    let kernel = try_bytes(|a, i| {
        let Some(items) = a.list(0, i) else { return Ok(None) };
        let set: RoaringBitmap = items.as_primitive::<Int32Type>().iter().flatten().map(|v| v as u32).collect();
        Ok(Some(bitmap::write(set)))
    });
    Ok(Some(call(name, vec![x], TypeKind::Bitmap.nullable().with_nullable(nullable), kernel)))
}

fn to_array() -> Kernel {
    Arc::new(|a| {
        let mut lists = ListBuilder::new(Int32Builder::new());
        let mut total = 0u64;
        for i in 0..a.rows {
            let set = set(a, 0, i)?;
            total += set.as_ref().map_or(0, RoaringBitmap::len);
            if total > i32::MAX as u64 {
                return Err(Error::data("a bitmap has more values than an array can have")
                    .hint("BITMAP_CARDINALITY says how many it has"));
            }
            lists.append_option(set.map(|set| set.into_iter().map(|v| Some(v as i32)).collect::<Vec<_>>()));
        }
        Ok(Arc::new(lists.finish()))
    })
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        special("BITMAP_BUILD", "(ARRAY<INT>)", build),
        plain("BITMAP_AND", &["BB"], "BITMAP", |_| combined(|l, r| l & r)),
        plain("BITMAP_ANDNOT", &["BB"], "BITMAP", |_| combined(|l, r| l - r)),
        plain("BITMAP_OR", &["BB"], "BITMAP", |_| combined(|l, r| l | r)),
        plain("BITMAP_XOR", &["BB"], "BITMAP", |_| combined(|l, r| l ^ r)),
        plain("BITMAP_CARDINALITY", &["B"], "BIGINT", |_| {
            try_int(|a, i| Ok(set(a, 0, i)?.map(|set| set.len() as i64)))
        }),
        // The bytes may be those of another program, which writes equal sets in other ways.
        plain("BITMAP_FROM_BYTES", &["y"], "BITMAP", |_| try_bytes(|a, i| Ok(set(a, 0, i)?.map(bitmap::write)))),
        plain("BITMAP_TO_BYTES", &["B"], "BYTES", |_| try_bytes(|a, i| Ok(a.bytes(0, i).map(<[u8]>::to_vec)))),
        plain("BITMAP_TO_ARRAY", &["B"], "ARRAY<INT>", |_| to_array()),
        plain("BITMAP_TO_STRING", &["B"], "STRING", |_| {
            try_text(|a, i, out| Ok(set(a, 0, i)?.map(|set| bitmap::write_text(out, &set))))
        }),
    ]
}

//! Which type several types have in common.

use crate::decimal::shape;
use millstream_core::{DataType, Field, TypeKind};

/// The type of a place where values of any of `types` may stand, such as the branches of CASE and the rows of a UNION; `None`
/// if there is none. As [`common_type`], but of FLOAT and DOUBLE the first (calcite: `leastRestrictive`, which takes both to
/// have 15 digits).
pub fn least_restrictive(types: &[DataType]) -> Option<DataType> {
    let (first, rest) = types.split_first()?;
    rest.iter().try_fold(first.clone(), |a, b| match a.kind.is_approximate() && b.kind.is_approximate() {
        true => Some(a.clone().with_nullable(a.nullable || b.nullable)),
        false => common(&a, b),
    })
}

/// The least type that takes all of `types` (flink: `LogicalTypeMerging`); `None` if there is none.
pub fn common_type(types: &[DataType]) -> Option<DataType> {
    let (first, rest) = types.split_first()?;
    rest.iter().try_fold(first.clone(), |a, b| common(&a, b))
}

fn rank(kind: &TypeKind) -> u8 {
    match kind {
        TypeKind::TinyInt => 1,
        TypeKind::SmallInt => 2,
        TypeKind::Int => 3,
        _ => 4,
    }
}

fn common(a: &DataType, b: &DataType) -> Option<DataType> {
    use TypeKind::*;
    let nullable = a.nullable || b.nullable;
    let kind = match (&a.kind, &b.kind) {
        (x, y) if x == y => x.clone(),
        (Null, other) => return Some(other.clone().nullable()),
        (other, Null) => return Some(other.clone().nullable()),
        (x, y) if x.is_character() && y.is_character() => VarChar(length(x).max(length(y))),
        (x, y) if x.is_binary() && y.is_binary() => VarBinary(length(x).max(length(y))),
        (x, y) if x.is_integer() && y.is_integer() => {
            if rank(x) >= rank(y) {
                x.clone()
            } else {
                y.clone()
            }
        }
        (x, y) if x.is_numeric() && y.is_numeric() => match (x.is_approximate(), y.is_approximate()) {
            (false, false) => {
                let ((p1, s1), (p2, s2)) = (shape(a), shape(b));
                let s = s1.max(s2);
                crate::decimal::adjust(i32::from((p1 - s1).max(p2 - s2)) + i32::from(s), i32::from(s))
            }
            _ if matches!(x, Decimal(..) | Double) || matches!(y, Decimal(..) | Double) => Double,
            _ => Float,
        },
        (Time(p), Time(q)) => Time(*p.max(q)),
        (Timestamp(p), Timestamp(q)) => Timestamp(*p.max(q)),
        (TimestampLtz(p), TimestampLtz(q) | Timestamp(q)) | (Timestamp(p), TimestampLtz(q)) => TimestampLtz(*p.max(q)),
        (Date, Timestamp(p)) | (Timestamp(p), Date) => Timestamp(*p),
        (Date, TimestampLtz(p)) | (TimestampLtz(p), Date) => TimestampLtz(*p),
        (Array(x), Array(y)) => Array(Box::new(common(x, y)?)),
        (Multiset(x), Multiset(y)) => Multiset(Box::new(common(x, y)?)),
        (Map(k, v), Map(l, w)) => Map(Box::new(common(k, l)?), Box::new(common(v, w)?)),
        (Row(x), Row(y)) if x.len() == y.len() => {
            let fields = x.iter().zip(y);
            Row(fields
                .map(|(f, g)| Some(Field::new(f.name.clone(), common(&f.data_type, &g.data_type)?)))
                .collect::<Option<_>>()?)
        }
        _ => return None,
    };
    Some(DataType { kind, nullable })
}

/// The declared length of text or bytes.
pub(crate) fn length(kind: &TypeKind) -> u32 {
    match kind {
        TypeKind::Char(n) | TypeKind::VarChar(n) | TypeKind::Binary(n) | TypeKind::VarBinary(n) => *n,
        _ => millstream_core::types::MAX_LENGTH,
    }
}

/// The type two sides of a comparison are brought to: as [`common_type`], and text yields to the other side.
pub(crate) fn comparison_type(a: &DataType, b: &DataType) -> Option<DataType> {
    let yields = |k: &TypeKind| k.is_numeric() || k.is_temporal() || *k == TypeKind::Boolean;
    let nullable = a.nullable || b.nullable;
    match (a.kind.is_character(), b.kind.is_character()) {
        (true, false) if yields(&b.kind) => Some(b.clone().with_nullable(nullable)),
        (false, true) if yields(&a.kind) => Some(a.clone().with_nullable(nullable)),
        _ => common(a, b),
    }
}

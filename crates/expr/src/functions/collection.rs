//! Arrays, maps and rows: making them and reading them; `TYPEOF`.

use super::{Function, plain, special};
use crate::args::{Args, Kernel, downcast_err, int, text};
use crate::cast::implicit;
use crate::node::call;
use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute;
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField};
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Field, Result, TypeKind};
use std::sync::Arc;

/// A list array of `n` lists; list `i` holds the `(array, row)` pairs of `lists[i]`.
pub(super) fn lists(
    items: &ArrowType,
    sources: &[ArrayRef],
    lists: &[Option<Vec<(usize, usize)>>],
) -> Result<ArrayRef> {
    let picks: Vec<(usize, usize)> = lists.iter().flatten().flatten().copied().collect();
    let arrays: Vec<&dyn Array> = sources.iter().map(|a| a.as_ref()).collect();
    let values = if picks.is_empty() { new_empty_array(items) } else { compute::interleave(&arrays, &picks)? };
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|l| l.as_ref().map_or(0, Vec::len)));
    let nulls = NullBuffer::from_iter(lists.iter().map(Option::is_some));
    let field = Arc::new(ArrowField::new("item", items.clone(), true));
    Ok(Arc::new(ListArray::try_new(field, offsets, values, Some(nulls))?))
}

pub(super) fn to_common(args: &[ExprRef], zone: &SessionZone) -> Result<Option<(DataType, Vec<ExprRef>)>> {
    let types: Vec<_> = args.iter().map(|a| a.data_type().clone()).collect();
    let Some(common) = crate::typing::least_restrictive(&types) else { return Ok(None) };
    let args = args.iter().map(|a| implicit(a, &common, zone)).collect::<Result<_>>()?;
    Ok(Some((common, args)))
}

fn array(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some((item, args)) = to_common(args, zone)? else { return Ok(None) };
    let arrow = item.arrow();
    let kernel: Kernel = Arc::new(move |a| {
        let sources: Vec<ArrayRef> = a.columns.iter().map(|c| c.array().clone()).collect();
        let row = |i: usize| Some((0..a.len()).map(|k| (k, a.row(k, i))).collect());
        lists(&arrow, &sources, &(0..a.rows).map(row).collect::<Vec<_>>())
    });
    Ok(Some(call(name, args, TypeKind::Array(Box::new(item)).not_null(), kernel)))
}

fn map(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    if args.is_empty() || args.len() % 2 == 1 {
        return Ok(None);
    }
    let every = |from: usize| args.iter().skip(from).step_by(2).cloned().collect::<Vec<_>>();
    let (Some((key, keys)), Some((value, values))) = (to_common(&every(0), zone)?, to_common(&every(1), zone)?) else {
        return Ok(None);
    };
    let half = keys.len();
    let out = TypeKind::Map(Box::new(key.clone()), Box::new(value.clone())).not_null();
    let target = out.arrow();
    let kernel: Kernel = Arc::new(move |a| {
        let arrays: Vec<&dyn Array> = a.columns.iter().map(|c| c.array().as_ref()).collect();
        let (mut key_picks, mut value_picks, mut lengths) = (vec![], vec![], vec![]);
        for i in 0..a.rows {
            let mut count = 0;
            for k in 0..half {
                let this = arrays[k].slice(a.row(k, i), 1).to_data();
                // Of equal keys the last stays.
                if (k + 1..half).any(|l| arrays[l].slice(a.row(l, i), 1).to_data() == this) {
                    continue;
                }
                if a.is_null(k, i) {
                    return Err(Error::data("a map key is NULL"));
                }
                key_picks.push((k, a.row(k, i)));
                value_picks.push((k, a.row(half + k, i)));
                count += 1;
            }
            lengths.push(count);
        }
        let keys = compute::interleave(&arrays[..half], &key_picks)?;
        let values = compute::interleave(&arrays[half..], &value_picks)?;
        build_map(&target, keys, values, OffsetBuffer::from_lengths(lengths), None)
    });
    Ok(Some(call(name, keys.into_iter().chain(values).collect(), out, kernel)))
}

/// A list array of the given lengths over all items in turn.
pub(super) fn list_array(items: ArrayRef, lengths: Vec<usize>, valid: Vec<bool>) -> Result<ArrayRef> {
    let field = Arc::new(ArrowField::new("item", items.data_type().clone(), true));
    let nulls = NullBuffer::from(valid);
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), items, Some(nulls))?))
}

/// Text lists from the parts that `f` appends for each row; `None` is NULL.
pub(super) fn text_lists(
    f: impl Fn(&Args<'_>, usize, &mut StringBuilder) -> Option<()> + Send + Sync + 'static,
) -> Kernel {
    Arc::new(move |a| {
        let mut items = StringBuilder::new();
        let (mut lengths, mut valid) = (Vec::with_capacity(a.rows), Vec::with_capacity(a.rows));
        for i in 0..a.rows {
            let before = items.len();
            valid.push(f(a, i, &mut items).is_some());
            lengths.push(items.len() - before);
        }
        list_array(Arc::new(items.finish()), lengths, valid)
    })
}

pub(super) fn build_map(
    target: &ArrowType,
    keys: ArrayRef,
    values: ArrayRef,
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let ArrowType::Map(field, _) = target else { return Err(downcast_err("a map")) };
    let ArrowType::Struct(fields) = field.data_type() else { return Err(downcast_err("a map")) };
    let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(field.clone(), offsets, entries, nulls, false)?))
}

fn row(name: &str, args: &[ExprRef]) -> Option<ExprRef> {
    let fields = args.iter().enumerate().map(|(i, a)| Field::new(format!("EXPR${i}"), a.data_type().clone()));
    row_of(name, fields.collect(), args.to_vec())
}

/// The call that makes a row of these fields, which have the types of `args`.
pub(super) fn row_of(name: &str, fields: Vec<Field>, args: Vec<ExprRef>) -> Option<ExprRef> {
    let out = TypeKind::Row(fields).not_null();
    let ArrowType::Struct(fields) = out.arrow() else { return None };
    let kernel: Kernel = Arc::new(move |a| {
        let columns = (0..a.len()).map(|k| a.array(k)).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None, a.rows)?))
    });
    Some(call(name, args, out, kernel))
}

fn item(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let [from, key] = args else { return Ok(None) };
    match &from.data_type().kind {
        TypeKind::Array(item) if key.data_type().kind.is_integer() => {
            if let Some(index) = key.as_literal().and_then(|v| crate::args::view(v).ok()?.int(0))
                && index < 1
            {
                return Err(Error::script(format!("array index {index} is not valid"))
                    .hint("the elements of an array are counted from 1"));
            }
            let out = (**item).clone().with_nullable(true);
            let kernel: Kernel = Arc::new(|a| {
                let list = a.columns[0].array();
                let list = list.as_list_opt::<i32>().ok_or_else(|| downcast_err("an array"))?;
                let pick = |i: usize| -> Option<u32> {
                    let (row, index) = (a.row(0, i), a.int(1, i)?);
                    let fits = !list.is_null(row) && (1..=i64::from(list.value_length(row))).contains(&index);
                    fits.then(|| (i64::from(list.value_offsets()[row]) + index - 1) as u32)
                };
                Ok(compute::take(list.values(), &(0..a.rows).map(pick).collect::<UInt32Array>(), None)?)
            });
            Ok(Some(call(name, args.to_vec(), out, kernel)))
        }
        TypeKind::Map(k, v) => {
            let wanted = (**k).clone().with_nullable(key.data_type().nullable);
            if crate::typing::common_type(&[wanted.clone(), key.data_type().clone()]).is_none() {
                return Ok(None);
            }
            let both_text = wanted.kind.is_character() && key.data_type().kind.is_character();
            // A longer text must not be cut to the keys' length.
            let key = if both_text { key.clone() } else { implicit(key, &wanted, zone)? };
            let kernel: Kernel = Arc::new(|a| {
                let map = a.columns[0].array();
                let map = map.as_map_opt().ok_or_else(|| downcast_err("a map"))?;
                let keys = a.columns[1].array();
                let equal = make_comparator(map.keys(), keys, Default::default())?;
                let pick = |i: usize| -> Option<u32> {
                    let (row, key) = (a.row(0, i), a.row(1, i));
                    if map.is_null(row) || a.is_null(1, i) {
                        return None;
                    }
                    let (from, to) = (map.value_offsets()[row], map.value_offsets()[row + 1]);
                    (from..to).rev().find(|e| equal(*e as usize, key).is_eq()).map(|e| e as u32)
                };
                Ok(compute::take(map.values(), &(0..a.rows).map(pick).collect::<UInt32Array>(), None)?)
            });
            let out = (**v).clone().with_nullable(true);
            Ok(Some(call(name, vec![from.clone(), key], out, kernel)))
        }
        TypeKind::Variant => Ok(super::variant::item(name, args)),
        _ => Ok(None),
    }
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        special("ARRAY", "values of one type", array),
        special("MAP", "keys and values in turn", map),
        special("ROW", "any values", |n, a, _| Ok(row(n, a))),
        special("ITEM", "(ARRAY, INT) or (MAP, key) or (VARIANT, INT) or (VARIANT, STRING)", item),
        plain("CARDINALITY", &["A", "M"], "INT", |_| int(|a, i| a.length(0, i))),
        special("ELEMENT", "(ARRAY)", |n, args, _| {
            let [x] = args else { return Ok(None) };
            let TypeKind::Array(item) = &x.data_type().kind else { return Ok(None) };
            let out = (**item).clone().with_nullable(true);
            let kernel: Kernel = Arc::new(|a| {
                let array = a.columns[0].array();
                let list = array.as_list_opt::<i32>().ok_or_else(|| downcast_err("an array"))?;
                let mut picks = Vec::with_capacity(a.rows);
                for i in 0..a.rows {
                    let row = a.row(0, i);
                    picks.push(match list.is_null(row) {
                        true => None,
                        false => match list.value_length(row) {
                            0 => None,
                            1 => Some(list.value_offsets()[row] as u32),
                            n => return Err(Error::data(format!("ELEMENT of an array of {n} elements"))),
                        },
                    });
                }
                Ok(compute::take(list.values(), &UInt32Array::from(picks), None)?)
            });
            Ok(Some(call(n, args.to_vec(), out, kernel)))
        }),
        special("TYPEOF", "(ANY)", |n, args, _| {
            let Some(x) = args.first() else { return Ok(None) };
            let name = x.data_type().to_string();
            let kernel = text(move |_, _, out| {
                out.push_str(&name);
                Some(())
            });
            Ok(Some(call(n, args.to_vec(), TypeKind::STRING.nullable(), kernel)))
        }),
    ]
}

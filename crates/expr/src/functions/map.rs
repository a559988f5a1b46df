//! Functions over maps; of equal keys the last entry stays.

use super::collection::{build_map, to_common};
use super::{Function, plain, special};
use crate::args::{Args, Kernel, downcast_err};
use crate::node::call;
use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute;
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField};
use millstream_core::types::SessionZone;
use millstream_core::{DataType, Error, ExprRef, Field, Result, TypeKind};
use std::sync::Arc;

/// Keys, values or both of a map as an array.
#[derive(Clone, Copy)]
enum Part {
    Keys,
    Values,
    Entries,
}

fn part(name: &str, args: &[ExprRef], part: Part) -> Option<ExprRef> {
    let [x] = args else { return None };
    let TypeKind::Map(key, value) = &x.data_type().kind else { return None };
    let item: DataType = match part {
        Part::Keys => (**key).clone(),
        Part::Values => (**value).clone(),
        Part::Entries => {
            let fields = vec![Field::new("key", (**key).clone()), Field::new("value", (**value).clone())];
            TypeKind::Row(fields).nullable()
        }
    };
    let arrow = item.arrow();
    let kernel: Kernel = Arc::new(move |a| {
        let map = a.array(0)?;
        let map = map.as_map_opt().ok_or_else(|| downcast_err("a map"))?;
        let items: ArrayRef = match (part, &arrow) {
            (Part::Keys, _) => map.keys().clone(),
            (Part::Values, _) => map.values().clone(),
            (Part::Entries, ArrowType::Struct(fields)) => {
                Arc::new(StructArray::try_new(fields.clone(), vec![map.keys().clone(), map.values().clone()], None)?)
            }
            _ => return Err(downcast_err("a row")),
        };
        let field = Arc::new(ArrowField::new("item", arrow.clone(), true));
        Ok(Arc::new(ListArray::try_new(field, map.offsets().clone(), items, map.nulls().cloned())?))
    });
    let out = TypeKind::Array(Box::new(item)).nullable().with_nullable(x.data_type().nullable);
    Some(call(name, args.to_vec(), out, kernel))
}

/// A row's entries: the places of key and value in the sources.
type Entries = Vec<((usize, usize), (usize, usize))>;

/// Maps of entries picked from sources of keys and of values.
fn gather(
    a: &Args<'_>,
    keys: &[ArrayRef],
    values: &[ArrayRef],
    mut row: impl FnMut(usize) -> Result<Option<Entries>>,
) -> Result<ArrayRef> {
    let mut compare = vec![];
    for x in keys {
        let row = keys.iter().map(|y| make_comparator(x, y, Default::default()));
        compare.push(row.collect::<std::result::Result<Vec<_>, _>>()?);
    }
    let equal = |x: (usize, usize), y: (usize, usize)| compare[x.0][y.0](x.1, y.1).is_eq();
    let (mut key_picks, mut value_picks): (Vec<(usize, usize)>, Vec<(usize, usize)>) = (vec![], vec![]);
    let (mut lengths, mut valid) = (vec![], vec![]);
    for i in 0..a.rows {
        let entries = row(i)?;
        valid.push(entries.is_some());
        let start = key_picks.len();
        for (key, value) in entries.into_iter().flatten() {
            if keys[key.0].is_null(key.1) {
                return Err(Error::data("a map key is NULL"));
            }
            match (start..key_picks.len()).find(|at| equal(key_picks[*at], key)) {
                Some(at) => value_picks[at] = value,
                None => {
                    key_picks.push(key);
                    value_picks.push(value);
                }
            }
        }
        lengths.push(key_picks.len() - start);
    }
    let pick = |from: &[ArrayRef], picks: &[(usize, usize)]| -> Result<ArrayRef> {
        let arrays: Vec<&dyn Array> = from.iter().map(|a| a.as_ref()).collect();
        Ok(compute::interleave(&arrays, picks)?)
    };
    let nulls = NullBuffer::from(valid);
    let (keys, values) = (pick(keys, &key_picks)?, pick(values, &value_picks)?);
    build_map(&a.out.arrow(), keys, values, OffsetBuffer::from_lengths(lengths), Some(nulls))
}

fn union(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some((common, args)) = to_common(args, zone)? else { return Ok(None) };
    if !matches!(common.kind, TypeKind::Map(..)) {
        return Ok(None);
    }
    let kernel: Kernel = Arc::new(|a| {
        let maps = a.columns.iter().map(|c| c.array().as_map_opt().ok_or_else(|| downcast_err("a map")));
        let maps = maps.collect::<Result<Vec<_>>>()?;
        let keys: Vec<ArrayRef> = maps.iter().map(|m| m.keys().clone()).collect();
        let values: Vec<ArrayRef> = maps.iter().map(|m| m.values().clone()).collect();
        gather(a, &keys, &values, |i| {
            let mut entries = vec![];
            for (k, map) in maps.iter().enumerate() {
                let row = a.row(k, i);
                if map.is_null(row) {
                    return Ok(None);
                }
                let offsets = map.value_offsets();
                entries.extend((offsets[row] as usize..offsets[row + 1] as usize).map(|at| ((k, at), (k, at))));
            }
            Ok(Some(entries))
        })
    });
    Ok(Some(call(name, args, common, kernel)))
}

fn from_arrays(name: &str, args: &[ExprRef]) -> Option<ExprRef> {
    let [keys, values] = args else { return None };
    let (TypeKind::Array(key), TypeKind::Array(value)) = (&keys.data_type().kind, &values.data_type().kind) else {
        return None;
    };
    let nullable = keys.data_type().nullable || values.data_type().nullable;
    let out = TypeKind::Map(key.clone(), value.clone()).nullable().with_nullable(nullable);
    let kernel: Kernel = Arc::new(|a| {
        let list = |k: usize| a.columns[k].array().as_list_opt::<i32>().ok_or_else(|| downcast_err("an array"));
        let (keys, values) = (list(0)?, list(1)?);
        gather(a, &[keys.values().clone()], &[values.values().clone()], |i| {
            let (k, v) = (a.row(0, i), a.row(1, i));
            if keys.is_null(k) || values.is_null(v) {
                return Ok(None);
            }
            let (n, m) = (keys.value_length(k), values.value_length(v));
            if n != m {
                return Err(Error::data(format!("MAP_FROM_ARRAYS has {n} keys, but {m} values")));
            }
            let (k, v) = (keys.value_offsets()[k] as usize, values.value_offsets()[v] as usize);
            Ok(Some((0..n as usize).map(|at| ((0, k + at), (0, v + at))).collect()))
        })
    });
    Some(call(name, args.to_vec(), out, kernel))
}

/// `STR_TO_MAP`: both delimiters are regular expressions.
fn str_to_map(a: &Args<'_>) -> Result<ArrayRef> {
    let (mut keys, mut values) = (StringBuilder::new(), StringBuilder::new());
    let (mut lengths, mut valid) = (vec![], vec![]);
    let invalid = |pattern: &str| Error::data(format!("'{pattern}' is not a valid regular expression"));
    for i in 0..a.rows {
        let (pairs, key_value) = if a.len() > 1 { (a.str(1, i), a.str(2, i)) } else { (Some(","), Some("=")) };
        let (Some(s), Some(pairs), Some(key_value)) = (a.str(0, i), pairs, key_value) else {
            valid.push(false);
            lengths.push(0);
            continue;
        };
        let mut entries: Vec<(&str, Option<&str>)> = vec![];
        for pair in super::regex::split(s, pairs, None).ok_or_else(|| invalid(pairs))? {
            let parts = super::regex::split(pair, key_value, Some(2)).ok_or_else(|| invalid(key_value))?;
            let (key, value) = match parts.as_slice() {
                [key, value] => (*key, Some(*value)),
                _ => (pair, None),
            };
            match entries.iter_mut().find(|(known, _)| *known == key) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        valid.push(true);
        lengths.push(entries.len());
        for (key, value) in entries {
            keys.append_value(key);
            values.append_option(value);
        }
    }
    let (keys, values) = (Arc::new(keys.finish()), Arc::new(values.finish()));
    build_map(&a.out.arrow(), keys, values, OffsetBuffer::from_lengths(lengths), Some(NullBuffer::from(valid)))
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        special("MAP_KEYS", "(MAP)", |n, a, _| Ok(part(n, a, Part::Keys))),
        special("MAP_VALUES", "(MAP)", |n, a, _| Ok(part(n, a, Part::Values))),
        special("MAP_ENTRIES", "(MAP)", |n, a, _| Ok(part(n, a, Part::Entries))),
        special("MAP_UNION", "(MAP, ...)", union),
        special("MAP_FROM_ARRAYS", "(ARRAY, ARRAY)", |n, a, _| Ok(from_arrays(n, a))),
        plain("STR_TO_MAP", &["s", "sss"], "MAP?", |_| Arc::new(str_to_map)),
    ]
}

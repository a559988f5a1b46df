//! Functions over arrays; elements are compared as values, and NULL equals NULL.

use super::collection::{lists, to_common};
use super::{Function, fit, plain, special};
use crate::args::{Args, Kernel, downcast_err, text};
use crate::cast::implicit;
use crate::node::call;
use arrow::array::*;
use arrow::compute::SortOptions;
use arrow::datatypes::DataType as ArrowType;
use millstream_core::types::SessionZone;
use millstream_core::{DataType, ExprRef, Result, TypeKind};
use std::cmp::Ordering;
use std::sync::Arc;

/// An element: which source, and its row there.
type Place = (usize, usize);

fn list<'a>(a: &'a Args<'_>, k: usize) -> Result<&'a ListArray> {
    a.columns[k].array().as_list_opt().ok_or_else(|| downcast_err("an array"))
}

/// The places of the elements of a row's list, NULL if the list is.
fn places(list: &ListArray, source: usize, row: usize) -> Option<impl DoubleEndedIterator<Item = Place> + Clone> {
    let offsets = list.value_offsets();
    (!list.is_null(row)).then(|| (offsets[row] as usize..offsets[row + 1] as usize).map(move |at| (source, at)))
}

/// An array of lists made of elements of `sources`.
fn gather(a: &Args<'_>, sources: &[ArrayRef], row: impl FnMut(usize) -> Option<Vec<Place>>) -> Result<ArrayRef> {
    let ArrowType::List(item) = a.out.arrow() else { return Err(downcast_err("an array")) };
    lists(item.data_type(), sources, &(0..a.rows).map(row).collect::<Vec<_>>())
}

/// Compares elements of several sources.
struct Comparators(Vec<Vec<DynComparator>>);

impl Comparators {
    fn new(sources: &[ArrayRef]) -> Result<Self> {
        let row = |x: &ArrayRef| {
            let all = sources.iter().map(|y| make_comparator(x, y, SortOptions::default()));
            all.collect::<std::result::Result<Vec<_>, _>>()
        };
        Ok(Comparators(sources.iter().map(row).collect::<std::result::Result<_, _>>()?))
    }
    fn equal(&self, x: Place, y: Place) -> bool {
        self.order(x, y).is_eq()
    }
    fn order(&self, x: Place, y: Place) -> Ordering {
        self.0[x.0][y.0](x.1, y.1)
    }
}

/// What a set operation takes of two lists.
type Choose = fn(&Comparators, &[Place], &[Place]) -> Vec<Place>;

fn distinct(compare: &Comparators, places: impl Iterator<Item = Place>) -> Vec<Place> {
    let mut out: Vec<Place> = vec![];
    for p in places {
        if !out.iter().any(|q| compare.equal(p, *q)) {
            out.push(p);
        }
    }
    out
}

fn set_operation(name: &str, args: &[ExprRef], zone: &SessionZone, choose: Choose) -> Result<Option<ExprRef>> {
    let [_, _] = args else { return Ok(None) };
    let Some((common, args)) = common_arrays(args, zone)? else { return Ok(None) };
    let kernel: Kernel = Arc::new(move |a| {
        let (l, r) = (list(a, 0)?, list(a, 1)?);
        let sources = [l.values().clone(), r.values().clone()];
        let compare = Comparators::new(&sources)?;
        gather(a, &sources, |i| {
            let left: Vec<Place> = places(l, 0, a.row(0, i))?.collect();
            let right: Vec<Place> = places(r, 1, a.row(1, i))?.collect();
            Some(choose(&compare, &left, &right))
        })
    });
    Ok(Some(call(name, args, common, kernel)))
}

/// The arguments as arrays of one type.
fn common_arrays(args: &[ExprRef], zone: &SessionZone) -> Result<Option<(DataType, Vec<ExprRef>)>> {
    let arrays = args.iter().any(|a| matches!(a.data_type().kind, TypeKind::Array(_)));
    let arrays = arrays && args.iter().all(|a| matches!(a.data_type().kind, TypeKind::Array(_) | TypeKind::Null));
    if arrays { to_common(args, zone) } else { Ok(None) }
}

fn concat(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some((common, args)) = common_arrays(args, zone)? else { return Ok(None) };
    let kernel: Kernel = Arc::new(|a| {
        let all = (0..a.len()).map(|k| list(a, k)).collect::<Result<Vec<_>>>()?;
        let sources: Vec<ArrayRef> = all.iter().map(|l| l.values().clone()).collect();
        gather(a, &sources, |i| {
            let mut out = vec![];
            for (k, l) in all.iter().enumerate() {
                out.extend(places(l, k, a.row(k, i))?);
            }
            Some(out)
        })
    });
    Ok(Some(call(name, args, common, kernel)))
}

/// The array's element type, and the array and an element cast to it.
fn with_element(args: &[ExprRef], zone: &SessionZone) -> Result<Option<(DataType, Vec<ExprRef>)>> {
    let [array, x] = args else { return Ok(None) };
    let TypeKind::Array(item) = &array.data_type().kind else { return Ok(None) };
    if item.kind.is_character() && x.data_type().kind.is_character() {
        // A longer text must not be cut to the elements' length.
        let wider = crate::typing::common_type(&[(**item).clone(), x.data_type().clone().with_nullable(item.nullable)]);
        return Ok(wider.map(|item| (item, vec![array.clone(), x.clone()])));
    }
    let wanted = (**item).clone().with_nullable(x.data_type().nullable);
    match crate::typing::common_type(&[wanted.clone(), x.data_type().clone()]) {
        None => Ok(None),
        Some(_) => Ok(Some(((**item).clone(), vec![array.clone(), implicit(x, &wanted, zone)?]))),
    }
}

fn extend(name: &str, args: &[ExprRef], zone: &SessionZone, at_front: bool) -> Result<Option<ExprRef>> {
    let Some((item, args)) = with_element(args, zone)? else { return Ok(None) };
    let nullable = item.nullable || args.iter().skip(1).any(|x| x.data_type().nullable);
    let out = TypeKind::Array(Box::new(item.with_nullable(nullable))).nullable();
    let out = out.with_nullable(args.iter().any(|a| a.data_type().nullable));
    let kernel: Kernel = Arc::new(move |a| {
        let l = list(a, 0)?;
        gather(a, &[l.values().clone(), a.columns[1].array().clone()], |i| {
            let (all, x) = (places(l, 0, a.row(0, i))?, (1, a.row(1, i)));
            Some(match at_front {
                true => std::iter::once(x).chain(all).collect(),
                false => all.chain([x]).collect(),
            })
        })
    });
    Ok(Some(call(name, args, out, kernel)))
}

fn remove(name: &str, args: &[ExprRef], zone: &SessionZone) -> Result<Option<ExprRef>> {
    let Some((_, args)) = with_element(args, zone)? else { return Ok(None) };
    let out = args[0].data_type().clone();
    let kernel: Kernel = Arc::new(|a| {
        let l = list(a, 0)?;
        let sources = [l.values().clone(), a.columns[1].array().clone()];
        let compare = Comparators::new(&sources)?;
        gather(a, &sources, |i| {
            let x = (1, a.row(1, i));
            Some(places(l, 0, a.row(0, i))?.filter(|p| !compare.equal(*p, x)).collect())
        })
    });
    Ok(Some(call(name, args, out, kernel)))
}

/// Where the element is, from 1; 0 if nowhere.
fn found(a: &Args<'_>, compare: &Comparators, l: &ListArray, i: usize) -> Option<usize> {
    let x = (1, a.row(1, i));
    Some(places(l, 0, a.row(0, i))?.position(|p| compare.equal(p, x)).map_or(0, |at| at + 1))
}

fn search(name: &str, args: &[ExprRef], zone: &SessionZone, position: bool) -> Result<Option<ExprRef>> {
    let Some((_, args)) = with_element(args, zone)? else { return Ok(None) };
    let kind = if position { TypeKind::Int } else { TypeKind::Boolean };
    let nullable = args[0].data_type().nullable || (position && args[1].data_type().nullable);
    let kernel: Kernel = Arc::new(move |a| {
        let l = list(a, 0)?;
        let compare = Comparators::new(&[l.values().clone(), a.columns[1].array().clone()])?;
        let at = |i: usize| found(a, &compare, l, i);
        Ok(match position {
            true => {
                let known = |i: &usize| !a.is_null(1, *i);
                let values = (0..a.rows).map(|i| Some(i).filter(known).and_then(at).map(|at| at as i32));
                Arc::new(values.collect::<Int32Array>())
            }
            false => Arc::new((0..a.rows).map(|i| at(i).map(|at| at > 0)).collect::<BooleanArray>()),
        })
    });
    Ok(Some(call(name, args, kind.nullable().with_nullable(nullable), kernel)))
}

/// A function of one array that gives an array of the same type.
fn reorder(
    name: &str,
    args: &[ExprRef],
    zone: &SessionZone,
    spec: &str,
    order: fn(&Args<'_>, usize, &Comparators, Vec<Place>) -> Option<Vec<Place>>,
) -> Result<Option<ExprRef>> {
    let Some(args) = fit(spec, args, zone)? else { return Ok(None) };
    let nullable = args.iter().any(|a| a.data_type().nullable);
    let out = args[0].data_type().clone().with_nullable(nullable);
    let kernel: Kernel = Arc::new(move |a| {
        let l = list(a, 0)?;
        let sources = [l.values().clone()];
        let compare = Comparators::new(&sources)?;
        gather(a, &sources, |i| order(a, i, &compare, places(l, 0, a.row(0, i))?.collect()))
    });
    Ok(Some(call(name, args, out, kernel)))
}

/// By default ascending; NULLs come first when ascending, unless the third argument says otherwise.
fn sorted(a: &Args<'_>, i: usize, compare: &Comparators, places: Vec<Place>) -> Option<Vec<Place>> {
    let ascending = if a.len() > 1 { a.bool(1, i)? } else { true };
    let nulls_first = if a.len() > 2 { a.bool(2, i)? } else { ascending };
    let items = a.columns[0].array().as_list_opt::<i32>()?.values();
    let (mut nulls, mut rest): (Vec<Place>, Vec<Place>) = places.into_iter().partition(|p| items.is_null(p.1));
    rest.sort_by(|x, y| {
        let order = compare.order(*x, *y);
        if ascending { order } else { order.reverse() }
    });
    if nulls_first {
        nulls.extend(rest);
        return Some(nulls);
    }
    rest.extend(nulls);
    Some(rest)
}

fn slice(a: &Args<'_>, i: usize, _: &Comparators, places: Vec<Place>) -> Option<Vec<Place>> {
    let n = places.len() as i64;
    let (start, end) = (a.int(1, i)?, if a.len() > 2 { a.int(2, i)? } else { n });
    let from_end = |at: i64| if at < 0 { at + n + 1 } else { at };
    let start = from_end(start).max(1);
    let end = match from_end(end) {
        0 => 1,
        end => end.min(n),
    };
    if end < start || places.is_empty() {
        return Some(vec![]);
    }
    Some(places[start as usize - 1..end as usize].to_vec())
}

/// The greatest or the least element, NULLs aside.
fn extreme(name: &str, args: &[ExprRef], wanted: Ordering) -> Option<ExprRef> {
    let [x] = args else { return None };
    let TypeKind::Array(item) = &x.data_type().kind else { return None };
    if matches!(item.kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_)) {
        return None;
    }
    let kernel: Kernel = Arc::new(move |a| {
        let l = list(a, 0)?;
        let compare = make_comparator(l.values(), l.values(), SortOptions::default())?;
        let best = |i: usize| {
            let items = places(l, 0, a.row(0, i))?.map(|p| p.1).filter(|at| !l.values().is_null(*at));
            items.reduce(|x, y| if compare(y, x) == wanted { y } else { x }).map(|at| at as u32)
        };
        Ok(arrow::compute::take(l.values(), &(0..a.rows).map(best).collect::<UInt32Array>(), None)?)
    });
    Some(call(name, args.to_vec(), (**item).clone().with_nullable(true), kernel))
}

pub(super) fn functions() -> Vec<Function> {
    vec![
        special("ARRAY_UNION", "(ARRAY, ARRAY)", |n, a, z| {
            set_operation(n, a, z, |c, l, r| distinct(c, l.iter().chain(r).copied()))
        }),
        special("ARRAY_INTERSECT", "(ARRAY, ARRAY)", |n, a, z| {
            set_operation(n, a, z, |c, l, r| {
                distinct(c, l.iter().copied().filter(|p| r.iter().any(|q| c.equal(*p, *q))))
            })
        }),
        special("ARRAY_EXCEPT", "(ARRAY, ARRAY)", |n, a, z| {
            set_operation(n, a, z, |c, l, r| {
                distinct(c, l.iter().copied().filter(|p| !r.iter().any(|q| c.equal(*p, *q))))
            })
        }),
        special("ARRAY_CONCAT", "(ARRAY, ...)", concat),
        special("ARRAY_APPEND", "(ARRAY, element)", |n, a, z| extend(n, a, z, false)),
        special("ARRAY_PREPEND", "(ARRAY, element)", |n, a, z| extend(n, a, z, true)),
        special("ARRAY_REMOVE", "(ARRAY, element)", remove),
        special("ARRAY_CONTAINS", "(ARRAY, element)", |n, a, z| search(n, a, z, false)),
        special("ARRAY_POSITION", "(ARRAY, element)", |n, a, z| search(n, a, z, true)),
        special("ARRAY_DISTINCT", "(ARRAY)", |n, a, z| {
            reorder(n, a, z, "A", |_, _, c, places| Some(distinct(c, places.into_iter())))
        }),
        special("ARRAY_REVERSE", "(ARRAY)", |n, a, z| {
            reorder(n, a, z, "A", |_, _, _, places| Some(places.into_iter().rev().collect()))
        }),
        special("ARRAY_SORT", "(ARRAY[, BOOLEAN[, BOOLEAN]])", |n, a, z| reorder(n, a, z, "Ab?b?", sorted)),
        special("ARRAY_SLICE", "(ARRAY, INT[, INT])", |n, a, z| reorder(n, a, z, "Aii?", slice)),
        special("ARRAY_MAX", "(ARRAY)", |n, a, _| Ok(extreme(n, a, Ordering::Greater))),
        special("ARRAY_MIN", "(ARRAY)", |n, a, _| Ok(extreme(n, a, Ordering::Less))),
        plain("ARRAY_JOIN", &["Ass?"], "STRING", |_| {
            text(|a, i, out| {
                let (list, separator) = (a.list(0, i)?, a.str(1, i)?);
                let null = if a.len() > 2 { Some(a.str(2, i)?) } else { None };
                let items = list.as_string_opt::<i32>()?;
                let mut first = true;
                for item in items.iter().filter_map(|item| item.or(null)) {
                    if !first {
                        out.push_str(separator);
                    }
                    first = false;
                    out.push_str(item);
                }
                Some(())
            })
        }),
    ]
}

//! Joins with a table as it is now: `JOIN d FOR SYSTEM_TIME AS OF o.proc_time ON o.k = d.k` (flink docs: "Joins", lookup
//! join), and what the hint LOOKUP says.

use super::expr::Scope;
use super::place::{At, Placed, at_expr, at_name, error, with_nearest};
use super::query::QueryBinder;
use super::temporal::columns;
use crate::catalog::Relation;
use crate::parser::ast::Hint;
use crate::parser::decode;
use crate::plan::lookup::{LookupHints, keys, seen};
use crate::rel::{Rel, RelOp, RelRef};
use millstream_core::graph::{JoinKind, RetryMissing};
use millstream_core::options::parse_duration;
use millstream_core::{Error, Result};
use sqlparser::ast::{Expr, JoinConstraint, TableFactor};

/// A LOOKUP hint.
#[derive(Debug)]
pub(super) struct TableHint {
    /// The table's name or alias.
    pub(super) table: String,
    hints: LookupHints,
    pub(super) at: At,
    pub(super) is_used: bool,
}

impl QueryBinder<'_> {
    /// Joins what is bound so far with a table as it is when rows arrive.
    pub(super) fn lookup_join(
        &mut self,
        left: (RelRef, Scope),
        factor: &TableFactor,
        time: &Expr,
        (kind, constraint): (JoinKind, &JoinConstraint),
        at: At,
    ) -> Result<(RelRef, Scope)> {
        let outer = kind == JoinKind::Left;
        let right = self.factor(factor, at)?;
        let zone = self.zone();
        let name = right.1.tables.first().map_or_else(|| "the table".to_string(), |(name, ..)| name.clone());
        let refused = |reason: String| {
            Error::unsupported(format!("a join with '{name}' as it is now"))
                .detail(reason)
                .hint(
                    "at processing time rows are looked up in a table of files or of a database; \
                     versions are joined by event time",
                )
                .at_place(at_expr(time))
        };
        let Some(seen) = seen(&right.0, &zone)? else {
            return Err(refused("it is the result of a query, not a table with a filter and a projection".into()));
        };
        let (table, hints) = (&seen.table, self.own_options(factor)?);
        if seen.has_hints && hints.is_empty() {
            return Err(refused("OPTIONS hints stand in the view".into()));
        }
        if table.watermark.is_some() {
            return Err(refused(format!(
                "table '{}' has event time (WATERMARK FOR), so its rows are versions",
                table.name
            )));
        }
        let definition = table.source_definition(&hints);
        let connector = definition.options.get("connector").map_or("", String::as_str);
        let connector = self.registry.connector(connector).at_place(table.at)?;
        let found = connector.lookup(&definition, self.session).map_err(|e| table.place_of_option(e)).at_place(at)?;
        let Some(source) = found else {
            return Err(refused(format!(
                "the connector '{}' has no tables that rows are looked up in",
                connector.name()
            )));
        };
        let hints = match self.hints.lookups.iter_mut().find(|hint| hint.table == name || hint.table == table.name) {
            Some(hint) => {
                hint.is_used = true;
                hint.hints
            }
            None => LookupHints::default(),
        };
        let place = match constraint {
            JoinConstraint::On(on) => at_expr(on),
            _ => at,
        };
        self.joined(left, right, (kind, constraint), at, |left, right, condition| {
            if keys(condition.as_ref(), left.columns.len(), &seen.columns).0.is_empty() {
                return Err(Error::script(format!("nothing says which rows of '{name}' are looked up"))
                    .detail(
                        "the condition of such a join needs an equality with a column of the table, of the same type",
                    )
                    .hint("write ON o.k = d.k; CAST the other side if the types differ")
                    .at_place(place));
            }
            let columns = columns(&left.columns, &right.columns, outer);
            Ok(Rel::new(RelOp::LookupJoin { left, right, source, outer, condition, hints }, columns))
        })
    }

    /// The OPTIONS hints of a table that is named; none of a view.
    fn own_options(&self, factor: &TableFactor) -> Result<Vec<(String, String)>> {
        let TableFactor::Table { name, with_hints, .. } = factor else { return Ok(vec![]) };
        match self.catalog.find(name).at_place(at_name(name)) {
            Ok(Relation::Table(_)) => {
                Ok(decode::table_hints(with_hints)?.into_iter().flat_map(|hint| hint.options).collect())
            }
            Ok(Relation::View(_)) | Err(_) => Ok(vec![]),
        }
    }
}

/// The keys of the hint, and what their values are.
const KEYS: [(&str, &str); 9] = [
    ("table", "a table's name or alias"),
    ("async", "'true' or 'false'"),
    ("output-mode", "'ordered' or 'allow_unordered'"),
    ("capacity", "a number above 0"),
    ("timeout", "a duration above 0, such as '10 s'"),
    ("retry-predicate", "'lookup_miss'"),
    ("retry-strategy", "'fixed_delay'"),
    ("fixed-delay", "a duration above 0, such as '10 s'"),
    ("max-attempts", "a number above 0"),
];
/// Those that a retry needs, all of them.
const RETRY: &[(&str, &str)] = KEYS.split_at(5).1;

/// Reads a LOOKUP hint.
pub(super) fn table_hint(hint: &Hint) -> Result<TableHint> {
    let at = (hint.line, hint.column);
    if let Some(arg) = hint.args.first() {
        return Err(Error::script(format!("the hint LOOKUP takes 'key' = 'value', not `{arg}`"))
            .hint("write /*+ LOOKUP('table' = 'd', 'capacity' = '1000') */")
            .at_place(at));
    }
    let mut table = None;
    let mut hints = LookupHints::default();
    let (mut delay_ms, mut max_attempts) = (0, 0);
    for (key, value) in &hint.options {
        let Some((_, expected)) = KEYS.iter().find(|(known, _)| known == key) else {
            let error = Error::script(format!("the hint LOOKUP has no key '{key}'")).at_place(at);
            return Err(with_nearest(error, key, KEYS.iter().map(|(known, _)| *known)));
        };
        let number = || value.parse().ok().filter(|n| *n > 0u64);
        let milliseconds = || parse_duration(value).ok().map(|d| d.as_millis() as u64).filter(|ms| *ms > 0);
        let lower = value.to_ascii_lowercase();
        let taken = match (key.as_str(), lower.as_str()) {
            ("table", _) => table.replace(value.clone()).is_none(),
            ("async", "true" | "false") => hints.is_async.replace(lower == "true").is_none(),
            ("output-mode", "ordered" | "allow_unordered") => hints.ordered.replace(lower == "ordered").is_none(),
            ("capacity", _) => number().is_some_and(|n| hints.capacity.replace(n).is_none()),
            ("timeout", _) => milliseconds().is_some_and(|ms| hints.timeout_ms.replace(ms).is_none()),
            ("retry-predicate", "lookup_miss") | ("retry-strategy", "fixed_delay") => true,
            ("fixed-delay", _) => milliseconds().is_some_and(|ms| std::mem::replace(&mut delay_ms, ms) == 0),
            ("max-attempts", _) => {
                let attempts = number().and_then(|n| u32::try_from(n).ok());
                attempts.is_some_and(|n| std::mem::replace(&mut max_attempts, n) == 0)
            }
            _ => false,
        };
        if !taken {
            return error(at, format!("'{key}' of the hint LOOKUP is '{value}', but must be {expected}, once"));
        }
    }
    let is_given = |key: &&(&str, &str)| hint.options.iter().any(|(given, _)| given == key.0);
    match RETRY.iter().filter(is_given).count() {
        0 => {}
        4 => hints.retry_missing = Some(RetryMissing { max_attempts, delay_ms }),
        _ => {
            let all = RETRY.iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ");
            return Err(Error::script("a retry in the hint LOOKUP needs all of its four keys")
                .hint(format!("give {all}, or none of them"))
                .at_place(at));
        }
    }
    match table {
        Some(table) => Ok(TableHint { table, hints, at, is_used: false }),
        None => error(at, "the hint LOOKUP needs 'table' = '..': the name or alias of the table"),
    }
}

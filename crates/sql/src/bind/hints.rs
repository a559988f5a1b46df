//! The hints that follow SELECT: LOOKUP and STATE_TTL (flink docs: "SQL Hints"). They are about the tables of that query
//! block alone, not of the views and queries in its FROM.

use super::expr::Scope;
use super::lookup::{TableHint, table_hint};
use super::place::{At, Placed, error, with_nearest};
use crate::catalog::{CATALOG, DATABASE};
use crate::parser::ast::Hint;
use crate::parser::decode;
use millstream_core::options::parse_duration;
use millstream_core::{Error, Result};
use sqlparser::ast::Select;

/// The hints that Flink has; all but the first two choose among joins of batch jobs, and do nothing.
const NAMES: [&str; 6] = ["STATE_TTL", "LOOKUP", "BROADCAST", "SHUFFLE_HASH", "SHUFFLE_MERGE", "NEST_LOOP"];

/// The hints of a SELECT.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// How tables are looked up in.
    pub(super) lookups: Vec<TableHint>,
    ttls: Vec<Ttl>,
}

/// How long rows of a table live without use in joins and aggregates.
#[derive(Debug)]
struct Ttl {
    /// The table's alias; its name if it has none.
    table: String,
    ms: i64,
    at: At,
    is_used: bool,
}

impl Hints {
    /// Reads the hints of a SELECT.
    pub(super) fn of(select: &Select) -> Result<Hints> {
        let mut hints = Hints::default();
        for hint in decode::select_hints(select)? {
            match hint.name.as_str() {
                "LOOKUP" => hints.lookups.push(table_hint(&hint)?),
                "STATE_TTL" => {
                    // Of several hints about a table the first counts, within a hint the last.
                    for ttl in ttls(&hint)?.into_iter().rev() {
                        if !hints.ttls.iter().any(|known| known.table == ttl.table) {
                            hints.ttls.push(ttl);
                        }
                    }
                }
                name if NAMES.contains(&name) => {}
                name => {
                    let unknown = Error::script(format!("there is no hint {name}")).at_place((hint.line, hint.column));
                    return Err(with_nearest(unknown, name, NAMES.into_iter()));
                }
            }
        }
        Ok(hints)
    }

    /// How long rows of both sides of a join live: a side that is itself a join has no name to be told by.
    pub(super) fn ttl_of_sides(&mut self, left: &Scope, right: &Scope) -> [Option<i64>; 2] {
        [self.ttl_of(left), self.ttl_of(right)]
    }

    /// How long rows of a table live, in milliseconds; 0: for ever.
    pub(super) fn ttl_of(&mut self, scope: &Scope) -> Option<i64> {
        let [(name, ..)] = scope.tables.as_slice() else { return None };
        let ttl = self.ttls.iter_mut().find(|ttl| ttl.table == *name)?;
        ttl.is_used = true;
        Some(ttl.ms)
    }

    /// Refuses hints about tables that are not in FROM.
    pub(super) fn check(&self, from: &Scope) -> Result<()> {
        if let Some(unused) = self.lookups.iter().find(|hint| !hint.is_used) {
            let message = format!("the hint LOOKUP names '{}', which isn't looked up", unused.table);
            let meant = "'table' is the name or alias of a table that is joined FOR SYSTEM_TIME AS OF processing time";
            return Err(Error::script(message).hint(meant).at_place(unused.at));
        }
        let names = || from.tables.iter().map(|(name, ..)| name.as_str());
        match self.ttls.iter().find(|ttl| !ttl.is_used && !names().any(|name| name == ttl.table)) {
            None => Ok(()),
            Some(Ttl { table, at, .. }) => {
                let unknown = Error::script(format!("the hint STATE_TTL names '{table}', which isn't in FROM")).detail(
                    "a table is named by its alias if it has one; views and queries within FROM have their own hints",
                );
                Err(with_nearest(unknown.at_place(*at), table, names()))
            }
        }
    }
}

fn ttls(hint: &Hint) -> Result<Vec<Ttl>> {
    let at = (hint.line, hint.column);
    let example = "write /*+ STATE_TTL('orders' = '1 d', 'c' = '12 h') */";
    if let Some(arg) = hint.args.first() {
        let message = format!("the hint STATE_TTL takes 'table' = 'duration', not `{arg}`");
        return Err(Error::script(message).hint(example).at_place(at));
    }
    if hint.options.is_empty() {
        return Err(Error::script("the hint STATE_TTL names no table").hint(example).at_place(at));
    }
    let ttl = |(table, value): &(String, String)| {
        let Some(ms) = parse_duration(value).ok().and_then(|ttl| i64::try_from(ttl.as_millis()).ok()) else {
            return error(
                at,
                format!(
                    "'{table}' of the hint STATE_TTL is '{value}', but must be a duration, such as '12 h'; '0': for ever"
                ),
            );
        };
        let qualified = [format!("{CATALOG}.{DATABASE}."), format!("{DATABASE}.")];
        let name = qualified.iter().find_map(|prefix| table.strip_prefix(prefix.as_str())).unwrap_or(table);
        Ok(Ttl { table: name.to_string(), ms, at, is_used: false })
    };
    hint.options.iter().map(ttl).collect()
}

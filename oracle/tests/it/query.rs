//! Queries as trees of clauses, written in both dialects, and cut smaller.

use std::fmt::Write;

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Flink's.
    Ours,
    /// DataFusion's, where times are milliseconds.
    Theirs,
}

/// A piece of SQL in both dialects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sql {
    pub ours: String,
    pub theirs: String,
}

impl Sql {
    /// The same in both.
    pub fn same(text: impl Into<String>) -> Sql {
        let ours = text.into();
        Sql { theirs: ours.clone(), ours }
    }
    /// Made of other pieces, in each dialect by itself.
    pub fn of(text: impl Fn(Dialect) -> String) -> Sql {
        Sql { ours: text(Dialect::Ours), theirs: text(Dialect::Theirs) }
    }
    pub fn on(&self, dialect: Dialect) -> &str {
        match dialect {
            Dialect::Ours => &self.ours,
            Dialect::Theirs => &self.theirs,
        }
    }
}

/// A query.
#[derive(Clone, Debug)]
pub enum Query {
    Select(Box<Select>),
    Set { op: SetOp, all: bool, left: Box<Query>, right: Box<Query>, width: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOp {
    Union,
    Intersect,
    Except,
}

/// A SELECT; its columns are called c0, c1, ...
#[derive(Clone, Debug)]
pub struct Select {
    pub distinct: bool,
    pub items: Vec<Sql>,
    pub from: From,
    pub filters: Vec<Filter>,
    /// Without keys: all rows are one group, which is there if it has a row.
    pub group: Option<Vec<Sql>>,
    pub having: Vec<Sql>,
}

/// What stands in FROM, under a name.
#[derive(Clone, Debug)]
pub enum From {
    /// A table, or what else is made of a table alone.
    Plain {
        sql: Sql,
        alias: String,
    },
    Query {
        query: Query,
        alias: String,
    },
    Join {
        kind: &'static str,
        left: Box<From>,
        right: Box<From>,
        on: Vec<Sql>,
    },
    /// The first rows of each partition, in an order that leaves no doubt; with their numbers as a last column.
    Rank {
        query: Query,
        columns: Vec<String>,
        partition: Vec<String>,
        order: Vec<Sql>,
        rows: String,
        numbered: bool,
        alias: String,
    },
}

/// A condition of WHERE.
#[derive(Clone, Debug)]
pub enum Filter {
    Plain(Sql),
    In { not: bool, what: Sql, query: Query },
    Exists { not: bool, query: Query },
    Compare { what: Sql, op: &'static str, query: Query },
}

fn list(pieces: &[Sql], between: &str, dialect: Dialect) -> String {
    pieces.iter().map(|piece| piece.on(dialect)).collect::<Vec<_>>().join(between)
}

impl Query {
    /// The text.
    pub fn sql(&self, dialect: Dialect) -> String {
        match self {
            Query::Select(select) => select.sql(dialect),
            Query::Set { op, all, left, right, width } => {
                let word = match op {
                    SetOp::Union => "UNION",
                    SetOp::Intersect => "INTERSECT",
                    SetOp::Except => "EXCEPT",
                };
                let (l, r) = (left.sql(dialect), right.sql(dialect));
                if dialect == Dialect::Theirs && *all && *op != SetOp::Union {
                    // Duplicates are numbered: theirs does not count them.
                    let columns = (0..*width).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
                    let side = |q: &str| {
                        format!(
                            "SELECT {columns}, ROW_NUMBER() OVER (PARTITION BY {columns} ORDER BY {columns}) AS n FROM ({q}) AS s"
                        )
                    };
                    return format!("SELECT {columns} FROM (({}) {word} ({})) AS s", side(&l), side(&r));
                }
                format!("({l}) {word}{} ({r})", if *all { " ALL" } else { "" })
            }
        }
    }

    /// The same query with something left out, or a part of it alone; not all of them are valid.
    pub fn smaller(&self) -> Vec<Query> {
        match self {
            Query::Select(select) => {
                let mut all = select.parts();
                all.extend(select.smaller().into_iter().map(|s| Query::Select(Box::new(s))));
                all
            }
            Query::Set { op, all, left, right, width } => {
                let set = |left: &Query, right: &Query| {
                    let (left, right) = (Box::new(left.clone()), Box::new(right.clone()));
                    Query::Set { op: *op, all: *all, left, right, width: *width }
                };
                let mut smaller = vec![(**left).clone(), (**right).clone()];
                smaller.extend(left.smaller().iter().map(|left| set(left, right)));
                smaller.extend(right.smaller().iter().map(|right| set(left, right)));
                smaller
            }
        }
    }
}

impl Select {
    fn sql(&self, dialect: Dialect) -> String {
        let items = self.items.iter().enumerate().map(|(i, item)| format!("{} AS c{i}", item.on(dialect)));
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        let mut sql =
            format!("SELECT {distinct}{} FROM {}", items.collect::<Vec<_>>().join(", "), self.from.sql(dialect));
        if !self.filters.is_empty() {
            let filters: Vec<String> = self.filters.iter().map(|filter| filter.sql(dialect)).collect();
            let _ = write!(sql, " WHERE {}", filters.join(" AND "));
        }
        let mut having = self.having.clone();
        match &self.group {
            Some(keys) if keys.is_empty() => having.push(Sql::same("COUNT(*) > 0")),
            Some(keys) => {
                let _ = write!(sql, " GROUP BY {}", list(keys, ", ", dialect));
            }
            None => {}
        }
        if !having.is_empty() {
            let _ = write!(sql, " HAVING {}", list(&having, " AND ", dialect));
        }
        sql
    }

    /// The queries within.
    fn parts(&self) -> Vec<Query> {
        let mut parts = self.from.parts();
        for filter in &self.filters {
            match filter {
                Filter::Plain(_) => {}
                Filter::In { query, .. } | Filter::Exists { query, .. } | Filter::Compare { query, .. } => {
                    parts.push(query.clone());
                }
            }
        }
        parts
    }

    fn smaller(&self) -> Vec<Select> {
        let mut all = vec![];
        for (i, filter) in self.filters.iter().enumerate() {
            let without = |filters: Vec<Filter>| Select { filters, ..self.clone() };
            all.push(without([&self.filters[..i], &self.filters[i + 1..]].concat()));
            for smaller in filter.smaller() {
                all.push(without([&self.filters[..i], &[smaller], &self.filters[i + 1..]].concat()));
            }
        }
        for i in 0..self.having.len() {
            all.push(Select { having: [&self.having[..i], &self.having[i + 1..]].concat(), ..self.clone() });
        }
        if self.distinct {
            all.push(Select { distinct: false, ..self.clone() });
        }
        for i in 0..self.items.len().min(if self.items.len() > 1 { usize::MAX } else { 0 }) {
            let items = [&self.items[..i], &self.items[i + 1..]].concat();
            // A key that is no longer shown may go, too.
            let group = self.group.clone().map(|keys| keys.into_iter().filter(|k| *k != self.items[i]).collect());
            all.push(Select { items: items.clone(), group, ..self.clone() });
            all.push(Select { items, ..self.clone() });
        }
        all.extend(self.from.smaller().into_iter().map(|from| Select { from, ..self.clone() }));
        all
    }
}

impl Filter {
    fn sql(&self, dialect: Dialect) -> String {
        let word = |not: &bool| if *not { "NOT " } else { "" };
        match self {
            Filter::Plain(sql) => sql.on(dialect).to_string(),
            Filter::In { not: true, what, query } if dialect == Dialect::Theirs => {
                // By its definition: theirs takes NULLs lightly.
                let (what, query) = (what.on(dialect), query.sql(dialect));
                format!(
                    "NOT EXISTS (SELECT 1 FROM ({query}) AS n WHERE n.c0 = {what} OR n.c0 IS NULL OR {what} IS NULL)"
                )
            }
            Filter::In { not, what, query } => format!("{} {}IN ({})", what.on(dialect), word(not), query.sql(dialect)),
            Filter::Exists { not, query } => format!("{}EXISTS ({})", word(not), query.sql(dialect)),
            Filter::Compare { what, op, query } => format!("{} {op} ({})", what.on(dialect), query.sql(dialect)),
        }
    }

    fn smaller(&self) -> Vec<Filter> {
        let queries = |query: &Query, made: &dyn Fn(Query) -> Filter| query.smaller().into_iter().map(made).collect();
        match self.clone() {
            Filter::Plain(_) => vec![],
            Filter::In { not, what, query } => queries(&query, &|query| Filter::In { not, what: what.clone(), query }),
            Filter::Exists { not, query } => queries(&query, &|query| Filter::Exists { not, query }),
            Filter::Compare { what, op, query } => {
                queries(&query, &|query| Filter::Compare { what: what.clone(), op, query })
            }
        }
    }
}

impl From {
    fn sql(&self, dialect: Dialect) -> String {
        match self {
            From::Plain { sql, alias } => format!("{} AS {alias}", sql.on(dialect)),
            From::Query { query, alias } => format!("({}) AS {alias}", query.sql(dialect)),
            From::Join { kind, left, right, on } => {
                let (left, mut text) = (left.sql(dialect), right.sql(dialect));
                if matches!(**right, From::Join { .. }) {
                    text = format!("({text})");
                }
                format!("{left} {kind} JOIN {text} ON {}", list(on, " AND ", dialect))
            }
            From::Rank { query, columns, partition, order, rows, numbered, alias } => {
                let by = match partition.is_empty() {
                    true => String::new(),
                    false => format!("PARTITION BY {} ", partition.join(", ")),
                };
                let columns = columns.join(", ");
                format!(
                    "(SELECT {columns}{} FROM (SELECT {columns}, ROW_NUMBER() OVER ({by}ORDER BY {}) AS rn FROM ({}) AS q) AS r \
                     WHERE {rows}) AS {alias}",
                    if *numbered { ", rn" } else { "" },
                    list(order, ", ", dialect),
                    query.sql(dialect)
                )
            }
        }
    }

    fn parts(&self) -> Vec<Query> {
        match self {
            From::Plain { .. } => vec![],
            From::Query { query, .. } | From::Rank { query, .. } => vec![query.clone()],
            From::Join { left, right, .. } => [left.parts(), right.parts()].concat(),
        }
    }

    fn smaller(&self) -> Vec<From> {
        match self {
            From::Plain { .. } => vec![],
            From::Query { query, alias } => {
                let of = |query| From::Query { query, alias: alias.clone() };
                query.smaller().into_iter().map(of).collect()
            }
            From::Join { kind, left, right, on } => {
                let join = |left: &From, right: &From, on: Vec<Sql>| From::Join {
                    kind,
                    left: Box::new(left.clone()),
                    right: Box::new(right.clone()),
                    on,
                };
                let mut all = vec![(**left).clone(), (**right).clone()];
                for i in 0..on.len().min(if on.len() > 1 { usize::MAX } else { 0 }) {
                    all.push(join(left, right, [&on[..i], &on[i + 1..]].concat()));
                }
                all.extend(left.smaller().iter().map(|left| join(left, right, on.clone())));
                all.extend(right.smaller().iter().map(|right| join(left, right, on.clone())));
                all
            }
            From::Rank { query, alias, .. } => {
                let mut all = vec![From::Query { query: query.clone(), alias: alias.clone() }];
                for smaller in query.smaller() {
                    let mut rank = self.clone();
                    if let From::Rank { query, .. } = &mut rank {
                        *query = smaller;
                    }
                    all.push(rank);
                }
                all
            }
        }
    }
}

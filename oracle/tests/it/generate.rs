//! Random queries that are valid by construction, of columns whose kinds are known.

use crate::query::{Dialect, Filter, From, Query, Select, SetOp, Sql};
use crate::tables::{COLUMNS, Kind, START_MS, Table};
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

/// What an expression can name.
#[derive(Clone, Debug)]
struct Column {
    sql: Sql,
    kind: Kind,
}

type Scope = Vec<Column>;

/// Makes queries over some tables.
pub struct Generator<'a> {
    pub rng: &'a mut SmallRng,
    pub tables: &'a [Table],
    aliases: usize,
    joins: usize,
}

const KEYS: [Kind; 5] = [Kind::Int, Kind::Int, Kind::Text, Kind::Bool, Kind::Time];
const VALUES: [Kind; 6] = [Kind::Int, Kind::Text, Kind::Double, Kind::Decimal, Kind::Bool, Kind::Time];
const COMPARE: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

/// An INTERVAL literal, or milliseconds.
fn seconds(n: i64) -> Sql {
    Sql { ours: format!("INTERVAL '{n}' SECOND"), theirs: format!("{}", n * 1000) }
}

impl<'a> Generator<'a> {
    pub fn new(rng: &'a mut SmallRng, tables: &'a [Table]) -> Self {
        Generator { rng, tables, aliases: 0, joins: 3 }
    }

    fn chance(&mut self, p: f64) -> bool {
        self.rng.random_bool(p)
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(self.rng).expect("there is something to choose from")
    }
    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("a{}", self.aliases)
    }

    /// A whole query, and whether its first so many columns are a key without NULLs.
    pub fn query(&mut self) -> (Query, Option<usize>) {
        if self.chance(0.2) {
            let select = self.keyed();
            let keys = select.group.as_ref().map_or(0, Vec::len);
            return (Query::Select(Box::new(select)), Some(keys));
        }
        let depth = self.rng.random_range(1..=3);
        (self.any(depth).0, None)
    }

    /// A query of any columns, and their kinds.
    fn any(&mut self, depth: usize) -> (Query, Vec<Kind>) {
        if depth > 0 && self.chance(0.2) {
            let width = self.rng.random_range(1..=3);
            let kinds: Vec<Kind> = (0..width).map(|_| self.pick(&VALUES)).collect();
            return (self.of_kinds(&kinds, depth), kinds);
        }
        let (select, kinds) = self.select(depth);
        (Query::Select(Box::new(select)), kinds)
    }

    /// A query of these kinds of columns.
    fn of_kinds(&mut self, kinds: &[Kind], depth: usize) -> Query {
        if depth > 0 && self.chance(0.6) {
            let op = self.pick(&[SetOp::Union, SetOp::Union, SetOp::Intersect, SetOp::Except]);
            let all = self.chance(if op == SetOp::Union { 0.7 } else { 0.4 });
            let (left, right) = (self.of_kinds(kinds, depth - 1), self.of_kinds(kinds, depth - 1));
            return Query::Set { op, all, left: Box::new(left), right: Box::new(right), width: kinds.len() };
        }
        let (from, scope) = self.from(depth.saturating_sub(1));
        let items = kinds.iter().map(|kind| self.plain_or_not(*kind, &scope)).collect();
        let filters = self.filters(&scope, depth.min(1));
        Query::Select(Box::new(Select { distinct: false, items, from, filters, group: None, having: vec![] }))
    }

    fn plain_or_not(&mut self, kind: Kind, scope: &Scope) -> Sql {
        let of_kind: Vec<&Column> = scope.iter().filter(|c| c.kind == kind).collect();
        match of_kind.choose(self.rng) {
            Some(column) if self.rng.random_bool(0.7) => column.sql.clone(),
            _ => self.expr(kind, scope, 2),
        }
    }

    fn select(&mut self, depth: usize) -> (Select, Vec<Kind>) {
        match self.rng.random_range(0..10) {
            0 => self.windowed(),
            1 => self.over(),
            2..=5 => self.grouped(depth),
            _ => self.projected(depth),
        }
    }

    fn projected(&mut self, depth: usize) -> (Select, Vec<Kind>) {
        let (from, scope) = self.from(depth);
        let filters = self.filters(&scope, depth);
        let count = self.rng.random_range(1..=4);
        let mut kinds: Vec<Kind> = (0..count).map(|_| self.pick(&VALUES)).collect();
        let mut items: Vec<Sql> = kinds.iter().map(|kind| self.plain_or_not(*kind, &scope)).collect();
        if let Some(ratio) = scope.iter().find(|c| c.kind == Kind::Ratio) {
            items.push(ratio.sql.clone());
            kinds.push(Kind::Ratio);
        }
        let distinct = self.chance(0.15) && !kinds.contains(&Kind::Ratio);
        (Select { distinct, items, from, filters, group: None, having: vec![] }, kinds)
    }

    fn grouped(&mut self, depth: usize) -> (Select, Vec<Kind>) {
        let (from, scope) = self.from(depth);
        let filters = self.filters(&scope, depth);
        let mut keys = vec![];
        let mut kinds = vec![];
        for _ in 0..self.pick(&[0, 1, 1, 1, 2, 2]) {
            let kind = self.pick(&KEYS);
            if let Some(key) = self.key(kind, &scope)
                && !keys.contains(&key)
            {
                keys.push(key);
                kinds.push(kind);
            }
        }
        if self.chance(0.1)
            && let Some(parts) = self.parts(&scope)
        {
            keys.extend(parts);
            kinds.extend([Kind::Int; 2]);
        }
        self.aggregated(from, scope, filters, keys, kinds)
    }

    /// Something with few values to group by.
    fn key(&mut self, kind: Kind, scope: &Scope) -> Option<Sql> {
        let of_kind: Vec<Column> = scope.iter().filter(|c| c.kind == kind).cloned().collect();
        let column = of_kind.choose(self.rng)?.sql.clone();
        if kind == Kind::Int && self.chance(0.2) {
            return Some(Sql::of(|d| modulo(column.on(d), 3, d)));
        }
        if kind == Kind::Time && self.chance(0.4) {
            return Some(self.floor(&column));
        }
        Some(column)
    }

    fn aggregated(
        &mut self,
        from: From,
        scope: Scope,
        filters: Vec<Filter>,
        keys: Vec<Sql>,
        mut kinds: Vec<Kind>,
    ) -> (Select, Vec<Kind>) {
        let mut items = keys.clone();
        for _ in 0..self.rng.random_range(1..=3) {
            let (sql, kind) = self.aggregate(&scope);
            items.push(sql);
            kinds.push(kind);
        }
        if self.chance(0.1)
            && let Some(parts) = self.parts(&scope)
        {
            let name = self.pick(&["SUM", "MIN", "MAX"]);
            items.extend(parts.map(|part| Sql::of(|d| format!("{name}({})", part.on(d)))));
            kinds.extend([Kind::Int; 2]);
        }
        let mut having = vec![];
        if self.chance(0.2) {
            let (sql, kind) = self.aggregate(&scope);
            having.push(match kind {
                Kind::Int => {
                    let (op, n) = (self.pick(&COMPARE), self.rng.random_range(0..4));
                    Sql::of(|d| format!("{} {op} {n}", sql.on(d)))
                }
                _ => Sql::of(|d| format!("{} IS NOT NULL", sql.on(d))),
            });
        }
        (Select { distinct: false, items, from, filters, group: Some(keys), having }, kinds)
    }

    /// An aggregate with what it gives.
    fn aggregate(&mut self, scope: &Scope) -> (Sql, Kind) {
        let filter = match self.chance(0.2) {
            true => {
                let condition = self.condition(scope, 1);
                Sql::of(|d| format!(" FILTER (WHERE {})", condition.on(d)))
            }
            false => Sql::same(""),
        };
        let kind = self.pick(&VALUES);
        let value = self.plain_or_not(kind, scope);
        let call = |name: &str| Sql::of(|d| format!("{name}{}){}", value.on(d), filter.on(d)));
        match (self.rng.random_range(0..10), kind) {
            (0, _) => (Sql::of(|d| format!("COUNT(*){}", filter.on(d))), Kind::Int),
            (1, _) => (call("COUNT("), Kind::Int),
            (2, Kind::Int | Kind::Text | Kind::Decimal | Kind::Time) => (call("COUNT(DISTINCT "), Kind::Int),
            (3, Kind::Int) => (call("SUM(DISTINCT "), Kind::Int),
            (4, Kind::Int) => {
                // INT is divided by INT in Flink.
                let (sum, count) = (call("SUM("), call("COUNT("));
                let theirs = format!("({} / NULLIF({}, 0))", sum.theirs, count.theirs);
                (Sql { ours: call("AVG(").ours, theirs }, Kind::Int)
            }
            (4 | 5, Kind::Double) => (call("AVG("), Kind::Ratio),
            (4..=6, Kind::Int | Kind::Double | Kind::Decimal) => (call("SUM("), kind),
            (_, Kind::Bool) => (Sql::of(|d| format!("COUNT(*){}", filter.on(d))), Kind::Int),
            (n, _) if n % 2 == 0 => (call("MIN("), kind),
            _ => (call("MAX("), kind),
        }
    }

    /// A GROUP BY of keys without NULLs.
    fn keyed(&mut self) -> Select {
        let (from, scope) = self.from(2);
        let filters = self.filters(&scope, 1);
        let mut keys = vec![];
        for kind in [Kind::Int, Kind::Text] {
            if (keys.is_empty() || self.chance(0.3))
                && let Some(key) = self.key(kind, &scope)
            {
                let otherwise = if kind == Kind::Int { "-1" } else { "'-'" };
                keys.push(Sql::of(|d| format!("COALESCE({}, {otherwise})", key.on(d))));
            }
        }
        if keys.is_empty() {
            keys.push(Sql::same("1"));
        }
        let kinds = vec![Kind::Int; keys.len()];
        self.aggregated(from, scope, filters, keys, kinds).0
    }

    /// Something to select from, and what it offers.
    fn from(&mut self, depth: usize) -> (From, Scope) {
        let choice = if depth == 0 { 0 } else { self.rng.random_range(0..20) };
        match choice {
            0..=4 => self.table(),
            5..=8 => {
                let (query, kinds) = self.any(depth - 1);
                let alias = self.alias();
                let scope = named(&alias, &kinds);
                (From::Query { query, alias }, scope)
            }
            9..=15 if self.joins > 0 => self.join(depth),
            16 | 17 if self.joins > 0 => self.interval_join(),
            9..=17 => self.table(),
            _ => self.rank(depth),
        }
    }

    fn table(&mut self) -> (From, Scope) {
        let table = self.rng.random_range(0..self.tables.len());
        self.named_table(table)
    }

    fn named_table(&mut self, table: usize) -> (From, Scope) {
        let alias = self.alias();
        let column = |(name, kind): &(&str, Kind)| Column { sql: Sql::same(format!("{alias}.{name}")), kind: *kind };
        let scope = COLUMNS.iter().map(column).collect();
        (From::Plain { sql: Sql::same(&self.tables[table].name), alias }, scope)
    }

    /// A table that only grows, if there is one; of distinct times if that is asked for.
    fn growing(&mut self, distinct_times: bool) -> Option<usize> {
        let fits = |table: &Table| !table.updating && !(distinct_times && table.ties);
        let all: Vec<usize> = (0..self.tables.len()).filter(|i| fits(&self.tables[*i])).collect();
        all.choose(self.rng).copied()
    }

    fn join(&mut self, depth: usize) -> (From, Scope) {
        self.joins -= 1;
        let (left, mut scope) = self.from(depth - 1);
        let (right, others) = self.from(depth - 1);
        let kind = self.pick(&["", "", "LEFT", "RIGHT", "FULL"]);
        let mut on = vec![];
        for _ in 0..self.pick(&[1, 1, 1, 2]) {
            on.extend(self.equality(&scope, &others));
        }
        scope.extend(others);
        if on.is_empty() || self.chance(0.25) {
            on.push(self.condition(&scope, 1));
        }
        (From::Join { kind, left: Box::new(left), right: Box::new(right), on }, scope)
    }

    fn equality(&mut self, left: &Scope, right: &Scope) -> Option<Sql> {
        let kind = self.pick(&[Kind::Int, Kind::Int, Kind::Int, Kind::Text, Kind::Decimal]);
        let of = |scope: &Scope| scope.iter().filter(|c| c.kind == kind).cloned().collect::<Vec<_>>();
        let (left, right) = (of(left).choose(self.rng)?.clone(), of(right).choose(self.rng)?.clone());
        Some(Sql::of(|d| format!("{} = {}", left.sql.on(d), right.sql.on(d))))
    }

    /// Rows whose times are near each other.
    fn interval_join(&mut self) -> (From, Scope) {
        let (Some(left), Some(right)) = (self.growing(false), self.growing(false)) else { return self.table() };
        self.joins -= 1;
        let ((left, mut scope), (right, others)) = (self.named_table(left), self.named_table(right));
        let kind = self.pick(&["", "", "LEFT", "RIGHT", "FULL"]);
        let (l, r) = (scope[COLUMNS.len() - 1].sql.clone(), others[COLUMNS.len() - 1].sql.clone());
        let (before, after) = (seconds(self.rng.random_range(0..8)), seconds(self.rng.random_range(0..8)));
        let key = Sql::of(|d| format!("{} = {}", scope[1].sql.on(d), others[1].sql.on(d)));
        let near =
            Sql::of(|d| format!("{} BETWEEN {r} - {} AND {r} + {}", l.on(d), before.on(d), after.on(d), r = r.on(d)));
        scope.extend(others);
        (From::Join { kind, left: Box::new(left), right: Box::new(right), on: vec![key, near] }, scope)
    }

    /// Top-N and deduplication.
    fn rank(&mut self, depth: usize) -> (From, Scope) {
        let (query, kinds) = match self.growing(true) {
            Some(table) if self.chance(0.4) => {
                let (from, scope) = self.named_table(table);
                let items = scope.into_iter().map(|column| column.sql).collect();
                let kinds = COLUMNS.iter().map(|(_, kind)| *kind).collect();
                let select = Select { distinct: false, items, from, filters: vec![], group: None, having: vec![] };
                (Query::Select(Box::new(select)), kinds)
            }
            _ => self.any(depth - 1),
        };
        let columns: Vec<String> = (0..kinds.len()).map(|i| format!("c{i}")).collect();
        let can_sort = |kind: &Kind| *kind != Kind::Ratio;
        let mut partition: Vec<String> = vec![];
        for (column, kind) in columns.iter().zip(&kinds) {
            if can_sort(kind) && partition.len() < 2 && self.chance(0.3) {
                partition.push(column.clone());
            }
        }
        let mut order: Vec<Sql> = vec![];
        let mut rest: Vec<usize> = (0..kinds.len()).filter(|i| can_sort(&kinds[*i])).collect();
        while !rest.is_empty() {
            let i = rest.swap_remove(self.rng.random_range(0..rest.len()));
            let (desc, first) = (self.chance(0.5), self.chance(0.5));
            let nulls = if first { "FIRST" } else { "LAST" };
            // NULL is the least value in Flink.
            let is_default = desc != first && self.chance(0.5);
            let way = if desc { "DESC" } else { "ASC" };
            let theirs = format!("c{i} {way} NULLS {nulls}");
            let ours = if is_default { format!("c{i} {way}") } else { theirs.clone() };
            order.push(Sql { ours, theirs });
        }
        if order.is_empty() || kinds.contains(&Kind::Ratio) {
            // Rows that are not told apart would leave a doubt.
            let alias = self.alias();
            let scope = named(&alias, &kinds);
            return (From::Query { query, alias }, scope);
        }
        let n = self.rng.random_range(1..=3);
        let rows = match self.rng.random_range(0..4) {
            0 => "rn = 1".into(),
            1 if n > 1 => format!("rn BETWEEN 2 AND {}", n + 1),
            _ => format!("rn <= {n}"),
        };
        let numbered = self.chance(0.4);
        let alias = self.alias();
        let mut scope = named(&alias, &kinds);
        if numbered {
            scope.push(Column { sql: Sql::same(format!("{alias}.rn")), kind: Kind::Int });
        }
        (From::Rank { query, columns, partition, order, rows, numbered, alias }, scope)
    }

    /// An aggregation of the rows of windows.
    fn windowed(&mut self) -> (Select, Vec<Kind>) {
        let session = self.chance(0.25);
        let Some(table) = self.growing(session) else { return self.projected(0) };
        let name = &self.tables[table].name;
        let alias = self.alias();
        let all = COLUMNS.map(|(name, _)| name).join(", ");
        let (a, n) = (self.rng.random_range(1..=6), self.rng.random_range(1..=4));
        let (step, size) = (a * 1000, a * n * 1000);
        let sql = match self.rng.random_range(0..3) {
            _ if session => Sql {
                ours: format!("TABLE(SESSION(TABLE {name} PARTITION BY k, DESCRIPTOR(ts), INTERVAL '{a}' SECOND))"),
                theirs: format!(
                    "(SELECT {all}, MIN(ts) OVER (PARTITION BY k, n) AS window_start, \
                     MAX(ts) OVER (PARTITION BY k, n) + {step} AS window_end FROM (\
                     SELECT {all}, SUM(brk) OVER (PARTITION BY k ORDER BY ts ROWS UNBOUNDED PRECEDING) AS n FROM (\
                     SELECT {all}, CASE WHEN ts - LAG(ts) OVER (PARTITION BY k ORDER BY ts) <= {step} THEN 0 ELSE 1 END AS brk \
                     FROM {name}) AS s) AS s)"
                ),
            },
            0 => Sql {
                ours: format!("TABLE(TUMBLE(TABLE {name}, DESCRIPTOR(ts), INTERVAL '{a}' SECOND))"),
                theirs: format!(
                    "(SELECT {all}, ts / {step} * {step} AS window_start, ts / {step} * {step} + {step} AS window_end FROM {name})"
                ),
            },
            1 => Sql {
                ours: format!(
                    "TABLE(HOP(TABLE {name}, DESCRIPTOR(ts), INTERVAL '{a}' SECOND, INTERVAL '{}' SECOND))",
                    a * n
                ),
                theirs: format!(
                    "(SELECT {all}, (ts / {step} - n) * {step} AS window_start, \
                     (ts / {step} - n) * {step} + {size} AS window_end FROM {name} CROSS JOIN numbers WHERE n < {n})"
                ),
            },
            _ => Sql {
                ours: format!(
                    "TABLE(CUMULATE(TABLE {name}, DESCRIPTOR(ts), INTERVAL '{a}' SECOND, INTERVAL '{}' SECOND))",
                    a * n
                ),
                theirs: format!(
                    "(SELECT {all}, ts / {size} * {size} AS window_start, \
                     ts / {size} * {size} + (n + 1) * {step} AS window_end FROM {name} CROSS JOIN numbers \
                     WHERE n < {n} AND ts < ts / {size} * {size} + (n + 1) * {step})"
                ),
            },
        };
        let column = |name: &str, kind: Kind| Column { sql: Sql::same(format!("{alias}.{name}")), kind };
        let scope: Scope = COLUMNS.iter().map(|(name, kind)| column(name, *kind)).collect();
        let (mut keys, mut kinds) = (vec![], vec![Kind::Time; 2]);
        keys.extend(["window_start", "window_end"].map(|name| column(name, Kind::Time).sql));
        if session || self.chance(0.5) {
            keys.push(scope[1].sql.clone());
            kinds.push(Kind::Int);
        }
        let filters = if self.chance(0.3) { vec![Filter::Plain(self.condition(&scope, 1))] } else { vec![] };
        self.aggregated(From::Plain { sql, alias }, scope, filters, keys, kinds)
    }

    /// Aggregates over the rows before each row.
    fn over(&mut self) -> (Select, Vec<Kind>) {
        let Some(table) = self.growing(true) else { return self.projected(0) };
        let (from, scope) = self.named_table(table);
        let [id, k, ts] = [0, 1, COLUMNS.len() - 1].map(|i| scope[i].sql.clone());
        let partition = self.chance(0.7);
        let frame = match self.rng.random_range(0..4) {
            0 => Sql::same(""),
            1 => Sql::same(" ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"),
            2 => {
                let n = self.rng.random_range(0..4);
                Sql::same(format!(" ROWS BETWEEN {n} PRECEDING AND CURRENT ROW"))
            }
            _ => {
                let time = seconds(self.rng.random_range(1..15));
                Sql::of(|d| format!(" RANGE BETWEEN {} PRECEDING AND CURRENT ROW", time.on(d)))
            }
        };
        let window = Sql::of(|d| {
            let by = if partition { format!("PARTITION BY {} ", k.on(d)) } else { String::new() };
            format!(" OVER ({by}ORDER BY {}{})", ts.on(d), frame.on(d))
        });
        let (mut items, mut kinds) = (vec![id], vec![Kind::Int]);
        for _ in 0..self.rng.random_range(1..=2) {
            let (name, i) =
                self.pick(&[("SUM", 3), ("COUNT", 3), ("COUNT", 2), ("SUM", 4), ("MIN", 3), ("MAX", 3), ("MAX", 5)]);
            let value = scope[i].sql.clone();
            items.push(Sql::of(|d| format!("{name}({}){}", value.on(d), window.on(d))));
            kinds.push(if name == "COUNT" { Kind::Int } else { scope[i].kind });
        }
        (Select { distinct: false, items, from, filters: vec![], group: None, having: vec![] }, kinds)
    }

    fn filters(&mut self, scope: &Scope, depth: usize) -> Vec<Filter> {
        let mut filters = vec![];
        while self.chance(0.3) && filters.len() < 2 {
            filters.push(Filter::Plain(self.condition(scope, 2)));
        }
        if depth > 0 && self.joins > 0 && self.chance(0.25) {
            self.joins -= 1;
            filters.extend(self.subquery(scope, depth - 1));
        }
        filters
    }

    fn subquery(&mut self, scope: &Scope, depth: usize) -> Option<Filter> {
        let kind = self.pick(&[Kind::Int, Kind::Int, Kind::Text]);
        let of_kind: Vec<Column> = scope.iter().filter(|c| c.kind == kind).cloned().collect();
        let outer = of_kind.choose(self.rng)?.sql.clone();
        let not = self.chance(0.4);
        Some(match self.rng.random_range(0..5) {
            0 | 1 => Filter::In { not, what: outer, query: self.of_kinds(&[kind], depth.min(1)) },
            2 | 3 => {
                let (from, inner) = self.from(depth);
                let of_kind: Vec<Column> = inner.iter().filter(|c| c.kind == kind).cloned().collect();
                let column = of_kind.choose(self.rng)?.sql.clone();
                let mut filters = vec![Filter::Plain(Sql::of(|d| format!("{} = {}", column.on(d), outer.on(d))))];
                if self.chance(0.4) {
                    filters.push(Filter::Plain(self.condition(&inner, 1)));
                }
                let items = vec![column];
                let select = Select { distinct: false, items, from, filters, group: None, having: vec![] };
                Filter::Exists { not, query: Query::Select(Box::new(select)) }
            }
            _ => {
                let (from, inner) = self.from(depth);
                let of_kind: Vec<Column> = inner.iter().filter(|c| c.kind == kind).cloned().collect();
                let column = of_kind.choose(self.rng)?.sql.clone();
                let name = self.pick(&["MIN", "MAX"]);
                let items = vec![Sql::of(|d| format!("{name}({})", column.on(d)))];
                let select =
                    Select { distinct: false, items, from, filters: vec![], group: Some(vec![]), having: vec![] };
                Filter::Compare { what: outer, op: self.pick(&COMPARE), query: Query::Select(Box::new(select)) }
            }
        })
    }

    /// A condition, which may be unknown.
    fn condition(&mut self, scope: &Scope, depth: usize) -> Sql {
        if depth > 0 && self.chance(0.3) {
            let (a, b) = (self.condition(scope, depth - 1), self.condition(scope, depth - 1));
            let word = self.pick(&["AND", "OR", "OR"]);
            let not = if self.chance(0.2) { "NOT " } else { "" };
            return Sql::of(|d| format!("{not}({} {word} {})", a.on(d), b.on(d)));
        }
        let comparison = self.comparison(scope);
        Sql::of(|d| format!("({})", comparison.on(d)))
    }

    fn comparison(&mut self, scope: &Scope) -> Sql {
        let kind = self.pick(&VALUES);
        let value = self.plain_or_not(kind, scope);
        let not = if self.chance(0.3) { "NOT " } else { "" };
        match (self.rng.random_range(0..8), kind) {
            (0, _) => Sql::of(|d| format!("{} IS {not}NULL", value.on(d))),
            (_, Kind::Bool) => Sql::of(|d| format!("{not}({})", value.on(d))),
            (1, Kind::Int) => {
                let (a, b) = (self.rng.random_range(-3..6), self.rng.random_range(0..12));
                Sql::of(|d| format!("{} {not}IN ({a}, {b})", value.on(d)))
            }
            (2, Kind::Int | Kind::Decimal | Kind::Double) => {
                let (a, b) = (self.rng.random_range(-5..6), self.rng.random_range(0..12));
                Sql::of(|d| format!("{} {not}BETWEEN {a} AND {b}", value.on(d)))
            }
            (1, Kind::Text) => {
                let pattern = self.pick(&["a%", "%b", "_", "%"]);
                Sql::of(|d| format!("{} {not}LIKE '{pattern}'", value.on(d)))
            }
            (2, Kind::Text) => {
                let one = self.pick(&["'a', 'c'", "'b'", "'ab', 'zz', 'a'"]);
                let other = self.pick(&["'c', 'b'", "'a'", "'zz', 'c'"]);
                Sql::of(|d| format!("CASE WHEN {0} IN ({one}) THEN {not}{0} IN ({other}) END", value.on(d)))
            }
            (3, Kind::Int | Kind::Text | Kind::Time | Kind::Decimal) => {
                let other = self.plain_or_not(kind, scope);
                Sql::of(|d| format!("{} IS {not}DISTINCT FROM {}", value.on(d), other.on(d)))
            }
            _ => {
                let op = self.pick(&COMPARE);
                let other = match self.chance(0.5) {
                    true => self.literal(kind),
                    false => self.plain_or_not(kind, scope),
                };
                Sql::of(|d| format!("{} {op} {}", value.on(d), other.on(d)))
            }
        }
    }

    fn literal(&mut self, kind: Kind) -> Sql {
        match kind {
            Kind::Int => Sql::same(self.rng.random_range(-3..9).to_string()),
            Kind::Text => Sql::same(self.pick(&["'a'", "'b'", "'ab'", "'zz'"])),
            Kind::Double | Kind::Ratio => {
                Sql::same(format!("CAST({} AS DOUBLE)", f64::from(self.rng.random_range(-8..9)) / 4.0))
            }
            Kind::Decimal => Sql::same(format!("CAST({}.25 AS DECIMAL(10, 2))", self.rng.random_range(0..3))),
            Kind::Bool => Sql::same(self.pick(&["TRUE", "FALSE"])),
            Kind::Time => {
                let second = self.rng.random_range(0..40);
                let ours = format!("TIMESTAMP '2026-01-01 00:00:{second:02}.000'");
                Sql { ours, theirs: format!("CAST({} AS BIGINT)", START_MS + second * 1000) }
            }
        }
    }

    /// A time without what is less than a second, a minute or an hour.
    fn floor(&mut self, time: &Sql) -> Sql {
        let (unit, ms) = self.pick(&[("SECOND", 1000), ("MINUTE", 60_000), ("HOUR", 3_600_000)]);
        Sql { ours: format!("FLOOR({} TO {unit})", time.ours), theirs: format!("({} / {ms} * {ms})", time.theirs) }
    }

    /// Minutes and seconds of a time in the scope: calls that differ in nothing but a constant.
    fn parts(&mut self, scope: &Scope) -> Option<[Sql; 2]> {
        let times: Vec<&Column> = scope.iter().filter(|c| c.kind == Kind::Time).collect();
        let time = times.choose(self.rng)?.sql.clone();
        Some([("MINUTE", 60_000), ("SECOND", 1000)].map(|(unit, ms)| {
            let ours = format!("CAST(EXTRACT({unit} FROM {}) AS INT)", time.ours);
            Sql { ours, theirs: format!("CAST({} / {ms} % 60 AS INT)", time.theirs) }
        }))
    }

    /// An expression of a kind.
    fn expr(&mut self, kind: Kind, scope: &Scope, depth: usize) -> Sql {
        let of_kind: Vec<&Column> = scope.iter().filter(|c| c.kind == kind).collect();
        let column = of_kind.choose(self.rng).map(|column| column.sql.clone());
        let Some(column) = column else { return self.literal(kind) };
        if depth == 0 {
            return column;
        }
        if kind == Kind::Int
            && self.chance(0.15)
            && let Some([minute, second]) = self.parts(scope)
        {
            let (op, n) = (self.pick(&["+", "-"]), self.rng.random_range(1..4));
            return Sql::of(|d| format!("({} * {n} {op} {})", second.on(d), minute.on(d)));
        }
        match (self.rng.random_range(0..6), kind) {
            (0, _) => {
                let condition = self.condition(scope, 0);
                let (then, other) = (self.expr(kind, scope, depth - 1), self.expr(kind, scope, depth - 1));
                let otherwise = self.chance(0.7);
                Sql::of(|d| {
                    let other = if otherwise { format!(" ELSE {}", other.on(d)) } else { String::new() };
                    format!("CASE WHEN {} THEN {}{other} END", condition.on(d), then.on(d))
                })
            }
            (1, _) => {
                let other = self.literal(kind);
                Sql::of(|d| format!("COALESCE({}, {})", column.on(d), other.on(d)))
            }
            (2, Kind::Int | Kind::Double) => {
                let (op, other) = (self.pick(&["+", "-"]), self.expr(kind, scope, depth - 1));
                Sql::of(|d| format!("({} {op} {})", column.on(d), other.on(d)))
            }
            (3, Kind::Int) => {
                let n = self.rng.random_range(2..5);
                Sql::of(|d| modulo(column.on(d), n, d))
            }
            (3, Kind::Text) => Sql::of(|d| format!("({} || 'x')", column.on(d))),
            (4, Kind::Int) => {
                let n = self.rng.random_range(2..4);
                Sql::of(|d| format!("({} * {n})", column.on(d)))
            }
            (3, Kind::Time) => self.floor(&column),
            (4, Kind::Time) => {
                let time = seconds(self.rng.random_range(1..20));
                Sql::of(|d| format!("({} + {})", column.on(d), time.on(d)))
            }
            (5, Kind::Int | Kind::Text) => {
                let other = self.literal(kind);
                Sql::of(|d| format!("NULLIF({}, {})", column.on(d), other.on(d)))
            }
            _ => column,
        }
    }
}

fn modulo(value: &str, by: i64, dialect: Dialect) -> String {
    match dialect {
        Dialect::Ours => format!("MOD({value}, {by})"),
        Dialect::Theirs => format!("({value} % {by})"),
    }
}

fn named(alias: &str, kinds: &[Kind]) -> Scope {
    let column = |(i, kind): (usize, &Kind)| Column { sql: Sql::same(format!("{alias}.c{i}")), kind: *kind };
    kinds.iter().enumerate().map(column).collect()
}

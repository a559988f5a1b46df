//! The syntax tree of a script: our own statements, with `sqlparser`'s trees for queries and expressions.

use millstream_core::types::DataType;
pub use sqlparser::ast::{Expr, Ident, ObjectName, Query};

/// Where a statement stands in its script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceSpan {
    /// Line of the first token, from 1.
    pub line: u64,
    /// Column of the first token in characters, from 1.
    pub column: u64,
    /// Offset of the first byte in the script.
    pub start: usize,
    /// Offset after the last byte in the script; the semicolon is not part of a statement.
    pub end: usize,
}

/// One statement of a script.
#[derive(Clone, Debug)]
pub struct Statement {
    /// What it says.
    pub kind: StatementKind,
    /// Where it stands.
    pub span: SourceSpan,
    /// Its source text, without the semicolon.
    pub text: String,
}

/// The statements of Flink's SQL.
#[derive(Clone, Debug)]
pub enum StatementKind {
    /// `SELECT ..`, `WITH ..`, `VALUES ..`
    Query(Box<Query>),
    /// `INSERT INTO | OVERWRITE ..`
    Insert(Box<Insert>),
    /// `EXECUTE STATEMENT SET BEGIN ..; END` or `BEGIN STATEMENT SET; ..; END`: inserts that run as one job.
    /// Each member is an [`StatementKind::Insert`].
    StatementSet(Vec<Statement>),
    /// `CREATE [OR REPLACE] [TEMPORARY] TABLE ..`, with its forms `LIKE` and `AS query`
    CreateTable(Box<CreateTable>),
    /// `CREATE [OR ALTER] MATERIALIZED TABLE ..`
    CreateMaterializedTable(Box<CreateMaterializedTable>),
    /// `CREATE [TEMPORARY] VIEW ..`
    CreateView(Box<CreateView>),
    /// `CREATE [TEMPORARY] [SYSTEM] FUNCTION ..`
    CreateFunction(CreateFunction),
    /// `CREATE CATALOG ..`
    CreateCatalog(CreateNamed),
    /// `CREATE DATABASE ..`
    CreateDatabase(CreateNamed),
    /// `CREATE [TEMPORARY] MODEL ..`
    CreateModel(Box<CreateModel>),
    /// `ALTER TABLE [IF EXISTS] name ..`
    AlterTable {
        /// The table.
        name: ObjectName,
        /// Whether a missing table is no error.
        if_exists: bool,
        /// What changes.
        change: Box<AlterTable>,
    },
    /// `ALTER VIEW name RENAME TO other`
    AlterViewRename {
        /// The view.
        name: ObjectName,
        /// Its new name.
        to: ObjectName,
    },
    /// `ALTER VIEW name AS query`
    AlterViewQuery {
        /// The view.
        name: ObjectName,
        /// Its new query.
        query: Box<Query>,
        /// The query's source text.
        query_text: String,
    },
    /// `ALTER [TEMPORARY] [SYSTEM] FUNCTION ..`
    AlterFunction(CreateFunction),
    /// `ALTER CATALOG | DATABASE | MODEL name SET | RESET | COMMENT | RENAME TO ..`
    AlterObject {
        /// What kind of object.
        object: ObjectKind,
        /// Its name.
        name: ObjectName,
        /// Whether a missing object is no error.
        if_exists: bool,
        /// What changes.
        change: AlterOptions,
    },
    /// `ALTER MATERIALIZED TABLE name ..`
    AlterMaterializedTable {
        /// The table.
        name: ObjectName,
        /// What changes.
        change: AlterMaterializedTable,
    },
    /// `DROP .. [IF EXISTS] name`
    Drop(Drop),
    /// `USE [db]`, `USE CATALOG c`
    Use {
        /// [`ObjectKind::Catalog`] or [`ObjectKind::Database`].
        object: ObjectKind,
        /// Its name.
        name: ObjectName,
    },
    /// `USE MODULES a, b`
    UseModules(Vec<Ident>),
    /// `SHOW ..`
    Show(Show),
    /// `DESCRIBE | DESC ..`
    Describe {
        /// Catalog, database, function, model, job or table (also for views).
        object: ObjectKind,
        /// Whether `EXTENDED` stands there.
        extended: bool,
        /// The object; of a job its id, as written between the quotes.
        name: ObjectName,
    },
    /// `EXPLAIN ..`
    Explain {
        /// What to show beside the plan.
        details: Vec<ExplainDetail>,
        /// A query, an insert, a statement set, `CREATE TABLE .. AS`, or a plan.
        statement: Box<Statement>,
    },
    /// `SET` (show all), `SET 'key'`, `SET 'key' = 'value'`
    Set {
        /// The key; `None` shows all.
        key: Option<OptionName>,
        /// The value; `None` shows it.
        value: Option<String>,
    },
    /// `RESET`, `RESET 'key'`
    Reset {
        /// The key; `None` resets all.
        key: Option<OptionName>,
    },
    /// `ADD JAR 'path'`
    AddJar(String),
    /// `REMOVE JAR 'path'`
    RemoveJar(String),
    /// `LOAD MODULE name [WITH (..)]`
    LoadModule {
        /// The module.
        name: Ident,
        /// Its options.
        options: Vec<SqlOption>,
    },
    /// `UNLOAD MODULE name`
    UnloadModule(Ident),
    /// `ANALYZE TABLE ..`
    AnalyzeTable {
        /// The table.
        name: ObjectName,
        /// `PARTITION (a = 1, b)`
        partition: Vec<(Ident, Option<Expr>)>,
        /// `FOR ALL COLUMNS` or `FOR COLUMNS a, b`; `None` without the clause.
        columns: Option<AnalyzeColumns>,
    },
    /// `TRUNCATE TABLE name`
    Truncate(ObjectName),
    /// `DELETE FROM t [WHERE ..]`
    Delete {
        /// The table.
        table: ObjectName,
        /// Its alias.
        alias: Option<Ident>,
        /// Which rows.
        selection: Option<Expr>,
    },
    /// `UPDATE t SET a = .. [WHERE ..]`
    Update {
        /// The table.
        table: ObjectName,
        /// Its alias.
        alias: Option<Ident>,
        /// The columns' new values.
        assignments: Vec<(Ident, Expr)>,
        /// Which rows.
        selection: Option<Expr>,
    },
    /// `CALL procedure(args)`: the expression is a function call.
    Call(Box<Expr>),
    /// `COMPILE PLAN 'path' [IF NOT EXISTS] FOR statement`
    CompilePlan {
        /// The file.
        path: String,
        /// Whether an existing file is no error.
        if_not_exists: bool,
        /// An insert or a statement set.
        statement: Box<Statement>,
    },
    /// `EXECUTE PLAN 'path'`
    ExecutePlan(String),
    /// `COMPILE AND EXECUTE PLAN 'path' FOR statement`
    CompileAndExecutePlan {
        /// The file.
        path: String,
        /// An insert or a statement set.
        statement: Box<Statement>,
    },
    /// `STOP JOB 'id' [WITH SAVEPOINT] [WITH DRAIN]`
    StopJob {
        /// The job.
        id: String,
        /// Whether to take a savepoint.
        with_savepoint: bool,
        /// Whether to drain.
        with_drain: bool,
    },
    /// `QUIT`, `EXIT`, `CLEAR`, `HELP` of the SQL client, in capitals.
    Client(String),
}

/// A key or a value of `WITH (..)`, `SET`: text with a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionName {
    /// The text between the quotes.
    pub value: String,
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

/// One `'key' = 'value'` of `WITH (..)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlOption {
    /// The key.
    pub key: OptionName,
    /// The value.
    pub value: OptionName,
}

/// `INSERT INTO | OVERWRITE t [PARTITION (..)] [(columns)] query`
#[derive(Clone, Debug)]
pub struct Insert {
    /// The table.
    pub table: ObjectName,
    /// `OPTIONS('k' = 'v')` after the table's name.
    pub hints: Vec<Hint>,
    /// Whether it is `INSERT OVERWRITE`.
    pub overwrite: bool,
    /// `PARTITION (a = 1, b)`: static values, or a column that the query gives.
    pub partition: Vec<(Ident, Option<Expr>)>,
    /// The listed columns; empty without a list.
    pub columns: Vec<Ident>,
    /// The rows.
    pub source: Box<Query>,
}

/// A hint `NAME(..)` of a `/*+ .. */` comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The name in capitals: `OPTIONS`, `STATE_TTL`, `LOOKUP`, `BROADCAST`...
    pub name: String,
    /// `'key' = 'value'` pairs (`OPTIONS`, `STATE_TTL`, `LOOKUP`), unquoted.
    pub options: Vec<(String, String)>,
    /// Plain arguments (`BROADCAST(t1, t2)`), unquoted.
    pub args: Vec<String>,
    /// Line of the comment, from 1.
    pub line: u64,
    /// Column of the comment, from 1.
    pub column: u64,
}

/// `CREATE TABLE`
#[derive(Clone, Debug)]
pub struct CreateTable {
    /// `OR REPLACE`
    pub or_replace: bool,
    /// `TEMPORARY`
    pub temporary: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// The name.
    pub name: ObjectName,
    /// Columns, watermark, primary key.
    pub elements: TableElements,
    /// `COMMENT '..'`
    pub comment: Option<String>,
    /// `DISTRIBUTED ..`
    pub distribution: Option<Distribution>,
    /// `PARTITIONED BY (..)`
    pub partitioned_by: Vec<Ident>,
    /// `WITH (..)`, in order.
    pub options: Vec<SqlOption>,
    /// `LIKE t (..)`
    pub like: Option<TableLike>,
    /// `AS query`
    pub query: Option<Box<Query>>,
}

/// What stands between the parentheses of `CREATE TABLE t (..)` or `ALTER TABLE t ADD (..)`.
#[derive(Clone, Debug, Default)]
pub struct TableElements {
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// `WATERMARK FOR x AS expr`
    pub watermark: Option<Watermark>,
    /// `PRIMARY KEY .. NOT ENFORCED`
    pub primary_key: Option<PrimaryKey>,
    /// Bare column names: only in `CREATE TABLE t (a, b) .. AS query`, where they order the query's columns.
    pub names: Vec<Ident>,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// The name.
    pub name: Ident,
    /// Physical, computed or metadata.
    pub kind: ColumnKind,
    /// `COMMENT '..'`
    pub comment: Option<String>,
    /// `FIRST` or `AFTER x`, in `ALTER TABLE`.
    pub position: Option<ColumnPosition>,
}

/// Where `ALTER TABLE` puts a column.
#[derive(Clone, Debug)]
pub enum ColumnPosition {
    /// `FIRST`
    First,
    /// `AFTER column`
    After(Ident),
}

/// What a column is made of.
#[allow(clippy::large_enum_variant)] // few exist, and plain matching is worth more than their size
#[derive(Clone, Debug)]
pub enum ColumnKind {
    /// `name type`
    Physical(DataType),
    /// `name AS expr`
    Computed(Expr),
    /// `name type METADATA [FROM 'key'] [VIRTUAL]`
    Metadata {
        /// The declared type.
        data_type: DataType,
        /// The key; the column's name if `None`.
        key: Option<String>,
        /// `VIRTUAL`: not written by sinks.
        is_virtual: bool,
    },
}

/// `WATERMARK FOR x AS expr`
#[derive(Clone, Debug)]
pub struct Watermark {
    /// The row time: a column, or a field of a row column (`a`, `b`).
    pub column: Vec<Ident>,
    /// The watermark's expression.
    pub expr: Expr,
}

/// `PRIMARY KEY (a, b) NOT ENFORCED`; a key that does not say NOT ENFORCED is refused while parsing.
#[derive(Clone, Debug)]
pub struct PrimaryKey {
    /// `CONSTRAINT name`
    pub name: Option<Ident>,
    /// The columns.
    pub columns: Vec<Ident>,
}

/// `DISTRIBUTED [BY [HASH | RANGE] (a, b)] [INTO n BUCKETS]`
#[derive(Clone, Debug)]
pub struct Distribution {
    /// `HASH` or `RANGE`.
    pub kind: Option<String>,
    /// The columns; empty for `DISTRIBUTED INTO n BUCKETS`.
    pub columns: Vec<Ident>,
    /// The number of buckets.
    pub buckets: Option<u64>,
}

/// `LIKE source [(options)]`
#[derive(Clone, Debug)]
pub struct TableLike {
    /// The table whose definition is taken over.
    pub source: ObjectName,
    /// What is taken over, in order.
    pub options: Vec<(MergingStrategy, LikeFeature)>,
}

/// How a feature of the source table is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergingStrategy {
    /// `INCLUDING`: take it, a duplicate is an error.
    Including,
    /// `EXCLUDING`: leave it.
    Excluding,
    /// `OVERWRITING`: take it, the new table's wins.
    Overwriting,
}

/// A feature of a table that `LIKE` takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LikeFeature {
    /// `ALL`
    All,
    /// `CONSTRAINTS`
    Constraints,
    /// `DISTRIBUTION`
    Distribution,
    /// `GENERATED`: computed columns.
    Generated,
    /// `METADATA`
    Metadata,
    /// `OPTIONS`
    Options,
    /// `PARTITIONS`
    Partitions,
    /// `WATERMARKS`
    Watermarks,
}

/// `CREATE MATERIALIZED TABLE`
#[derive(Clone, Debug)]
pub struct CreateMaterializedTable {
    /// `OR ALTER`
    pub or_alter: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// The name.
    pub name: ObjectName,
    /// Columns, watermark, primary key.
    pub elements: TableElements,
    /// `COMMENT '..'`
    pub comment: Option<String>,
    /// `DISTRIBUTED ..`
    pub distribution: Option<Distribution>,
    /// `PARTITIONED BY (..)`
    pub partitioned_by: Vec<Ident>,
    /// `WITH (..)`
    pub options: Vec<SqlOption>,
    /// `FRESHNESS = INTERVAL ..`
    pub freshness: Option<Expr>,
    /// `REFRESH_MODE = FULL | CONTINUOUS`, in capitals.
    pub refresh_mode: Option<String>,
    /// `AS query`
    pub query: Box<Query>,
}

/// `CREATE VIEW`
#[derive(Clone, Debug)]
pub struct CreateView {
    /// `TEMPORARY`
    pub temporary: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// The name.
    pub name: ObjectName,
    /// The columns' names; empty without a list.
    pub columns: Vec<Ident>,
    /// `COMMENT '..'`
    pub comment: Option<String>,
    /// The query.
    pub query: Box<Query>,
    /// The query's source text.
    pub query_text: String,
}

/// `CREATE FUNCTION`, `ALTER FUNCTION`
#[derive(Clone, Debug)]
pub struct CreateFunction {
    /// `TEMPORARY`
    pub temporary: bool,
    /// `SYSTEM`
    pub system: bool,
    /// `IF NOT EXISTS`, or of an `ALTER` `IF EXISTS`
    pub if_not_exists: bool,
    /// The name.
    pub name: ObjectName,
    /// `AS 'class'`
    pub class: String,
    /// `LANGUAGE JAVA | SCALA | PYTHON`, in capitals.
    pub language: Option<String>,
    /// `USING JAR 'path', ..`
    pub jars: Vec<String>,
    /// `WITH (..)`
    pub options: Vec<SqlOption>,
}

/// `CREATE CATALOG`, `CREATE DATABASE`
#[derive(Clone, Debug)]
pub struct CreateNamed {
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// The name.
    pub name: ObjectName,
    /// `COMMENT '..'`
    pub comment: Option<String>,
    /// `WITH (..)`
    pub options: Vec<SqlOption>,
}

/// `CREATE MODEL`
#[derive(Clone, Debug)]
pub struct CreateModel {
    /// `TEMPORARY`
    pub temporary: bool,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
    /// The name.
    pub name: ObjectName,
    /// `INPUT (..)`
    pub input: Vec<Column>,
    /// `OUTPUT (..)`
    pub output: Vec<Column>,
    /// `COMMENT '..'`
    pub comment: Option<String>,
    /// `WITH (..)`
    pub options: Vec<SqlOption>,
    /// `AS query`
    pub query: Option<Box<Query>>,
}

/// What `ALTER TABLE` changes.
#[derive(Clone, Debug)]
pub enum AlterTable {
    /// `RENAME TO name`
    RenameTo(ObjectName),
    /// `RENAME a TO b`
    RenameColumn {
        /// The column, or a field in it.
        from: Vec<Ident>,
        /// Its new name.
        to: Ident,
    },
    /// `SET ('k' = 'v')`
    Set(Vec<SqlOption>),
    /// `RESET ('k')`
    Reset(Vec<OptionName>),
    /// `ADD element | (elements) [distribution]`
    Add {
        /// What to add.
        elements: TableElements,
        /// `ADD DISTRIBUTION ..`
        distribution: Option<Distribution>,
    },
    /// `MODIFY element | (elements)`
    Modify {
        /// What to replace.
        elements: TableElements,
        /// `MODIFY DISTRIBUTION ..`
        distribution: Option<Distribution>,
    },
    /// `DROP a`, `DROP (a, b)`
    DropColumns(Vec<Vec<Ident>>),
    /// `DROP WATERMARK`
    DropWatermark,
    /// `DROP PRIMARY KEY`
    DropPrimaryKey,
    /// `DROP CONSTRAINT name`
    DropConstraint(Ident),
    /// `DROP DISTRIBUTION`
    DropDistribution,
    /// `ADD [IF NOT EXISTS] PARTITION (..) [WITH (..)] ..`
    AddPartitions {
        /// `IF NOT EXISTS`
        if_not_exists: bool,
        /// Each partition's values and options.
        partitions: Vec<(Vec<(Ident, Option<Expr>)>, Vec<SqlOption>)>,
    },
    /// `DROP [IF EXISTS] PARTITION (..), ..`
    DropPartitions {
        /// `IF EXISTS`
        if_exists: bool,
        /// Each partition's values.
        partitions: Vec<Vec<(Ident, Option<Expr>)>>,
    },
    /// `PARTITION (..) RENAME TO PARTITION (..)`, `PARTITION (..) COMPACT`, `COMPACT`
    Compact(Vec<(Ident, Option<Expr>)>),
}

/// What `ALTER CATALOG | DATABASE | MODEL` changes.
#[derive(Clone, Debug)]
pub enum AlterOptions {
    /// `SET (..)`
    Set(Vec<SqlOption>),
    /// `RESET (..)`
    Reset(Vec<OptionName>),
    /// `COMMENT '..'`
    Comment(String),
    /// `RENAME TO name`
    RenameTo(ObjectName),
}

/// What `ALTER MATERIALIZED TABLE` changes.
#[allow(clippy::large_enum_variant)] // one exists at a time
#[derive(Clone, Debug)]
pub enum AlterMaterializedTable {
    /// `SUSPEND`
    Suspend,
    /// `RESUME [WITH (..)]`
    Resume(Vec<SqlOption>),
    /// `REFRESH [PARTITION (..)]`
    Refresh(Vec<(Ident, Option<Expr>)>),
    /// `SET FRESHNESS = INTERVAL ..`
    SetFreshness(Expr),
    /// `SET REFRESH_MODE = ..`
    SetRefreshMode(String),
    /// `SET (..)`
    Set(Vec<SqlOption>),
    /// `RESET (..)`
    Reset(Vec<OptionName>),
    /// `AS query`
    Query(Box<Query>),
}

/// The kinds of objects that statements name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A catalog.
    Catalog,
    /// A database.
    Database,
    /// A table.
    Table,
    /// A materialized table.
    MaterializedTable,
    /// A view.
    View,
    /// A function.
    Function,
    /// A model.
    Model,
    /// A running job.
    Job,
}

/// `DROP ..`
#[derive(Clone, Debug)]
pub struct Drop {
    /// What kind of object.
    pub object: ObjectKind,
    /// `TEMPORARY`
    pub temporary: bool,
    /// `SYSTEM` (functions)
    pub system: bool,
    /// `IF EXISTS`
    pub if_exists: bool,
    /// Its name.
    pub name: ObjectName,
    /// `CASCADE` (databases); the default is `RESTRICT`.
    pub cascade: bool,
}

/// `SHOW ..`
#[derive(Clone, Debug)]
pub struct Show {
    /// What to show, in capitals with single spaces: `TABLES`, `CREATE TABLE`, `FULL MODULES`,
    /// `CURRENT CATALOG`, `USER FUNCTIONS`, `COLUMNS`, `PARTITIONS`, `JARS`, `JOBS`...
    pub what: String,
    /// `FROM | IN name`, or the object of `SHOW CREATE ..`, `SHOW PARTITIONS name`.
    pub name: Option<ObjectName>,
    /// `[NOT] LIKE 'pattern'` or `ILIKE`.
    pub like: Option<ShowLike>,
    /// `PARTITION (..)`
    pub partition: Vec<(Ident, Option<Expr>)>,
}

/// The filter of a `SHOW`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShowLike {
    /// `NOT`
    pub negated: bool,
    /// `ILIKE`
    pub case_insensitive: bool,
    /// The pattern.
    pub pattern: String,
}

/// What `EXPLAIN` shows beside the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainDetail {
    /// `ESTIMATED_COST`
    EstimatedCost,
    /// `CHANGELOG_MODE`
    ChangelogMode,
    /// `JSON_EXECUTION_PLAN`
    JsonExecutionPlan,
    /// `PLAN_ADVICE`
    PlanAdvice,
}

/// The columns of `ANALYZE TABLE`.
#[derive(Clone, Debug)]
pub enum AnalyzeColumns {
    /// `FOR ALL COLUMNS`
    All,
    /// `FOR COLUMNS a, b`
    Some(Vec<Ident>),
}

//! The grammar of CREATE, ALTER and DROP.

use super::ast::{
    AlterMaterializedTable, AlterOptions, AlterTable, Column, ColumnKind, ColumnPosition, CreateFunction,
    CreateMaterializedTable, CreateModel, CreateNamed, CreateTable, CreateView, Distribution, Drop, LikeFeature,
    MergingStrategy, ObjectKind, PrimaryKey, StatementKind, TableElements, TableLike, Watermark,
};
use super::error::{PResult, expected, fail};
use super::script::Script;
use super::types;
use super::words::{at, eat_any, upper};
use sqlparser::tokenizer::Token;

impl Script<'_> {
    pub(super) fn create(&mut self) -> PResult<StatementKind> {
        let start = self.here();
        let or_replace = self.eat(&["OR", "REPLACE"]);
        let or_alter = !or_replace && self.eat(&["OR", "ALTER"]);
        let temporary = self.eat(&["TEMPORARY"]);
        let system = temporary && self.eat(&["SYSTEM"]);
        let token = self.p.peek_token();
        let word = upper(&token.token).unwrap_or_default();
        self.p.advance_token();
        if or_replace && word != "TABLE" {
            return fail(start, format!("CREATE OR REPLACE {word} is not known"), "OR REPLACE goes with TABLE only");
        }
        if or_alter && word != "MATERIALIZED" {
            return fail(start, format!("CREATE OR ALTER {word} is not known"), "OR ALTER is for MATERIALIZED TABLE");
        }
        match word.as_str() {
            "TABLE" => self.create_table(or_replace, temporary),
            "MATERIALIZED" => {
                self.word("TABLE")?;
                self.create_materialized_table(or_alter)
            }
            "VIEW" => {
                let if_not_exists = self.if_not_exists();
                let name = self.name()?;
                let columns = if self.at_paren() { self.idents()? } else { vec![] };
                let comment = self.comment()?;
                self.word("AS")?;
                let (query, query_text) = self.query_text()?;
                let view = CreateView { temporary, if_not_exists, name, columns, comment, query, query_text };
                Ok(StatementKind::CreateView(Box::new(view)))
            }
            "FUNCTION" => {
                let if_not_exists = self.if_not_exists();
                Ok(StatementKind::CreateFunction(self.function(temporary, system, if_not_exists)?))
            }
            "CATALOG" => self.named().map(StatementKind::CreateCatalog),
            "DATABASE" => self.named().map(StatementKind::CreateDatabase),
            "MODEL" => self.create_model(temporary),
            _ => expected("TABLE, VIEW, FUNCTION, CATALOG, DATABASE or MODEL", &token),
        }
    }

    fn named(&mut self) -> PResult<CreateNamed> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let comment = self.comment()?;
        Ok(CreateNamed { if_not_exists, name, comment, options: self.with_options()? })
    }

    fn create_table(&mut self, or_replace: bool, temporary: bool) -> PResult<StatementKind> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let elements = if self.at_paren() { self.elements(true)? } else { TableElements::default() };
        let comment = self.comment()?;
        let distribution = self.distribution()?;
        let partitioned_by = self.partitioned_by()?;
        let options = self.with_options()?;
        let like = if self.eat(&["LIKE"]) { Some(self.table_like()?) } else { None };
        let query = if like.is_none() && self.eat(&["AS"]) { Some(self.query()?) } else { None };
        if query.is_none()
            && let Some(bare) = elements.names.first()
        {
            return fail(bare.span.start, format!("the column `{}` has no type", bare.value), "");
        }
        let table = CreateTable {
            or_replace,
            temporary,
            if_not_exists,
            name,
            elements,
            comment,
            distribution,
            partitioned_by,
            options,
            like,
            query,
        };
        Ok(StatementKind::CreateTable(Box::new(table)))
    }

    fn partitioned_by(&mut self) -> PResult<Vec<sqlparser::ast::Ident>> {
        if self.eat(&["PARTITIONED", "BY"]) { self.idents() } else { Ok(vec![]) }
    }

    /// `DISTRIBUTED ..`
    fn distribution(&mut self) -> PResult<Option<Distribution>> {
        if self.eat(&["DISTRIBUTED"]) { self.distribution_tail().map(Some) } else { Ok(None) }
    }

    /// `[BY [HASH | RANGE] (a, b)] [INTO n BUCKETS]`
    fn distribution_tail(&mut self) -> PResult<Distribution> {
        let mut distribution = Distribution { kind: None, columns: vec![], buckets: None };
        if self.eat(&["BY"]) {
            distribution.kind = eat_any(&mut self.p, &["HASH", "RANGE"]).map(str::to_string);
            distribution.columns = self.idents()?;
        }
        if self.eat(&["INTO"]) {
            distribution.buckets = Some(self.p.parse_literal_uint()?);
            self.word("BUCKETS")?;
        } else if distribution.columns.is_empty() {
            return expected("BY or INTO", &self.p.peek_token());
        }
        Ok(distribution)
    }

    fn table_like(&mut self) -> PResult<TableLike> {
        let source = self.name()?;
        let mut options = vec![];
        if self.p.consume_token(&Token::LParen) {
            while !self.p.consume_token(&Token::RParen) {
                let strategy = match eat_any(&mut self.p, &["INCLUDING", "EXCLUDING", "OVERWRITING"]) {
                    Some("INCLUDING") => MergingStrategy::Including,
                    Some("EXCLUDING") => MergingStrategy::Excluding,
                    Some(_) => MergingStrategy::Overwriting,
                    None => return expected("INCLUDING, EXCLUDING or OVERWRITING", &self.p.peek_token()),
                };
                let token = self.p.next_token();
                let feature = match upper(&token.token).as_deref() {
                    Some("ALL") => LikeFeature::All,
                    Some("CONSTRAINTS") => LikeFeature::Constraints,
                    Some("DISTRIBUTION") => LikeFeature::Distribution,
                    Some("GENERATED") => LikeFeature::Generated,
                    Some("METADATA") => LikeFeature::Metadata,
                    Some("OPTIONS") => LikeFeature::Options,
                    Some("PARTITIONS") => LikeFeature::Partitions,
                    Some("WATERMARKS") => LikeFeature::Watermarks,
                    _ => {
                        return expected(
                            "ALL, CONSTRAINTS, DISTRIBUTION, GENERATED, METADATA, OPTIONS, PARTITIONS or WATERMARKS",
                            &token,
                        );
                    }
                };
                options.push((strategy, feature));
            }
        }
        Ok(TableLike { source, options })
    }

    fn create_materialized_table(&mut self, or_alter: bool) -> PResult<StatementKind> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let elements = if self.at_paren() { self.elements(true)? } else { TableElements::default() };
        let comment = self.comment()?;
        let distribution = self.distribution()?;
        let partitioned_by = self.partitioned_by()?;
        let options = self.with_options()?;
        let freshness = if self.eat(&["FRESHNESS"]) { Some(self.freshness()?) } else { None };
        let refresh_mode = if self.eat(&["REFRESH_MODE"]) { Some(self.refresh_mode()?) } else { None };
        self.word("AS")?;
        let query = self.query()?;
        Ok(StatementKind::CreateMaterializedTable(Box::new(CreateMaterializedTable {
            or_alter,
            if_not_exists,
            name,
            elements,
            comment,
            distribution,
            partitioned_by,
            options,
            freshness,
            refresh_mode,
            query,
        })))
    }

    fn freshness(&mut self) -> PResult<sqlparser::ast::Expr> {
        self.p.expect_token(&Token::Eq)?;
        self.expr()
    }

    fn refresh_mode(&mut self) -> PResult<String> {
        self.p.expect_token(&Token::Eq)?;
        match eat_any(&mut self.p, &["FULL", "CONTINUOUS"]) {
            Some(mode) => Ok(mode.to_string()),
            None => expected("FULL or CONTINUOUS", &self.p.peek_token()),
        }
    }

    fn create_model(&mut self, temporary: bool) -> PResult<StatementKind> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let input = if self.eat(&["INPUT"]) { self.elements(false)?.columns } else { vec![] };
        let output = if self.eat(&["OUTPUT"]) { self.elements(false)?.columns } else { vec![] };
        let comment = self.comment()?;
        let options = self.with_options()?;
        let query = if self.eat(&["AS"]) { Some(self.query()?) } else { None };
        let model = CreateModel { temporary, if_not_exists, name, input, output, comment, options, query };
        Ok(StatementKind::CreateModel(Box::new(model)))
    }

    /// `name AS 'class' [LANGUAGE ..] [USING ..] [WITH (..)]`
    fn function(&mut self, temporary: bool, system: bool, if_not_exists: bool) -> PResult<CreateFunction> {
        let name = self.name()?;
        self.word("AS")?;
        let class = self.string()?;
        let mut language = None;
        if self.eat(&["LANGUAGE"]) {
            match eat_any(&mut self.p, &["JAVA", "SCALA", "PYTHON"]) {
                Some(word) => language = Some(word.to_string()),
                None => return expected("JAVA, SCALA or PYTHON", &self.p.peek_token()),
            }
        }
        let mut jars = vec![];
        if self.eat(&["USING"]) {
            loop {
                if eat_any(&mut self.p, &["JAR", "FILE", "ARCHIVE"]).is_none() {
                    return expected("JAR", &self.p.peek_token());
                }
                jars.push(self.string()?);
                if !self.p.consume_token(&Token::Comma) {
                    break;
                }
            }
        }
        let options = self.with_options()?;
        Ok(CreateFunction { temporary, system, if_not_exists, name, class, language, jars, options })
    }

    /// `(element, ..)`; bare names only where a query follows.
    fn elements(&mut self, names: bool) -> PResult<TableElements> {
        let mut elements = TableElements::default();
        self.list(|s| s.element(&mut elements, names))?;
        Ok(elements)
    }

    fn element(&mut self, elements: &mut TableElements, names: bool) -> PResult<()> {
        let start = self.here();
        if self.eat(&["WATERMARK", "FOR"]) {
            let column = self.path()?;
            self.word("AS")?;
            let expr = self.expr()?;
            if elements.watermark.replace(Watermark { column, expr }).is_some() {
                return fail(start, "there is a second watermark", "a table has one");
            }
            return Ok(());
        }
        if at(&self.p, &["PRIMARY", "KEY"]) || at(&self.p, &["CONSTRAINT"]) || at(&self.p, &["UNIQUE"]) {
            let key = self.primary_key(None)?;
            return set_key(elements, key, start);
        }
        let name = self.ident()?;
        if names && matches!(self.p.peek_token_ref().token, Token::Comma | Token::RParen) {
            elements.names.push(name);
            return Ok(());
        }
        let kind = if self.eat(&["AS"]) {
            ColumnKind::Computed(self.expr()?)
        } else {
            let data_type = types::parse(&mut self.p)?;
            if self.eat(&["METADATA"]) {
                let key = if self.eat(&["FROM"]) { Some(self.string()?) } else { None };
                ColumnKind::Metadata { data_type, key, is_virtual: self.eat(&["VIRTUAL"]) }
            } else {
                ColumnKind::Physical(data_type)
            }
        };
        let start = self.here();
        if at(&self.p, &["PRIMARY", "KEY"]) || at(&self.p, &["CONSTRAINT"]) || at(&self.p, &["UNIQUE"]) {
            let key = self.primary_key(Some(name.clone()))?;
            set_key(elements, key, start)?;
        }
        let comment = self.comment()?;
        let position = if self.eat(&["FIRST"]) {
            Some(ColumnPosition::First)
        } else if self.eat(&["AFTER"]) {
            Some(ColumnPosition::After(self.ident()?))
        } else {
            None
        };
        elements.columns.push(Column { name, kind, comment, position });
        Ok(())
    }

    /// `[CONSTRAINT name] PRIMARY KEY [(a, b)] NOT ENFORCED`; inside a column's definition without the list.
    fn primary_key(&mut self, column: Option<sqlparser::ast::Ident>) -> PResult<PrimaryKey> {
        let start = self.here();
        let name = if self.eat(&["CONSTRAINT"]) { Some(self.ident()?) } else { None };
        if at(&self.p, &["UNIQUE"]) {
            return fail(self.here(), "UNIQUE constraints are not known", "use PRIMARY KEY .. NOT ENFORCED");
        }
        self.words(&["PRIMARY", "KEY"])?;
        let columns = match column {
            Some(column) => vec![column],
            None => self.idents()?,
        };
        if !self.eat(&["NOT", "ENFORCED"]) {
            let hint = "write PRIMARY KEY .. NOT ENFORCED: keys are promises about the data, nobody checks them";
            return fail(start, "a primary key without NOT ENFORCED is not allowed", hint);
        }
        Ok(PrimaryKey { name, columns })
    }

    pub(super) fn drop_object(&mut self) -> PResult<StatementKind> {
        let temporary = self.eat(&["TEMPORARY"]);
        let system = temporary && self.eat(&["SYSTEM"]);
        let object = self.object()?;
        let if_exists = self.if_exists();
        let name = self.name()?;
        let cascade = matches!(eat_any(&mut self.p, &["CASCADE", "RESTRICT"]), Some("CASCADE"));
        Ok(StatementKind::Drop(Drop { object, temporary, system, if_exists, name, cascade }))
    }

    fn object(&mut self) -> PResult<ObjectKind> {
        if self.eat(&["MATERIALIZED", "TABLE"]) {
            return Ok(ObjectKind::MaterializedTable);
        }
        let words = ["CATALOG", "DATABASE", "TABLE", "VIEW", "FUNCTION", "MODEL"];
        Ok(match eat_any(&mut self.p, &words) {
            Some("CATALOG") => ObjectKind::Catalog,
            Some("DATABASE") => ObjectKind::Database,
            Some("TABLE") => ObjectKind::Table,
            Some("VIEW") => ObjectKind::View,
            Some("FUNCTION") => ObjectKind::Function,
            Some(_) => ObjectKind::Model,
            None => return expected("TABLE, VIEW, FUNCTION, CATALOG, DATABASE or MODEL", &self.p.peek_token()),
        })
    }

    pub(super) fn alter(&mut self) -> PResult<StatementKind> {
        let temporary = self.eat(&["TEMPORARY"]);
        let system = temporary && self.eat(&["SYSTEM"]);
        let object = self.object()?;
        let if_exists = self.if_exists();
        match object {
            ObjectKind::Table => {
                let name = self.name()?;
                let change = Box::new(self.alter_table()?);
                Ok(StatementKind::AlterTable { name, if_exists, change })
            }
            ObjectKind::View => {
                let name = self.name()?;
                if self.eat(&["RENAME", "TO"]) {
                    return Ok(StatementKind::AlterViewRename { name, to: self.name()? });
                }
                self.word("AS")?;
                let (query, query_text) = self.query_text()?;
                Ok(StatementKind::AlterViewQuery { name, query, query_text })
            }
            ObjectKind::Function => Ok(StatementKind::AlterFunction(self.function(temporary, system, if_exists)?)),
            ObjectKind::MaterializedTable => {
                let name = self.name()?;
                Ok(StatementKind::AlterMaterializedTable { name, change: self.alter_materialized_table()? })
            }
            ObjectKind::Catalog | ObjectKind::Database | ObjectKind::Model | ObjectKind::Job => {
                let name = self.name()?;
                let change = match eat_any(&mut self.p, &["SET", "RESET", "COMMENT", "RENAME"]) {
                    Some("SET") => AlterOptions::Set(self.options()?),
                    Some("RESET") => AlterOptions::Reset(self.option_keys()?),
                    Some("COMMENT") => AlterOptions::Comment(self.string()?),
                    Some(_) => {
                        self.word("TO")?;
                        AlterOptions::RenameTo(self.name()?)
                    }
                    None => return expected("SET, RESET, COMMENT or RENAME TO", &self.p.peek_token()),
                };
                Ok(StatementKind::AlterObject { object, name, if_exists, change })
            }
        }
    }

    fn alter_materialized_table(&mut self) -> PResult<AlterMaterializedTable> {
        let words = ["SUSPEND", "RESUME", "REFRESH", "SET", "RESET", "AS"];
        Ok(match eat_any(&mut self.p, &words) {
            Some("SUSPEND") => AlterMaterializedTable::Suspend,
            Some("RESUME") => AlterMaterializedTable::Resume(self.with_options()?),
            Some("REFRESH") => {
                let partition = if self.eat(&["PARTITION"]) { self.partition_spec()? } else { vec![] };
                AlterMaterializedTable::Refresh(partition)
            }
            Some("SET") if self.eat(&["FRESHNESS"]) => AlterMaterializedTable::SetFreshness(self.freshness()?),
            Some("SET") if self.eat(&["REFRESH_MODE"]) => AlterMaterializedTable::SetRefreshMode(self.refresh_mode()?),
            Some("SET") => AlterMaterializedTable::Set(self.options()?),
            Some("RESET") => AlterMaterializedTable::Reset(self.option_keys()?),
            Some(_) => AlterMaterializedTable::Query(self.query()?),
            None => return expected("SUSPEND, RESUME, REFRESH, SET, RESET or AS", &self.p.peek_token()),
        })
    }

    fn alter_table(&mut self) -> PResult<AlterTable> {
        let words = ["RENAME", "SET", "RESET", "ADD", "MODIFY", "DROP", "PARTITION", "COMPACT"];
        Ok(match eat_any(&mut self.p, &words) {
            Some("RENAME") if self.eat(&["TO"]) => AlterTable::RenameTo(self.name()?),
            Some("RENAME") => {
                let from = self.path()?;
                self.word("TO")?;
                AlterTable::RenameColumn { from, to: self.ident()? }
            }
            Some("SET") => AlterTable::Set(self.options()?),
            Some("RESET") => AlterTable::Reset(self.option_keys()?),
            Some("ADD") => {
                if at(&self.p, &["PARTITION"]) || at(&self.p, &["IF"]) {
                    return self.add_partitions();
                }
                let (elements, distribution) = self.changed_elements()?;
                AlterTable::Add { elements, distribution }
            }
            Some("MODIFY") => {
                let (elements, distribution) = self.changed_elements()?;
                AlterTable::Modify { elements, distribution }
            }
            Some("DROP") => self.alter_table_drop()?,
            Some("PARTITION") => {
                let partition = self.partition_spec()?;
                self.word("COMPACT")?;
                AlterTable::Compact(partition)
            }
            Some(_) => AlterTable::Compact(vec![]),
            None => return expected("ADD, MODIFY, DROP, RENAME, SET or RESET", &self.p.peek_token()),
        })
    }

    /// `element | (elements) | DISTRIBUTION ..`
    fn changed_elements(&mut self) -> PResult<(TableElements, Option<Distribution>)> {
        if self.eat(&["DISTRIBUTION"]) {
            return Ok((TableElements::default(), Some(self.distribution_tail()?)));
        }
        if self.at_paren() {
            return Ok((self.elements(false)?, None));
        }
        let mut elements = TableElements::default();
        self.element(&mut elements, false)?;
        Ok((elements, None))
    }

    fn add_partitions(&mut self) -> PResult<AlterTable> {
        let if_not_exists = self.if_not_exists();
        let mut partitions = vec![];
        loop {
            self.word("PARTITION")?;
            let partition = self.partition_spec()?;
            partitions.push((partition, self.with_options()?));
            let _ = self.p.consume_token(&Token::Comma);
            if !at(&self.p, &["PARTITION"]) {
                return Ok(AlterTable::AddPartitions { if_not_exists, partitions });
            }
        }
    }

    fn alter_table_drop(&mut self) -> PResult<AlterTable> {
        if at(&self.p, &["PARTITION"]) || at(&self.p, &["IF", "EXISTS"]) {
            let if_exists = self.if_exists();
            let mut partitions = vec![];
            loop {
                self.word("PARTITION")?;
                partitions.push(self.partition_spec()?);
                if !self.p.consume_token(&Token::Comma) {
                    return Ok(AlterTable::DropPartitions { if_exists, partitions });
                }
            }
        }
        if self.eat(&["WATERMARK"]) {
            return Ok(AlterTable::DropWatermark);
        }
        if self.eat(&["PRIMARY", "KEY"]) {
            return Ok(AlterTable::DropPrimaryKey);
        }
        if self.eat(&["CONSTRAINT"]) {
            return Ok(AlterTable::DropConstraint(self.ident()?));
        }
        if self.eat(&["DISTRIBUTION"]) {
            return Ok(AlterTable::DropDistribution);
        }
        let columns = if self.at_paren() { self.list(Self::path)? } else { vec![self.path()?] };
        Ok(AlterTable::DropColumns(columns))
    }
}

fn set_key(elements: &mut TableElements, key: PrimaryKey, at: sqlparser::tokenizer::Location) -> PResult<()> {
    match elements.primary_key.replace(key) {
        None => Ok(()),
        Some(_) => fail(at, "there is a second primary key", "a table has one"),
    }
}

//! The grammar of scripts: which statement it is, and the small statements.

use super::ast::{
    AnalyzeColumns, ExplainDetail, Insert, ObjectKind, OptionName, Show, ShowLike, SourceSpan, SqlOption, Statement,
    StatementKind,
};
use super::check::{Checker, check_hint, check_name};
use super::dialect::FlinkDialect;
use super::error::{Mistake, PResult, expected, fail, mistake};
use super::expr::string;
use super::hint;
use super::lex::{HintComment, Source};
use super::words::{at, eat, eat_any, is, upper};
use sqlparser::ast::{Expr, Ident, ObjectName, Query, VisitMut};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use std::collections::BTreeMap;

/// `sqlparser`'s limit of recursion: some levels for each of the parentheses that the lexer lets pass.
pub(super) const RECURSION_MAX: usize = 600;

/// A script that is being parsed.
pub(super) struct Script<'a> {
    pub p: Parser<'a>,
    source: &'a Source,
    dialect: &'a FlinkDialect,
    hints: BTreeMap<(u64, u64), HintComment>,
    derived: Vec<Vec<TokenWithSpan>>,
}

/// A partition's columns with their values.
pub(super) type PartitionSpec = Vec<(Ident, Option<Expr>)>;

impl<'a> Script<'a> {
    pub fn new(source: &'a Source, dialect: &'a FlinkDialect) -> Self {
        let p =
            Parser::new(dialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(source.tokens.clone());
        Script { p, source, dialect, hints: source.hints.clone(), derived: source.derived.clone() }
    }

    /// Where the parser stands.
    pub fn here(&self) -> Location {
        let start = self.p.peek_token_ref().span.start;
        if start.line > 0 { start } else { self.source.end() }
    }

    /// All statements to the end.
    pub fn statements(&mut self) -> PResult<Vec<Statement>> {
        let mut statements = vec![];
        loop {
            while self.p.consume_token(&Token::SemiColon) {}
            if self.p.peek_token_ref().token == Token::EOF {
                return Ok(statements);
            }
            statements.push(self.statement()?);
            self.end_of_statement()?;
            if let Some((_, hint)) = self.hints.iter().find(|(_, hint)| hint.start < self.here()) {
                return super::lex::misplaced_hint(hint.start);
            }
        }
    }

    fn end_of_statement(&mut self) -> PResult<()> {
        match self.p.peek_token() {
            t if matches!(t.token, Token::SemiColon | Token::EOF) => Ok(()),
            t => expected("the end of the statement", &t),
        }
    }

    /// One statement, without its semicolon.
    pub fn statement(&mut self) -> PResult<Statement> {
        let start = self.here();
        let kind = self.kind().map_err(|e| self.dialect.farthest(e))?;
        let end = self.p.get_current_token().span.end;
        let (from, to) = (self.source.offset(start), self.source.offset(end));
        let text = self.source.slice(from, to).to_string();
        let span = SourceSpan { line: start.line, column: start.column, start: from, end: to };
        Ok(Statement { kind, span, text })
    }

    fn kind(&mut self) -> PResult<StatementKind> {
        let token = self.p.peek_token();
        if token.token == Token::LParen {
            return Ok(StatementKind::Query(self.query()?));
        }
        let Some(word) = upper(&token.token) else { return expected("a statement", &token) };
        match word.as_str() {
            "SELECT" | "WITH" | "VALUES" => return Ok(StatementKind::Query(self.query()?)),
            "TABLE" => return Ok(StatementKind::Query(self.query()?)),
            "INSERT" | "UPSERT" => return self.insert(),
            "EXECUTE" => return self.execute(),
            "STATEMENT" => return self.statement_set(),
            _ => {}
        }
        self.p.advance_token();
        match word.as_str() {
            "BEGIN" => {
                if !eat(&mut self.p, &["STATEMENT", "SET"]) {
                    return expected("STATEMENT SET", &self.p.peek_token());
                }
                self.p.expect_token(&Token::SemiColon)?;
                self.members(token.span.start)
            }
            "END" => fail(token.span.start, "END has no BEGIN", "a statement set is BEGIN STATEMENT SET; ..; END;"),
            "CREATE" => self.create(),
            "ALTER" => self.alter(),
            "DROP" => self.drop_object(),
            "USE" => self.use_object(),
            "SHOW" => self.show(),
            "DESCRIBE" | "DESC" => self.describe(),
            "EXPLAIN" => self.explain(),
            "SET" => self.set(),
            "RESET" => {
                let key = if self.at_end() { None } else { Some(self.setting_key(&[Token::SemiColon])?) };
                Ok(StatementKind::Reset { key })
            }
            "ADD" => {
                self.word("JAR")?;
                Ok(StatementKind::AddJar(self.string()?))
            }
            "REMOVE" => {
                self.word("JAR")?;
                Ok(StatementKind::RemoveJar(self.string()?))
            }
            "LOAD" => {
                self.word("MODULE")?;
                let name = self.ident()?;
                Ok(StatementKind::LoadModule { name, options: self.with_options()? })
            }
            "UNLOAD" => {
                self.word("MODULE")?;
                Ok(StatementKind::UnloadModule(self.ident()?))
            }
            "ANALYZE" => self.analyze(),
            "TRUNCATE" => {
                self.word("TABLE")?;
                Ok(StatementKind::Truncate(self.name()?))
            }
            "DELETE" => self.delete(),
            "UPDATE" => self.update(),
            "CALL" => {
                let call = self.expr()?;
                match call {
                    Expr::Function(_) => Ok(StatementKind::Call(Box::new(call))),
                    _ => expected("a procedure's call", &self.p.peek_token()),
                }
            }
            "COMPILE" => self.compile(),
            "STOP" => {
                self.word("JOB")?;
                let id = self.string()?;
                let (mut with_savepoint, mut with_drain) = (false, false);
                while eat(&mut self.p, &["WITH"]) {
                    match eat_any(&mut self.p, &["SAVEPOINT", "DRAIN"]) {
                        Some("SAVEPOINT") => with_savepoint = true,
                        Some(_) => with_drain = true,
                        None => return expected("SAVEPOINT or DRAIN", &self.p.peek_token()),
                    }
                }
                Ok(StatementKind::StopJob { id, with_savepoint, with_drain })
            }
            "QUIT" | "EXIT" | "CLEAR" | "HELP" => Ok(StatementKind::Client(word)),
            "MERGE" | "GRANT" | "REVOKE" | "COMMIT" | "ROLLBACK" | "REPLACE" => {
                Err(mistake(Mistake::Unsupported, token.span.start, &format!("the statement {word}"), ""))
            }
            _ => {
                let hint = match millstream_core::suggest::nearest(&word, STATEMENTS) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "statements begin with CREATE, INSERT, SELECT, SET, EXPLAIN..".to_string(),
                };
                fail(token.span.start, format!("no statement begins with `{}`", token.token), hint)
            }
        }
    }

    // Pieces that several statements share.

    /// Consumes a word that must come.
    pub fn word(&mut self, word: &str) -> PResult<()> {
        if eat(&mut self.p, &[word]) { Ok(()) } else { expected(word, &self.p.peek_token()) }
    }

    /// Consumes words that must come.
    pub fn words(&mut self, words: &[&str]) -> PResult<()> {
        words.iter().try_for_each(|word| self.word(word))
    }

    /// Consumes words if they come.
    pub fn eat(&mut self, words: &[&str]) -> bool {
        eat(&mut self.p, words)
    }

    /// Whether a parenthesis opens here.
    pub fn at_paren(&self) -> bool {
        self.p.peek_token_ref().token == Token::LParen
    }

    fn at_end(&self) -> bool {
        matches!(self.p.peek_token_ref().token, Token::SemiColon | Token::EOF)
    }

    pub fn string(&mut self) -> PResult<String> {
        string(&mut self.p).map(|(text, _)| text)
    }

    /// A name without qualification.
    pub fn ident(&mut self) -> PResult<Ident> {
        let token = self.p.peek_token();
        let Token::Word(word) = token.token else { return expected("a name", &token) };
        let ident = word.into_ident(token.span);
        check_name(&ident)?;
        self.p.advance_token();
        Ok(ident)
    }

    /// A name's parts.
    pub fn path(&mut self) -> PResult<Vec<Ident>> {
        let mut parts = vec![self.ident()?];
        while self.p.consume_token(&Token::Period) {
            parts.push(self.ident()?);
        }
        Ok(parts)
    }

    /// A name, qualified or not.
    pub fn name(&mut self) -> PResult<ObjectName> {
        self.path().map(ObjectName::from)
    }

    /// `(a, b)`
    pub fn idents(&mut self) -> PResult<Vec<Ident>> {
        self.list(Self::ident)
    }

    /// `(item, ..)`, at least one.
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> PResult<T>) -> PResult<Vec<T>> {
        self.p.expect_token(&Token::LParen)?;
        let mut items = vec![item(self)?];
        while self.p.consume_token(&Token::Comma) {
            items.push(item(self)?);
        }
        match self.p.peek_token() {
            t if t.token == Token::RParen => self.p.advance_token(),
            t => return expected("`,` or `)`", &t),
        }
        Ok(items)
    }

    fn settle<T: VisitMut>(&mut self, mut tree: T) -> PResult<T> {
        Checker { hints: &mut self.hints, derived: &mut self.derived, recursion_max: RECURSION_MAX }
            .settle(&mut tree)?;
        Ok(tree)
    }

    /// A query.
    pub fn query(&mut self) -> PResult<Box<Query>> {
        let query = self.p.parse_query()?;
        self.settle(query)
    }

    /// A query and its text.
    pub fn query_text(&mut self) -> PResult<(Box<Query>, String)> {
        let start = self.source.offset(self.here());
        let query = self.query()?;
        let end = self.source.offset(self.p.get_current_token().span.end);
        Ok((query, self.source.slice(start, end).to_string()))
    }

    /// An expression.
    pub fn expr(&mut self) -> PResult<Expr> {
        let expr = self.p.parse_expr()?;
        self.settle(expr)
    }

    /// `IF NOT EXISTS`
    pub fn if_not_exists(&mut self) -> bool {
        self.eat(&["IF", "NOT", "EXISTS"])
    }

    /// `IF EXISTS`
    pub fn if_exists(&mut self) -> bool {
        self.eat(&["IF", "EXISTS"])
    }

    /// `[COMMENT '..']`
    pub fn comment(&mut self) -> PResult<Option<String>> {
        if self.eat(&["COMMENT"]) { self.string().map(Some) } else { Ok(None) }
    }

    fn option_name(&mut self) -> PResult<OptionName> {
        let token = self.p.peek_token();
        match token.token {
            Token::SingleQuotedString(value) => {
                self.p.advance_token();
                let Location { line, column } = token.span.start;
                Ok(OptionName { value, line, column })
            }
            Token::Word(_) => {
                fail(token.span.start, "an option is not in quotes", "write 'key' = 'value', both in single quotes")
            }
            _ => expected("an option like 'key' = 'value'", &token),
        }
    }

    /// `('key' = 'value', ..)`
    pub fn options(&mut self) -> PResult<Vec<SqlOption>> {
        if at_empty_list(&self.p) {
            self.p.advance_token();
            self.p.advance_token();
            return Ok(vec![]);
        }
        self.list(|s| {
            let key = s.option_name()?;
            s.p.expect_token(&Token::Eq)?;
            let token = s.p.peek_token();
            let value = match token.token {
                Token::Number(text, _) => {
                    return fail(token.span.start, "an option's value is not in quotes", format!("write '{text}'"));
                }
                _ => s.option_name()?,
            };
            Ok(SqlOption { key, value })
        })
    }

    /// `('key', ..)`
    pub fn option_keys(&mut self) -> PResult<Vec<OptionName>> {
        self.list(Self::option_name)
    }

    /// `[WITH (..)]`
    pub fn with_options(&mut self) -> PResult<Vec<SqlOption>> {
        if self.eat(&["WITH"]) { self.options() } else { Ok(vec![]) }
    }

    /// `(a = 1, b)` after PARTITION
    pub fn partition_spec(&mut self) -> PResult<PartitionSpec> {
        self.list(|s| {
            let column = s.ident()?;
            let value = if s.p.consume_token(&Token::Eq) { Some(s.expr()?) } else { None };
            Ok((column, value))
        })
    }

    // Inserts and sets of them.

    fn insert(&mut self) -> PResult<StatementKind> {
        let first = self.p.next_token();
        if is(&first.token, "UPSERT") {
            return Err(mistake(Mistake::Unsupported, first.span.start, "the statement UPSERT", "use INSERT INTO"));
        }
        let overwrite = self.eat(&["OVERWRITE"]);
        if !self.eat(&["INTO"]) && !overwrite {
            return expected("INTO or OVERWRITE", &self.p.peek_token());
        }
        self.eat(&["TABLE"]);
        let table = self.name()?;
        let key = table.0.last().and_then(|part| part.as_ident()).map(|i| (i.span.start.line, i.span.start.column));
        let mut hints = vec![];
        if let Some(comment) = key.and_then(|key| self.hints.remove(&key)) {
            check_hint(&comment.text, comment.start)?;
            hints = hint::parse(&comment.text, comment.start.line, comment.start.column).unwrap_or_default();
        }
        let partition = if self.eat(&["PARTITION"]) { self.partition_spec()? } else { vec![] };
        let next = self.p.peek_nth_token_ref(1);
        let is_query = ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|word| is(&next.token, word));
        let columns = if self.at_paren() && !is_query && next.token != Token::LParen { self.idents()? } else { vec![] };
        let source = self.query()?;
        Ok(StatementKind::Insert(Box::new(Insert { table, hints, overwrite, partition, columns, source })))
    }

    fn execute(&mut self) -> PResult<StatementKind> {
        self.word("EXECUTE")?;
        if at(&self.p, &["STATEMENT"]) {
            return self.statement_set();
        }
        if self.eat(&["PLAN"]) {
            return Ok(StatementKind::ExecutePlan(self.string()?));
        }
        // EXECUTE before a query or an insert changes nothing.
        self.kind_of("INSERT, SELECT, STATEMENT SET or PLAN", &["INSERT", "SELECT", "WITH", "VALUES"])
    }

    /// The next statement, which must begin with one of these words.
    fn kind_of(&mut self, what: &str, words: &[&str]) -> PResult<StatementKind> {
        if words.iter().any(|word| at(&self.p, &[word])) {
            return self.kind();
        }
        expected(what, &self.p.peek_token())
    }

    fn statement_set(&mut self) -> PResult<StatementKind> {
        let start = self.here();
        self.words(&["STATEMENT", "SET", "BEGIN"])?;
        self.members(start)
    }

    /// Inserts up to END.
    fn members(&mut self, start: Location) -> PResult<StatementKind> {
        let mut members = vec![];
        loop {
            while self.p.consume_token(&Token::SemiColon) {}
            if self.eat(&["END"]) {
                break;
            }
            let token = self.p.peek_token();
            match upper(&token.token).as_deref() {
                _ if token.token == Token::EOF => {
                    return fail(start, "the statement set is not closed", "it ends with END;");
                }
                Some("INSERT") => members.push(self.statement()?),
                _ => return expected("INSERT or END", &token),
            }
            if !matches!(self.p.peek_token_ref().token, Token::SemiColon | Token::EOF) {
                return expected("a semicolon", &self.p.peek_token());
            }
        }
        if members.is_empty() {
            return fail(start, "the statement set is empty", "it takes at least one INSERT");
        }
        Ok(StatementKind::StatementSet(members))
    }

    fn plan_source(&mut self) -> PResult<Box<Statement>> {
        match upper(&self.p.peek_token_ref().token).as_deref() {
            Some("INSERT" | "EXECUTE" | "STATEMENT" | "BEGIN") => Ok(Box::new(self.statement()?)),
            _ => expected("INSERT or STATEMENT SET", &self.p.peek_token()),
        }
    }

    fn compile(&mut self) -> PResult<StatementKind> {
        let execute = self.eat(&["AND", "EXECUTE"]);
        self.word("PLAN")?;
        let path = self.string()?;
        let if_not_exists = self.if_not_exists();
        self.word("FOR")?;
        let statement = self.plan_source()?;
        Ok(match execute {
            true => StatementKind::CompileAndExecutePlan { path, statement },
            false => StatementKind::CompilePlan { path, if_not_exists, statement },
        })
    }

    fn explain(&mut self) -> PResult<StatementKind> {
        let mut details = vec![];
        if !self.eat(&["PLAN", "FOR"]) {
            let words = ["ESTIMATED_COST", "CHANGELOG_MODE", "JSON_EXECUTION_PLAN", "PLAN_ADVICE"];
            while let Some(word) = eat_any(&mut self.p, &words) {
                details.push(match word {
                    "ESTIMATED_COST" => ExplainDetail::EstimatedCost,
                    "CHANGELOG_MODE" => ExplainDetail::ChangelogMode,
                    "JSON_EXECUTION_PLAN" => ExplainDetail::JsonExecutionPlan,
                    _ => ExplainDetail::PlanAdvice,
                });
                if !self.p.consume_token(&Token::Comma) {
                    break;
                }
            }
        }
        let token = self.p.peek_token();
        let begins = upper(&token.token);
        match begins.as_deref() {
            Some(
                "SELECT" | "WITH" | "VALUES" | "TABLE" | "INSERT" | "EXECUTE" | "STATEMENT" | "BEGIN" | "CREATE"
                | "DELETE" | "UPDATE",
            ) => {}
            _ if token.token == Token::LParen => {}
            _ => return expected("a query, an INSERT or a statement set", &token),
        }
        Ok(StatementKind::Explain { details, statement: Box::new(self.statement()?) })
    }

    // Settings.

    /// A key in quotes, or the legacy words up to one of `ends`.
    fn setting_key(&mut self, ends: &[Token]) -> PResult<OptionName> {
        let start = self.here();
        let Location { line, column } = start;
        if matches!(self.p.peek_token_ref().token, Token::SingleQuotedString(_)) {
            return Ok(OptionName { value: self.string()?, line, column });
        }
        let token = self.p.peek_token();
        if !matches!(token.token, Token::Word(_)) {
            return expected("a setting's key like 'execution.runtime-mode'", &token);
        }
        let value = self.raw_until(ends);
        Ok(OptionName { value, line, column })
    }

    /// The text up to one of `ends`, a semicolon or the end.
    fn raw_until(&mut self, ends: &[Token]) -> String {
        let start = self.source.offset(self.here());
        let mut end = start;
        while !self.at_end() && !ends.contains(&self.p.peek_token_ref().token) {
            end = self.source.offset(self.p.next_token().span.end);
        }
        self.source.slice(start, end).trim().to_string()
    }

    fn set(&mut self) -> PResult<StatementKind> {
        if self.at_end() {
            return Ok(StatementKind::Set { key: None, value: None });
        }
        let key = self.setting_key(&[Token::Eq])?;
        if self.at_end() {
            return Ok(StatementKind::Set { key: Some(key), value: None });
        }
        self.p.expect_token(&Token::Eq)?;
        if self.at_end() {
            return expected("a value", &self.p.peek_token());
        }
        let quoted = matches!(self.p.peek_token_ref().token, Token::SingleQuotedString(_));
        let value = if quoted { self.string()? } else { self.raw_until(&[]) };
        Ok(StatementKind::Set { key: Some(key), value: Some(value) })
    }

    // Catalog statements that only name things.

    fn use_object(&mut self) -> PResult<StatementKind> {
        if self.eat(&["CATALOG"]) {
            return Ok(StatementKind::Use { object: ObjectKind::Catalog, name: self.name()? });
        }
        if self.eat(&["MODULES"]) {
            let mut modules = vec![self.ident()?];
            while self.p.consume_token(&Token::Comma) {
                modules.push(self.ident()?);
            }
            return Ok(StatementKind::UseModules(modules));
        }
        self.eat(&["DATABASE"]);
        Ok(StatementKind::Use { object: ObjectKind::Database, name: self.name()? })
    }

    fn show(&mut self) -> PResult<StatementKind> {
        let token = self.p.peek_token();
        let first = upper(&token.token).unwrap_or_default();
        self.p.advance_token();
        let mut what = first.clone();
        let mut named = false;
        match first.as_str() {
            "CATALOGS" | "DATABASES" | "TABLES" | "VIEWS" | "FUNCTIONS" | "PROCEDURES" | "MODULES" | "JARS"
            | "JOBS" | "MODELS" | "COLUMNS" | "CONNECTIONS" => {}
            "PARTITIONS" => named = true,
            "CURRENT" => match eat_any(&mut self.p, &["CATALOG", "DATABASE"]) {
                Some(object) => what = format!("CURRENT {object}"),
                None => return expected("CATALOG or DATABASE", &self.p.peek_token()),
            },
            "USER" => {
                self.word("FUNCTIONS")?;
                what = "USER FUNCTIONS".to_string();
            }
            "FULL" => {
                self.word("MODULES")?;
                what = "FULL MODULES".to_string();
            }
            "MATERIALIZED" => {
                self.word("TABLES")?;
                what = "MATERIALIZED TABLES".to_string();
            }
            "CREATE" => {
                named = true;
                self.eat(&["TEMPORARY"]);
                what = if self.eat(&["MATERIALIZED", "TABLE"]) {
                    "CREATE MATERIALIZED TABLE".to_string()
                } else {
                    match eat_any(&mut self.p, &["TABLE", "VIEW", "CATALOG", "MODEL"]) {
                        Some(object) => format!("CREATE {object}"),
                        None => return expected("TABLE, VIEW, CATALOG or MODEL", &self.p.peek_token()),
                    }
                };
            }
            _ => return expected("TABLES, VIEWS, FUNCTIONS, CATALOGS, CREATE TABLE..", &token),
        }
        let name = if named || eat_any(&mut self.p, &["FROM", "IN"]).is_some() { Some(self.name()?) } else { None };
        let partition = if self.eat(&["PARTITION"]) { self.partition_spec()? } else { vec![] };
        let negated = self.eat(&["NOT"]);
        let like = match eat_any(&mut self.p, &["LIKE", "ILIKE"]) {
            Some(word) => Some(ShowLike { negated, case_insensitive: word == "ILIKE", pattern: self.string()? }),
            None if negated => return expected("LIKE or ILIKE", &self.p.peek_token()),
            None => None,
        };
        Ok(StatementKind::Show(Show { what, name, like, partition }))
    }

    fn describe(&mut self) -> PResult<StatementKind> {
        // A table may have the name of a kind of object; then nothing follows.
        let is_kind = matches!(self.p.peek_nth_token_ref(1).token, Token::Word(_) | Token::SingleQuotedString(_));
        let kinds = ["CATALOG", "DATABASE", "FUNCTION", "MODEL", "JOB", "TABLE"];
        let object = match is_kind.then(|| eat_any(&mut self.p, &kinds)).flatten() {
            Some("CATALOG") => ObjectKind::Catalog,
            Some("DATABASE") => ObjectKind::Database,
            Some("FUNCTION") => ObjectKind::Function,
            Some("MODEL") => ObjectKind::Model,
            Some("JOB") => ObjectKind::Job,
            _ => ObjectKind::Table,
        };
        if object == ObjectKind::Job {
            let (id, span) = string(&mut self.p)?;
            let name = ObjectName::from(vec![Ident::with_quote_and_span('`', span, id)]);
            return Ok(StatementKind::Describe { object, extended: false, name });
        }
        let extended = self.eat(&["EXTENDED"]);
        Ok(StatementKind::Describe { object, extended, name: self.name()? })
    }

    fn analyze(&mut self) -> PResult<StatementKind> {
        self.word("TABLE")?;
        let name = self.name()?;
        let partition = if self.eat(&["PARTITION"]) { self.partition_spec()? } else { vec![] };
        self.words(&["COMPUTE", "STATISTICS"])?;
        let mut columns = None;
        if self.eat(&["FOR"]) {
            columns = Some(if self.eat(&["ALL", "COLUMNS"]) {
                AnalyzeColumns::All
            } else {
                self.word("COLUMNS")?;
                let mut names = vec![self.ident()?];
                while self.p.consume_token(&Token::Comma) {
                    names.push(self.ident()?);
                }
                AnalyzeColumns::Some(names)
            });
        }
        Ok(StatementKind::AnalyzeTable { name, partition, columns })
    }

    // Changes of rows.

    fn alias(&mut self) -> PResult<Option<Ident>> {
        let explicit = self.eat(&["AS"]);
        let is_name = match &self.p.peek_token_ref().token {
            Token::Word(word) => word.quote_style.is_some() || !super::words::is_reserved(&word.value),
            _ => false,
        };
        if explicit || is_name { self.ident().map(Some) } else { Ok(None) }
    }

    fn selection(&mut self) -> PResult<Option<Expr>> {
        if self.eat(&["WHERE"]) { self.expr().map(Some) } else { Ok(None) }
    }

    fn delete(&mut self) -> PResult<StatementKind> {
        self.word("FROM")?;
        let table = self.name()?;
        let alias = self.alias()?;
        Ok(StatementKind::Delete { table, alias, selection: self.selection()? })
    }

    fn update(&mut self) -> PResult<StatementKind> {
        let table = self.name()?;
        let alias = self.alias()?;
        self.word("SET")?;
        let mut assignments = vec![];
        loop {
            let column = self.ident()?;
            self.p.expect_token(&Token::Eq)?;
            assignments.push((column, self.expr()?));
            if !self.p.consume_token(&Token::Comma) {
                break;
            }
        }
        Ok(StatementKind::Update { table, alias, assignments, selection: self.selection()? })
    }
}

fn at_empty_list(p: &Parser) -> bool {
    p.peek_token_ref().token == Token::LParen && p.peek_nth_token_ref(1).token == Token::RParen
}

/// What statements begin with, for suggestions.
const STATEMENTS: [&str; 24] = [
    "ADD", "ALTER", "ANALYZE", "BEGIN", "CALL", "COMPILE", "CREATE", "DELETE", "DESCRIBE", "DROP", "EXECUTE",
    "EXPLAIN", "INSERT", "LOAD", "REMOVE", "RESET", "SELECT", "SET", "SHOW", "TRUNCATE", "UNLOAD", "UPDATE", "USE",
    "WITH",
];

//! Flink's reserved words, and which words are keywords to the grammar of queries and expressions.

use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Word};

/// Reserved words: names only between backquotes (flink-sql-parser's Parser.tdd and Calcite's reference).
#[rustfmt::skip]
static RESERVED: &[&str] = &[
    "ABS", "ALL", "ALLOCATE", "ALLOW", "ALTER", "AND", "ANY", "ARE", "ARRAY", "ARRAY_MAX_CARDINALITY", "AS",
    "ASENSITIVE", "ASYMMETRIC", "AT", "ATOMIC", "AUTHORIZATION", "AVG", "BEGIN", "BEGIN_FRAME",
    "BEGIN_PARTITION", "BETWEEN", "BIGINT", "BINARY", "BIT", "BLOB", "BOOLEAN", "BOTH", "BUCKETS", "BY",
    "BYTES", "CALL", "CALLED", "CARDINALITY", "CASCADED", "CASE", "CAST", "CATALOGS", "CEIL", "CEILING", "CHAR",
    "CHARACTER", "CHARACTER_LENGTH", "CHAR_LENGTH", "CHECK", "CLASSIFIER", "CLOB", "CLOSE", "COALESCE",
    "COLLATE", "COLLECT", "COLUMN", "COMMENT", "COMMIT", "CONDITION", "CONNECT", "CONNECTIONS", "CONSTRAINT",
    "CONTAINS", "CONTINUOUS", "CONVERT", "CORR", "CORRESPONDING", "COUNT", "COVAR_POP", "COVAR_SAMP", "CREATE",
    "CROSS", "CUBE", "CUME_DIST", "CURRENT", "CURRENT_CATALOG", "CURRENT_DATE",
    "CURRENT_DEFAULT_TRANSFORM_GROUP", "CURRENT_PATH", "CURRENT_ROLE", "CURRENT_ROW", "CURRENT_SCHEMA",
    "CURRENT_TIME", "CURRENT_TIMESTAMP", "CURRENT_TRANSFORM_GROUP_FOR_TYPE", "CURRENT_USER", "CURSOR", "CYCLE",
    "DATABASES", "DATE", "DAY", "DEALLOCATE", "DEC", "DECIMAL", "DECLARE", "DEFAULT", "DEFINE", "DELETE",
    "DENSE_RANK", "DEREF", "DESCRIBE", "DETERMINISTIC", "DISALLOW", "DISCONNECT", "DISTINCT", "DISTRIBUTED",
    "DISTRIBUTION", "DOUBLE", "DROP", "DYNAMIC", "EACH", "ELEMENT", "ELSE", "EMPTY", "END", "END_FRAME",
    "END_PARTITION", "EQUALS", "ESCAPE", "EVERY", "EXCEPT", "EXEC", "EXECUTE", "EXISTS", "EXP", "EXPLAIN",
    "EXTEND", "EXTENDED", "EXTERNAL", "EXTRACT", "FALSE", "FETCH", "FILTER", "FIRST_VALUE", "FLOAT", "FLOOR",
    "FOR", "FOREIGN", "FRAME_ROW", "FREE", "FRESHNESS", "FROM", "FULL", "FUNCTION", "FUNCTIONS", "FUSION",
    "GET", "GLOBAL", "GRANT", "GROUP", "GROUPING", "GROUPS", "HASH", "HAVING", "HOLD", "HOUR", "IDENTITY",
    "IMPORT", "IN", "INDICATOR", "INITIAL", "INNER", "INOUT", "INSENSITIVE", "INSERT", "INT", "INTEGER",
    "INTERSECT", "INTERSECTION", "INTERVAL", "INTO", "IS", "JOIN", "JSON_ARRAY", "JSON_ARRAYAGG", "JSON_EXISTS",
    "JSON_OBJECT", "JSON_OBJECTAGG", "JSON_QUERY", "JSON_VALUE", "LAG", "LANGUAGE", "LARGE", "LAST_VALUE",
    "LATERAL", "LEAD", "LEADING", "LEFT", "LIKE", "LIKE_REGEX", "LIMIT", "LN", "LOCAL", "LOCALTIME",
    "LOCALTIMESTAMP", "LOWER", "MATCH", "MATCHES", "MATCH_NUMBER", "MATCH_RECOGNIZE", "MATERIALIZED", "MAX",
    "MEASURES", "MEMBER", "MERGE", "METHOD", "MIN", "MINUS", "MINUTE", "MOD", "MODELS", "MODIFIES", "MODIFY",
    "MODULE", "MODULES", "MONTH", "MULTISET", "NATIONAL", "NATURAL", "NCHAR", "NCLOB", "NEW", "NEXT", "NO",
    "NONE", "NORMALIZE", "NOT", "NTH_VALUE", "NTILE", "NULL", "NULLIF", "NUMERIC", "OCCURRENCES_REGEX",
    "OCTET_LENGTH", "OF", "OFFSET", "OLD", "OMIT", "ON", "ONE", "ONLY", "OPEN", "OR", "ORDER", "OUT", "OUTER",
    "OVER", "OVERLAPS", "OVERLAY", "PARAMETER", "PARTITION", "PATTERN", "PER", "PERCENT", "PERCENTILE_CONT",
    "PERCENTILE_DISC", "PERCENT_RANK", "PERIOD", "PERMUTE", "PORTION", "POSITION", "POSITION_REGEX", "POWER",
    "PRECEDES", "PRECISION", "PREPARE", "PREV", "PRIMARY", "PROCEDURE", "PROCEDURES", "QUALIFY", "RANGE",
    "RANK", "RAW", "READS", "REAL", "RECURSIVE", "REF", "REFERENCES", "REFERENCING", "REFRESH", "REFRESH_MODE",
    "REGR_AVGX", "REGR_AVGY", "REGR_COUNT", "REGR_INTERCEPT", "REGR_R2", "REGR_SLOPE", "REGR_SXX", "REGR_SXY",
    "REGR_SYY", "RELEASE", "RENAME", "RESET", "RESULT", "RESUME", "RETURN", "RETURNS", "REVOKE", "RIGHT",
    "ROLLBACK", "ROLLUP", "ROW", "ROWS", "ROW_NUMBER", "RUNNING", "SAVEPOINT", "SCALA", "SCOPE", "SCROLL",
    "SEARCH", "SECOND", "SEEK", "SELECT", "SENSITIVE", "SESSION_USER", "SET", "SHOW", "SIMILAR", "SKIP",
    "SMALLINT", "SOME", "SPECIFIC", "SPECIFICTYPE", "SQL", "SQLEXCEPTION", "SQLSTATE", "SQLWARNING", "SQRT",
    "START", "STATIC", "STDDEV_POP", "STDDEV_SAMP", "STREAM", "STRING", "STRUCTURED", "SUBMULTISET", "SUBSET",
    "SUBSTRING", "SUBSTRING_REGEX", "SUCCEEDS", "SUM", "SUSPEND", "SYMMETRIC", "SYSTEM", "SYSTEM_TIME",
    "SYSTEM_USER", "TABLE", "TABLES", "TABLESAMPLE", "THEN", "TIME", "TIMESTAMP", "TIMESTAMP_LTZ",
    "TIMEZONE_HOUR", "TIMEZONE_MINUTE", "TINYINT", "TO", "TRAILING", "TRANSLATE", "TRANSLATE_REGEX",
    "TRANSLATION", "TREAT", "TRIGGER", "TRIM", "TRIM_ARRAY", "TRUE", "TRUNCATE", "TRY_CAST", "UESCAPE", "UNION",
    "UNIQUE", "UNKNOWN", "UNNEST", "UPDATE", "UPPER", "UPSERT", "USE", "USER", "USING", "VALUE", "VALUES",
    "VALUE_OF", "VARBINARY", "VARCHAR", "VARYING", "VAR_POP", "VAR_SAMP", "VERSIONING", "VIEWS", "WATERMARK",
    "WATERMARKS", "WHEN", "WHENEVER", "WHERE", "WIDTH_BUCKET", "WINDOW", "WITH", "WITHIN", "WITHOUT", "YEAR",
];

/// Words that `sqlparser` must take for keywords; it takes all others for names, so that its other dialects'
/// clauses and reservations are gone.
#[rustfmt::skip]
static GRAMMAR: &[&str] = &[
    "AFTER", "ALL", "AND", "ANY", "AS", "ASC", "BERNOULLI", "BETWEEN", "BY", "CASE", "CROSS", "CUBE", "CURRENT",
    "DEFINE", "DESC", "DISTINCT", "ELSE", "EMPTY", "END", "ESCAPE", "EXCEPT", "EXISTS", "FALSE", "FETCH",
    "FILTER", "FIRST", "FOLLOWING", "FOR", "FROM", "FULL", "GROUP", "GROUPING", "HAVING", "IGNORE", "IN",
    "INNER", "INTERSECT", "IS", "JOIN", "LAST", "LATERAL", "LEFT", "LIKE", "LIMIT", "MATCH", "MATCHES",
    "MATCH_RECOGNIZE", "MEASURES", "MINUS", "NATURAL", "NEXT", "NOT", "NULL", "NULLS", "OF", "OFFSET", "OMIT",
    "ON", "ONE", "ONLY", "OR", "ORDER", "ORDINALITY", "OUTER", "OVER", "OVERLAPS", "PARTITION", "PAST",
    "PATTERN", "PER", "PRECEDING", "QUALIFY", "RANGE", "RECURSIVE", "REPEATABLE", "RESPECT", "RIGHT", "ROLLUP",
    "ROW", "ROWS", "SELECT", "SETS", "SHOW", "SIMILAR", "SKIP", "SOME", "SYSTEM", "SYSTEM_TIME", "TABLE",
    "TABLESAMPLE", "THEN", "TO", "TRUE", "UNBOUNDED", "UNION", "UNKNOWN", "UNMATCHED", "UNNEST", "USING",
    "VALUES", "WHEN", "WHERE", "WINDOW", "WITH", "WITHIN",
];

/// Reserved words that hold clauses together: nobody means them as names, and they are no functions.
#[rustfmt::skip]
static STRUCTURAL: &[&str] = &[
    "ALL", "ALTER", "AND", "ANY", "AS", "ASYMMETRIC", "BETWEEN", "BY", "CREATE", "CROSS", "DEFINE", "DELETE",
    "DISTINCT", "DROP", "ELSE", "END", "ESCAPE", "EXCEPT", "EXECUTE", "FETCH", "FOR", "FROM", "FULL", "GROUP",
    "HAVING", "IN", "INNER", "INSERT", "INTERSECT", "INTO", "IS", "JOIN", "LATERAL", "LIKE", "LIMIT",
    "MATCH_RECOGNIZE", "MEASURES", "MINUS", "NATURAL", "OF", "OFFSET", "ON", "OR", "ORDER", "OUTER", "OVER",
    "PARTITION", "PATTERN", "QUALIFY", "SELECT", "SET", "SIMILAR", "SYMMETRIC", "SYSTEM_TIME", "TABLE", "THEN",
    "TO", "UNION", "UNNEST", "UPDATE", "USING", "VALUES", "WHEN", "WHERE", "WINDOW", "WITH", "WITHIN",
];

/// Whether `word` (in any case) is reserved.
pub(super) fn is_reserved(word: &str) -> bool {
    contains(RESERVED, word)
}

/// Whether `word` (in any case) holds clauses together.
pub(super) fn is_structural(word: &str) -> bool {
    contains(STRUCTURAL, word)
}

/// Whether `sqlparser` must take `word` for a keyword.
pub(super) fn is_grammar(word: &str) -> bool {
    contains(GRAMMAR, word)
}

/// Whether a keyword of `sqlparser` is a reserved word.
pub(super) fn is_reserved_keyword(keyword: &Keyword) -> bool {
    *keyword != Keyword::NoKeyword && is_reserved(&format!("{keyword:?}"))
}

fn contains(list: &[&str], word: &str) -> bool {
    list.binary_search(&word.to_ascii_uppercase().as_str()).is_ok()
}

/// The word in capitals, if the token is an unquoted word.
pub(super) fn upper(token: &Token) -> Option<String> {
    match token {
        Token::Word(Word { value, quote_style: None, .. }) => Some(value.to_ascii_uppercase()),
        _ => None,
    }
}

/// Whether the token is this unquoted word; `word` is in capitals.
pub(super) fn is(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
}

/// Whether the next tokens are these words.
pub(super) fn at(p: &Parser, words: &[&str]) -> bool {
    words.iter().enumerate().all(|(i, word)| is(&p.peek_nth_token_ref(i).token, word))
}

/// Consumes the next tokens if they are these words.
pub(super) fn eat(p: &mut Parser, words: &[&str]) -> bool {
    let found = at(p, words);
    if found {
        for _ in words {
            p.advance_token();
        }
    }
    found
}

/// Consumes the next word if it is one of these, and returns it.
pub(super) fn eat_any<'w>(p: &mut Parser, words: &[&'w str]) -> Option<&'w str> {
    let found = words.iter().find(|word| is(&p.peek_token_ref().token, word))?;
    p.advance_token();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_for_binary_search() {
        for list in [RESERVED, GRAMMAR, STRUCTURAL] {
            assert!(list.is_sorted(), "{list:?}");
        }
    }

    #[test]
    fn structural_words_are_reserved() {
        for word in STRUCTURAL {
            assert!(is_reserved(word), "{word}");
        }
    }
}

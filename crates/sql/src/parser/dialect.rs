//! Flink's dialect for `sqlparser`: lexical rules, and the hooks of its expression grammar.

use super::error::{PResult, place_of};
use super::{expr, words};
use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token};
use std::cell::RefCell;

fn starts_name(ch: char) -> bool {
    ch.is_alphabetic() || ch == '_'
}

fn continues_name(ch: char) -> bool {
    ch.is_alphanumeric() || ch == '_' || ch == '$' || ch == '@'
}

/// Whether the token just consumed can be an alias without AS: `sqlparser` asks after taking it.
fn may_be_alias(p: &Parser) -> bool {
    words::upper(&p.get_current_token().token).is_none_or(|word| !words::is_reserved(&word))
}

/// The lexical rules alone: it claims to be no known dialect, so that only standard literals are read.
#[derive(Debug)]
pub(super) struct FlinkLexer;

impl Dialect for FlinkLexer {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        starts_name(ch)
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        continues_name(ch)
    }
    fn supports_unicode_string_literal(&self) -> bool {
        true
    }
}

/// The grammar's hooks.
#[derive(Debug, Default)]
pub(super) struct FlinkDialect {
    /// The mistake farthest into the script that a hook found: `sqlparser` tries alternatives, and reports
    /// the last one's mistake, which may stand before the real one.
    farthest: RefCell<Option<(Location, ParserError)>>,
}

impl FlinkDialect {
    /// The error to report when parsing ended with `error`.
    pub fn farthest(&self, error: ParserError) -> ParserError {
        let at = |l: Option<Location>| l.filter(|l| l.line > 0).map_or((u64::MAX, 0), |l| (l.line, l.column));
        match self.farthest.take() {
            Some((place, inner)) if (place.line, place.column) > at(place_of(&error)) => inner,
            _ => error,
        }
    }

    fn note<T>(&self, result: Option<PResult<T>>) -> Option<PResult<T>> {
        if let Some(Err(error)) = &result
            && let Some(place) = place_of(error)
        {
            let mut farthest = self.farthest.borrow_mut();
            if farthest.as_ref().is_none_or(|(before, _)| *before < place) {
                *farthest = Some((place, error.clone()));
            }
        }
        result
    }
}

impl Dialect for FlinkDialect {
    /// `sqlparser` reads UNNEST only for dialects it knows.
    fn dialect(&self) -> std::any::TypeId {
        std::any::TypeId::of::<GenericDialect>()
    }
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        starts_name(ch)
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        continues_name(ch)
    }
    fn supports_group_by_expr(&self) -> bool {
        true
    }
    fn supports_match_recognize(&self) -> bool {
        true
    }
    fn supports_table_versioning(&self) -> bool {
        true
    }
    fn supports_comment_optimizer_hint(&self) -> bool {
        true
    }
    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }
    fn supports_left_associative_joins_without_parens(&self) -> bool {
        true
    }
    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }
    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }
    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        words::is_reserved_keyword(&keyword)
    }
    fn is_column_alias(&self, _: &Keyword, p: &mut Parser) -> bool {
        may_be_alias(p)
    }
    fn is_table_alias(&self, _: &Keyword, p: &mut Parser) -> bool {
        may_be_alias(p)
    }
    fn is_table_factor(&self, keyword: &Keyword, _: &mut Parser) -> bool {
        !words::is_reserved_keyword(keyword)
    }

    fn parse_prefix(&self, p: &mut Parser) -> Option<PResult<Expr>> {
        self.note(expr::prefix(p).transpose())
    }

    fn parse_infix(&self, p: &mut Parser, left: &Expr, _: u8) -> Option<PResult<Expr>> {
        let between = self.prec_value(Precedence::Between);
        self.note(expr::infix(p, left, between).transpose())
    }

    /// Flink's operators only; all other tokens end an expression.
    fn get_next_precedence(&self, p: &Parser) -> Option<PResult<u8>> {
        let next = |n: usize| &p.peek_nth_token_ref(n).token;
        let precedence = match next(0) {
            Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => Precedence::Eq,
            Token::Plus | Token::Minus => Precedence::PlusMinus,
            Token::Mul | Token::Div | Token::Mod | Token::StringConcat => Precedence::MulDivModOp,
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::OR => Precedence::Or,
                Keyword::AND => Precedence::And,
                Keyword::IS => Precedence::Is,
                Keyword::IN | Keyword::BETWEEN | Keyword::OVERLAPS => Precedence::Between,
                Keyword::LIKE | Keyword::SIMILAR => Precedence::Like,
                Keyword::NOT => match next(1) {
                    Token::Word(word) => match word.keyword {
                        Keyword::IN | Keyword::BETWEEN => Precedence::Between,
                        Keyword::LIKE | Keyword::SIMILAR => Precedence::Like,
                        _ => return Some(Ok(self.prec_unknown())),
                    },
                    _ => return Some(Ok(self.prec_unknown())),
                },
                _ => return Some(Ok(self.prec_unknown())),
            },
            _ => return Some(Ok(self.prec_unknown())),
        };
        Some(Ok(self.prec_value(precedence)))
    }
}

//! Where a piece of a tree stands in its script.

use sqlparser::ast::{Expr, Spanned, Visit, Visitor};
use sqlparser::tokenizer::{Location, Span};
use std::ops::ControlFlow;

/// Line and column (both from 1) of the first token of an expression whose tokens keep their places.
///
/// `None` only for trees that no script gave, such as the star of `TABLE t` as an argument.
pub fn position_of(expr: &Expr) -> Option<(u64, u64)> {
    let mut first = First(None);
    let _ = expr.visit(&mut first);
    first.0.map(|l| (l.line, l.column))
}

/// Line and column of a name.
pub fn position_of_name(name: &sqlparser::ast::ObjectName) -> Option<(u64, u64)> {
    known(name.span()).map(|l| (l.line, l.column))
}

/// Line and column of a name's part or an alias.
pub fn position_of_ident(ident: &sqlparser::ast::Ident) -> Option<(u64, u64)> {
    known(ident.span).map(|l| (l.line, l.column))
}

fn known(span: Span) -> Option<Location> {
    Some(span.start).filter(|l| l.line > 0)
}

/// The earliest known place in an expression: `sqlparser`'s own spans leave out some kinds of expressions.
struct First(Option<Location>);

impl First {
    fn offer(&mut self, span: Span) {
        if let Some(at) = known(span) {
            self.0 = Some(self.0.map_or(at, |before| before.min(at)));
        }
    }
}

impl Visitor for First {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Value(value) => self.offer(value.span),
            Expr::Identifier(ident) => self.offer(ident.span),
            Expr::CompoundIdentifier(parts) => parts.iter().take(1).for_each(|part| self.offer(part.span)),
            Expr::Function(call) => self.offer(call.name.span()),
            Expr::TypedString(literal) => self.offer(literal.value.span),
            Expr::Case { case_token, .. } => self.offer(case_token.0.span),
            Expr::Wildcard(token) => self.offer(token.0.span),
            Expr::QualifiedWildcard(name, _) => self.offer(name.span()),
            Expr::Subquery(query) => self.offer(query.span()),
            Expr::Exists { subquery, .. } => self.offer(subquery.span()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The expression as text, in the syntax of its tree: for messages and plans, not for parsing again.
pub fn render(expr: &Expr) -> String {
    expr.to_string()
}

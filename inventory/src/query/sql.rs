//! From a search to SQL: only parts that are written here become text, all that was typed becomes parameters.

use super::fields::{Field, Place};
use super::value::{Span, Value};
use super::{Condition, Expr, Op, Query};
use jiff::Timestamp;
use std::time::Duration;

/// A condition on `machine m`, and what its question marks stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    pub condition: String,
    pub parameters: Vec<Parameter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    Text(String),
    Number(i64),
}

impl Query {
    /// As it is asked at `now`.
    pub fn compile(&self, now: Timestamp) -> Compiled {
        let mut compiled = Compiled::default();
        let mut writer = Writer {
            now,
            parameters: &mut compiled.parameters,
        };
        let condition = writer.expr(&self.0);
        compiled.condition = condition;
        compiled
    }
}

struct Writer<'a> {
    now: Timestamp,
    parameters: &'a mut Vec<Parameter>,
}

impl Writer<'_> {
    fn expr(&mut self, expr: &Expr) -> String {
        match expr {
            Expr::All(parts) => self.joined(parts, " AND ", "1"),
            Expr::Any(parts) => self.joined(parts, " OR ", "0"),
            Expr::Not(part) => format!("NOT {}", self.expr(part)),
            Expr::Is(condition) => self.condition(condition),
            Expr::Word(word) => {
                let text = self.text(word);
                format!("(instr(m.words, {text}) > 0)")
            }
        }
    }

    fn joined(&mut self, parts: &[Expr], between: &str, none: &str) -> String {
        let parts: Vec<String> = parts.iter().map(|part| self.expr(part)).collect();
        if parts.is_empty() {
            return none.to_owned();
        }
        format!("({})", parts.join(between))
    }

    fn condition(&mut self, condition: &Condition) -> String {
        let Condition {
            field: Field { place, .. },
            op,
            value,
            ..
        } = condition;
        let (column, table) = match place {
            Place::Machine(column) => (column, None),
            Place::Disk(column) => (column, Some("disk d WHERE d.machine")),
            Place::Nic(column) => (column, Some("nic n WHERE n.machine")),
            Place::Group(column) => (column, Some("grp g WHERE g.machine")),
        };
        let test = match value {
            Value::Text(text) => self.text_test(column, *op, text),
            Value::Span(span) => self.span_test(column, *op, *span),
            Value::Ago(ago) => self.ago_test(column, *op, *ago),
        };
        match table {
            // What is not known is not less, not more and not equal, and `not` of that is true.
            None => format!("coalesce({test}, 0)"),
            Some(table) => format!("EXISTS (SELECT 1 FROM {table} = m.id AND {test})"),
        }
    }

    fn text_test(&mut self, column: &str, op: Op, text: &str) -> String {
        let text = self.text(text);
        match op {
            Op::Contains => format!("(instr(lower({column}), {text}) > 0)"),
            Op::Other => format!("(lower({column}) <> {text})"),
            _ => format!("(lower({column}) = {text})"),
        }
    }

    fn span_test(&mut self, column: &str, op: Op, span: Span) -> String {
        let Span { at, near } = span;
        match op {
            Op::Less => format!("({column} < {})", self.number(at.0)),
            Op::AtMost => format!("({column} < {})", self.number(at.1)),
            Op::More => format!("({column} >= {})", self.number(at.1)),
            Op::AtLeast => format!("({column} >= {})", self.number(at.0)),
            Op::Other => {
                let (from, to) = (self.number(near.0), self.number(near.1));
                format!("({column} < {from} OR {column} >= {to})")
            }
            Op::Equal | Op::Contains => {
                let (from, to) = (self.number(near.0), self.number(near.1));
                format!("({column} >= {from} AND {column} < {to})")
            }
        }
    }

    /// Less than 30 days ago is after the time that is 30 days ago.
    fn ago_test(&mut self, column: &str, op: Op, ago: Duration) -> String {
        let ago = i64::try_from(ago.as_secs()).unwrap_or(i64::MAX);
        let time = self.number(self.now.as_second().saturating_sub(ago));
        match op {
            Op::Less => format!("({column} > {time})"),
            Op::AtMost => format!("({column} >= {time})"),
            Op::AtLeast => format!("({column} <= {time})"),
            _ => format!("({column} < {time})"),
        }
    }

    fn text(&mut self, text: &str) -> String {
        self.parameter(Parameter::Text(text.to_owned()))
    }

    fn number(&mut self, number: i64) -> String {
        self.parameter(Parameter::Number(number))
    }

    fn parameter(&mut self, parameter: Parameter) -> String {
        self.parameters.push(parameter);
        format!("?{}", self.parameters.len())
    }
}

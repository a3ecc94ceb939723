//! From text to a search. Every error names its place.

use super::fields::{self, Kind};
use super::value::{self, Value};
use super::{Condition, Expr, LONGEST, Op, QueryError};
use std::ops::Range;

/// Parentheses and `not` within each other.
const DEEPEST: usize = 40;

pub(super) fn parse(text: &str) -> Result<Expr, QueryError> {
    if text.len() > LONGEST {
        let message = format!(
            "a search has at most {LONGEST} bytes, and this one has {}",
            text.len()
        );
        return Err(QueryError::new(0..text.len(), message));
    }
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
    };
    parser.skip_space();
    if parser.rest().is_empty() {
        return Ok(Expr::All(Vec::new()));
    }
    let expr = parser.any()?;
    match parser.rest().chars().next() {
        None => Ok(expr),
        Some(_) => Err(parser.wrong(1, "this closing parenthesis was never opened")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn wrong(&self, length: usize, message: impl Into<String>) -> QueryError {
        let end = (self.at + length).min(self.text.len());
        QueryError::new(self.at..end, message)
    }

    fn any(&mut self) -> Result<Expr, QueryError> {
        let mut parts = vec![self.all()?];
        while self.keyword("or") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Expr::Any))
    }

    fn all(&mut self) -> Result<Expr, QueryError> {
        let mut parts = vec![self.one()?];
        loop {
            self.skip_space();
            let rest = self.rest();
            if rest.is_empty() || rest.starts_with(')') || self.is_keyword("or") {
                return Ok(one_or(parts, Expr::All));
            }
            self.keyword("and");
            parts.push(self.one()?);
        }
    }

    fn one(&mut self) -> Result<Expr, QueryError> {
        self.skip_space();
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong(1, format!("more than {DEEPEST} of these within each other")));
        }
        let expr = self.one_within();
        self.depth -= 1;
        expr
    }

    fn one_within(&mut self) -> Result<Expr, QueryError> {
        if self.keyword("not") {
            return Ok(Expr::Not(Box::new(self.one()?)));
        }
        let open = self.at;
        match self.rest().chars().next() {
            None => Err(self.wrong(0, "something is missing at the end")),
            Some('(') => {
                self.at += 1;
                let expr = self.any()?;
                self.skip_space();
                if !self.rest().starts_with(')') {
                    return Err(QueryError::new(
                        open..open + 1,
                        "this parenthesis is never closed",
                    ));
                }
                self.at += 1;
                Ok(expr)
            }
            Some(')') => Err(self.wrong(1, "something is missing before this parenthesis")),
            Some('"') => {
                let word = self.quoted()?;
                self.skip_space();
                if self.rest().starts_with(is_operator) {
                    let place = open..self.at;
                    return Err(QueryError::new(place, "a field is written without quotes"));
                }
                Ok(Expr::Word(word.to_ascii_lowercase()))
            }
            Some(c) if is_operator(c) => Err(self.wrong(1, "a field is missing before this")),
            Some(_) => self.condition_or_word(),
        }
    }

    fn condition_or_word(&mut self) -> Result<Expr, QueryError> {
        let begin = self.at;
        let word = self.bare(|c| is_end(c) || is_operator(c));
        let place = begin..self.at;
        if (self.is_operator_next()) && !is_keyword(word) {
            let field = fields::find(word).ok_or_else(|| unknown(word, place))?;
            return self.condition(field);
        }
        if is_keyword(word) {
            return Err(QueryError::new(
                place,
                format!("{word} stands between two conditions: in quotes it is a word to look for"),
            ));
        }
        Ok(Expr::Word(word.to_ascii_lowercase()))
    }

    fn condition(&mut self, field: &'static fields::Field) -> Result<Expr, QueryError> {
        let op_place = self.at..self.at + 1;
        let op = self.operator()?;
        self.skip_space();
        let begin = self.at;
        let text = match self.rest().chars().next() {
            Some('"') => self.quoted()?,
            Some(c) if !is_end(c) => self.bare(is_end).to_owned(),
            _ => {
                let message = format!("a value is missing after {}{}", field.name, op.as_str());
                return Err(self.wrong(0, message));
            }
        };
        let value = read(field.kind, op, &text);
        let value = value.map_err(|wrong| match wrong {
            Wrong::Op(message) => QueryError::new(op_place, format!("{}: {message}", field.name)),
            Wrong::Value(message) => {
                QueryError::new(begin..self.at, format!("{}: {message}", field.name))
            }
        })?;
        Ok(Expr::Is(Condition {
            field,
            op,
            text,
            value,
        }))
    }

    fn operator(&mut self) -> Result<Op, QueryError> {
        let rest = self.rest();
        let length = rest.find(|c| !is_operator(c)).unwrap_or(rest.len());
        let op = match &rest[..length] {
            "=" => Op::Equal,
            "!=" => Op::Other,
            "<" => Op::Less,
            "<=" => Op::AtMost,
            ">" => Op::More,
            ">=" => Op::AtLeast,
            "~" => Op::Contains,
            "==" => return Err(self.wrong(length, "write = for equal")),
            "=~" | "~=" => return Err(self.wrong(length, "write ~ for contains")),
            "<>" | "!" => return Err(self.wrong(length, "write != for other than")),
            "!~" => return Err(self.wrong(length, "write not FIELD~VALUE")),
            _ => return Err(self.wrong(length, "there are =, !=, <, <=, >, >= and ~")),
        };
        self.at += length;
        Ok(op)
    }

    fn bare(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(ends).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// A text in quotes, in which `\"` is a quote and `\\` a backslash.
    fn quoted(&mut self) -> Result<String, QueryError> {
        let begin = self.at;
        let mut text = String::new();
        let mut escaped = false;
        for (at, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => {
                    if c != '"' && c != '\\' {
                        text.push('\\');
                    }
                    text.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.at += at + 1;
                    return Ok(text);
                }
                _ => text.push(c),
            }
        }
        Err(QueryError::new(
            begin..begin + 1,
            "this quote is never closed",
        ))
    }

    fn is_operator_next(&mut self) -> bool {
        let at = self.at;
        self.skip_space();
        let next = self.rest().starts_with(is_operator);
        if !next {
            self.at = at;
        }
        next
    }

    fn is_keyword(&self, word: &str) -> bool {
        let rest = self.rest();
        let Some(begin) = rest.get(..word.len()) else {
            return false;
        };
        let after = rest[word.len()..].chars().next();
        begin.eq_ignore_ascii_case(word) && after.is_none_or(is_end)
    }

    fn keyword(&mut self, word: &str) -> bool {
        self.skip_space();
        let is = self.is_keyword(word);
        if is {
            self.at += word.len();
        }
        is
    }
}

fn one_or(mut parts: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match (parts.pop(), parts.len()) {
        (Some(only), 0) => only,
        (last, _) => {
            parts.extend(last);
            many(parts)
        }
    }
}

enum Wrong {
    Op(String),
    Value(String),
}

fn read(kind: Kind, op: Op, text: &str) -> Result<Value, Wrong> {
    let ordered = matches!(op, Op::Less | Op::AtMost | Op::More | Op::AtLeast);
    let is_text = matches!(kind, Kind::Text | Kind::Words(_));
    if ordered && is_text {
        let message = format!(
            "it is a text: {} compares sizes, numbers and times",
            op.as_str()
        );
        return Err(Wrong::Op(message));
    }
    if op == Op::Contains {
        if is_text {
            return Ok(Value::Text(text.to_ascii_lowercase()));
        }
        return Err(Wrong::Op("~ looks into texts: write =, < or >".into()));
    }
    let value = value::parse(kind, text).map_err(Wrong::Value)?;
    if matches!(value, Value::Ago(_)) && !ordered {
        return Err(Wrong::Op(format!(
            "nothing is exactly {text} ago: write < or >"
        )));
    }
    Ok(value)
}

fn unknown(word: &str, place: Range<usize>) -> QueryError {
    let message = if let Some(like) = fields::like(word) {
        format!("there is no field {word:?}: did you mean {like}?")
    } else {
        let all: Vec<&str> = fields::FIELDS.iter().map(|field| field.name).collect();
        format!("there is no field {word:?}: there are {}", all.join(", "))
    };
    QueryError::new(place, message)
}

fn is_operator(c: char) -> bool {
    matches!(c, '=' | '!' | '<' | '>' | '~')
}

/// Ends a word or a value.
fn is_end(c: char) -> bool {
    c.is_whitespace() || matches!(c, '(' | ')' | '"')
}

fn is_keyword(word: &str) -> bool {
    ["and", "or", "not"]
        .iter()
        .any(|it| it.eq_ignore_ascii_case(word))
}

//! Searches as people type them: `ram<8GiB disk.model~"EVO"`. docs/inventory.md has the language.
//!
//! ```text
//! search    = all { "or" all }
//! all       = one { [ "and" ] one }
//! one       = "not" one | "(" search ")" | FIELD op VALUE | WORD
//! op        = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
//! ```

mod error;
mod fields;
mod parse;
mod sql;
mod value;

pub use error::QueryError;
pub use fields::{FIELDS, Field, Kind};
pub use sql::{Compiled, Parameter};

use std::fmt;
use value::Value;

/// The longest search, in bytes.
pub const LONGEST: usize = 2000;

/// A search that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query(Expr);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expr {
    /// None of them is all machines.
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Not(Box<Expr>),
    Is(Condition),
    /// Anywhere in what is known of the machine.
    Word(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    field: &'static Field,
    op: Op,
    /// As it was written.
    text: String,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Equal,
    Other,
    Less,
    AtMost,
    More,
    AtLeast,
    Contains,
}

impl Op {
    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Other => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
            Self::Contains => "~",
        }
    }
}

impl Query {
    /// Reads a search; an empty one is all machines.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        parse::parse(text).map(Self)
    }

    /// The whole search in one way of writing it, with every value in quotes.
    pub fn canonical(&self) -> String {
        self.0.to_string()
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, parts: &[Expr], between: &str| {
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    f.write_str(between)?;
                }
                match part {
                    Expr::All(_) | Expr::Any(_) => write!(f, "({part})")?,
                    _ => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All(parts) => list(f, parts, " "),
            Self::Any(parts) => list(f, parts, " or "),
            Self::Not(part) => write!(f, "not ({part})"),
            Self::Is(is) => {
                let (field, op) = (is.field.name, is.op.as_str());
                write!(f, "{field}{op}{}", quoted(&is.text))
            }
            Self::Word(word) => f.write_str(&quoted(word)),
        }
    }
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
pub(crate) mod tests;

//! What is wrong with a search, and where.

use std::fmt;
use std::ops::Range;

/// A search that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// Bytes of the search.
    pub place: Range<usize>,
    pub message: String,
}

impl QueryError {
    pub(super) fn new(place: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
        }
    }

    /// The search with a mark under what is wrong, and why.
    pub fn pointed(&self, query: &str) -> String {
        let columns = |bytes: &str| bytes.chars().count();
        // A search may be of several lines: each would be marked in its own way.
        let shown: String = query
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let before = columns(query.get(..self.place.start).unwrap_or(query));
        let marked = columns(query.get(self.place.clone()).unwrap_or_default()).max(1);
        let mark = "^".repeat(marked);
        format!("{}\n  {shown}\n  {:before$}{mark}", self.message, "")
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.place.start + 1, self.message)
    }
}

impl std::error::Error for QueryError {}

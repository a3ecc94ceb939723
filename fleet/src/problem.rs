//! What is wrong with a fleet file, and where.

use std::fmt;

/// So many are shown: a file of noise has more, and nobody reads them.
const SHOWN: usize = 50;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// From 1; 0 where no line is to blame.
    pub line: usize,
    /// The other line that is part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<usize>,
    /// A sentence; it names the other line as well.
    pub what: String,
}

impl Problem {
    pub(crate) fn at(line: usize, what: impl Into<String>) -> Self {
        Self {
            line,
            other: None,
            what: what.into(),
        }
    }

    /// `what` is followed by the other place.
    pub(crate) fn both(line: usize, other: usize, what: impl fmt::Display) -> Self {
        Self {
            line,
            other: Some(other),
            what: format!("{what} in line {other}"),
        }
    }

    /// The sentence with its place in front.
    pub fn in_file(&self, file: &str) -> String {
        match self.line {
            0 => format!("{file}: {}", self.what),
            line => format!("{file}, line {line}: {}", self.what),
        }
    }
}

/// A fleet file that cannot be used, with all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFleet {
    pub file: String,
    pub problems: Vec<Problem>,
}

impl std::error::Error for BadFleet {}

impl fmt::Display for BadFleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", problem.in_file(&self.file))?;
        }
        match self.problems.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more", self.file),
        }
    }
}

/// The known word that was probably meant: at most a third of it typed wrongly.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // No name is longer: comparing takes as long as both lengths multiplied.
    if word.len() > 100 {
        return None;
    }
    let word = word.to_lowercase().replace('_', "-");
    known
        .map(|candidate| {
            let small = candidate.to_lowercase();
            (strsim::damerau_levenshtein(&word, &small), candidate)
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

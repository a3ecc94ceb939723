//! `lab3-[01-40]`: one text that stands for many, and patterns that stand for the names they fit.

use std::fmt;

/// No range makes more machines: a lab of this size has a typing error in its file.
pub const MOST: usize = 65_536;

/// A text with one range in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range<'a> {
    before: &'a str,
    after: &'a str,
    first: u64,
    last: u64,
    /// Digits to fill up with zeros: as wide as the range is written.
    width: usize,
}

/// What is wrong with a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    #[error("{0:?} has more than one range: one a name")]
    Several(String),
    #[error("{0:?} counts down: write the smaller number first")]
    Down(String),
    #[error("{0:?}: both numbers of a range are as wide: [01-40], or [1-40] without zeros")]
    Width(String),
    #[error("{0:?} makes more than {MOST} machines")]
    Large(String),
}

impl<'a> Range<'a> {
    /// The range in `text`, or `None` where there is none: `[`, decimal digits, `-`, decimal digits, `]`.
    ///
    /// # Errors
    /// A range that cannot be counted, or more than one.
    pub fn find(text: &'a str) -> Result<Option<Self>, BadRange> {
        let mut found = None;
        for (open, _) in text.match_indices('[') {
            let Some(close) = text[open..].find(']').map(|at| open + at) else {
                break;
            };
            let Some((first, last)) = text[open + 1..close].split_once('-') else {
                continue;
            };
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if !digits(first) || !digits(last) {
                continue;
            }
            if found.is_some() {
                return Err(BadRange::Several(text.to_owned()));
            }
            found = Some(Self::new(text, (open, close), first, last)?);
        }
        Ok(found)
    }

    fn new(
        text: &'a str,
        (open, close): (usize, usize),
        first: &str,
        last: &str,
    ) -> Result<Self, BadRange> {
        let padded = |text: &str| text.len() > 1 && text.starts_with('0');
        if (padded(first) || padded(last)) && first.len() != last.len() {
            return Err(BadRange::Width(text.to_owned()));
        }
        let large = || BadRange::Large(text.to_owned());
        let from: u64 = first.parse().map_err(|_| large())?;
        let to: u64 = last.parse().map_err(|_| large())?;
        if to < from {
            return Err(BadRange::Down(text.to_owned()));
        }
        if to - from >= MOST as u64 {
            return Err(large());
        }
        Ok(Self {
            before: &text[..open],
            after: &text[close + 1..],
            first: from,
            last: to,
            width: if padded(first) { first.len() } else { 0 },
        })
    }

    /// How many texts it stands for.
    pub fn count(&self) -> usize {
        // At most MOST.
        usize::try_from(self.last - self.first).map_or(MOST, |span| span + 1)
    }

    /// The text at `index` from 0.
    pub fn at(&self, index: usize) -> String {
        let number = self.first + index as u64;
        let Self {
            before,
            after,
            width,
            ..
        } = self;
        format!("{before}{number:0width$}{after}")
    }

    /// All of them, in order.
    pub fn all(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.count()).map(|index| self.at(index))
    }
}

/// What a name is compared with: `*` is any letters, `?` is one, `[01-40]` is a range. Capital and small letters are alike, as in host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// Each in small letters: one, or one for each number of a range.
    alternatives: Vec<Vec<char>>,
}

impl Pattern {
    /// # Errors
    /// A range in it that cannot be counted.
    pub fn new(text: &str) -> Result<Self, BadRange> {
        let letters = |text: &str| text.to_lowercase().chars().collect();
        Ok(Self {
            text: text.to_owned(),
            alternatives: match Range::find(text)? {
                Some(range) => range.all().map(|text| letters(&text)).collect(),
                None => vec![letters(text)],
            },
        })
    }

    /// Whether `text` stands for more than itself.
    pub fn is_one(text: &str) -> bool {
        text.contains(['*', '?']) || matches!(Range::find(text), Ok(Some(_)) | Err(_))
    }

    pub fn fits(&self, name: &str) -> bool {
        let name: Vec<char> = name.to_lowercase().chars().collect();
        self.alternatives.iter().any(|pattern| glob(pattern, &name))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Compares letter by letter. After a mismatch the last `*` takes one letter more: no pattern takes longer than its length times the name's.
fn glob(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(letter) if *letter == '?' || *letter == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((behind, taken)) = star else {
                    return false;
                };
                star = Some((behind, taken + 1));
                p = behind;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> Vec<String> {
        Range::find(text).unwrap().unwrap().all().collect()
    }

    #[test]
    fn a_range_counts_in_decimal_as_wide_as_it_is_written() {
        assert_eq!(all("lab-[08-11]"), ["lab-08", "lab-09", "lab-10", "lab-11"]);
        assert_eq!(all("[9-10].x"), ["9.x", "10.x"]);
        assert_eq!(all("192.168.1.[101-101]"), ["192.168.1.101"]);
        assert_eq!(all("52:54:00:00:01:[09-10]")[1], "52:54:00:00:01:10");
        assert_eq!(all("a[000-001]b"), ["a000b", "a001b"]);
    }

    #[test]
    fn what_is_no_range_is_left_alone() {
        for text in ["", "lab", "[", "[]", "[a-b]", "[1]", "[1-", "[-1]", "]1-2["] {
            assert_eq!(Range::find(text), Ok(None), "{text}");
        }
        assert!(matches!(
            Range::find("a[1-2][3-4]"),
            Err(BadRange::Several(_))
        ));
        assert!(matches!(Range::find("[40-01]"), Err(BadRange::Down(_))));
        assert!(matches!(Range::find("[01-140]"), Err(BadRange::Width(_))));
        assert!(matches!(Range::find("[1-70000]"), Err(BadRange::Large(_))));
        let long = format!("[1-{}]", "9".repeat(40));
        assert!(matches!(Range::find(&long), Err(BadRange::Large(_))));
    }

    #[test]
    fn patterns_fit_names() {
        let fits = |pattern: &str, name: &str| Pattern::new(pattern).unwrap().fits(name);
        assert!(fits("lab3-*", "LAB3-01"));
        assert!(fits("*-01", "lab3-01") && fits("*", "") && fits("a*b*c", "aXbbXc"));
        assert!(fits("lab3-[01-40]", "lab3-07") && !fits("lab3-[01-40]", "lab3-41"));
        assert!(fits("lab?-[01-02]", "lab9-02") && !fits("lab?", "lab"));
        assert!(!fits("lab3-*", "lab4-01") && !fits("", "a"));
        assert!(Pattern::is_one("a*") && Pattern::is_one("a[1-2]") && !Pattern::is_one("a-1"));
    }

    proptest! {
        #[test]
        fn ranges_expand_right(first in 0u64..5000, count in 1u64..300, zeros in any::<bool>()) {
            let last = first + count - 1;
            let width = if zeros { 6 } else { 0 };
            let text = format!("n[{first:0width$}-{last:0width$}]m");
            let made = all(&text);
            let expected: Vec<String> = (first..=last).map(|n| format!("n{n:0width$}m")).collect();
            prop_assert_eq!(made, expected);
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[\\[\\]0-9a*?é-]{0,20}", name in "[0-9aé-]{0,10}") {
            if let Ok(pattern) = Pattern::new(&text) {
                let _ = pattern.fits(&name);
            }
        }
    }
}

//! Patterns of paths, as shells and rsync users write them. A matcher of its own: the usual one brings a whole engine of regular
//! expressions along, and every machine loads what matches here at every boot.
//!
//! `*` and `?` match within a name, `**` any number of folders, `[a-z]` one of several, `{a,b}` one or the other, and a
//! backslash takes a sign's meaning away. Names are bytes: they need not be text.

use anyhow::bail;

/// More than this comes of no pattern that a person writes.
const MOST: usize = 1000;

/// One step within a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Byte(u8),
    /// `?`
    Any,
    /// `*`
    Run,
    /// Ranges, and whether none of them is meant.
    Class(Vec<(u8, u8)>, bool),
}

/// What stands between two slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Name(Vec<Step>),
    /// `**`: any number of folders.
    Folders,
}

/// A pattern, in each of its spellings.
#[derive(Debug, Clone)]
pub struct Glob(Vec<Vec<Part>>);

impl Glob {
    /// # Errors
    /// What is wrong with the pattern.
    pub fn new(pattern: &str) -> anyhow::Result<Self> {
        let mut spellings = vec![Vec::new()];
        alternatives(pattern.as_bytes(), 0, &mut spellings, false)?;
        let parts = spellings.iter().map(|spelling| parts(spelling));
        Ok(Self(parts.collect::<Result<_, _>>()?))
    }

    /// Whether it means the path, which begins with no slash.
    pub fn matches(&self, path: &[u8]) -> bool {
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        self.0.iter().any(|parts| fits(parts, &names))
    }
}

/// Writes out `{a,b}`: each of `spellings` goes on with each of the alternatives. Returns where it stopped: at the end, or
/// within braces at the comma or brace that ends an alternative.
fn alternatives(
    pattern: &[u8],
    from: usize,
    spellings: &mut Vec<Vec<u8>>,
    within: bool,
) -> anyhow::Result<usize> {
    let mut at = from;
    let mut in_class = false;
    while let Some(&byte) = pattern.get(at) {
        match byte {
            b'\\' => {
                let Some(&next) = pattern.get(at + 1) else {
                    bail!("it ends in a backslash");
                };
                push(spellings, &[byte, next]);
                at += 2;
                continue;
            }
            b'[' => in_class = true,
            b']' => in_class = false,
            b'{' if !in_class => {
                at = braces(pattern, at + 1, spellings)?;
                continue;
            }
            b',' | b'}' if within && !in_class => return Ok(at),
            b'}' if !in_class => bail!("it has a }} without its {{"),
            _ => {}
        }
        push(spellings, &[byte]);
        at += 1;
    }
    if within {
        bail!("it has a {{ without its }}");
    }
    Ok(at)
}

fn push(spellings: &mut [Vec<u8>], bytes: &[u8]) {
    for spelling in spellings {
        spelling.extend_from_slice(bytes);
    }
}

/// The alternatives from `from` on, behind the opening brace. Returns what is behind the closing one.
fn braces(pattern: &[u8], from: usize, spellings: &mut Vec<Vec<u8>>) -> anyhow::Result<usize> {
    let before = std::mem::take(spellings);
    let mut at = from;
    loop {
        let mut one = before.clone();
        at = alternatives(pattern, at, &mut one, true)?;
        spellings.append(&mut one);
        if spellings.len() > MOST {
            bail!("it means more than {MOST} patterns");
        }
        at += 1;
        if pattern.get(at - 1) == Some(&b'}') {
            return Ok(at);
        }
    }
}

fn parts(spelling: &[u8]) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for name in split(spelling) {
        parts.push(if name == b"**" {
            Part::Folders
        } else {
            Part::Name(steps(name)?)
        });
    }
    Ok(parts)
}

/// At slashes, which mean folders wherever they stand.
fn split(spelling: &[u8]) -> impl Iterator<Item = &[u8]> {
    spelling.split(|byte| *byte == b'/')
}

fn steps(name: &[u8]) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        steps.push(match byte {
            b'*' if steps.last() == Some(&Step::Run) => continue,
            b'*' => Step::Run,
            b'?' => Step::Any,
            b'[' => {
                let (class, after) = class(rest)?;
                rest = after;
                class
            }
            b'\\' => {
                let Some((&taken, after)) = rest.split_first() else {
                    bail!("it has a backslash before a slash");
                };
                rest = after;
                Step::Byte(taken)
            }
            byte => Step::Byte(byte),
        });
    }
    Ok(steps)
}

/// What is behind `[`, and what is behind its `]`. The first sign is itself even if it is a `]`.
fn class(text: &[u8]) -> anyhow::Result<(Step, &[u8])> {
    let (none, mut rest) = match text {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut ranges = Vec::new();
    let mut first = true;
    loop {
        let (from, after) = match rest {
            [b']', after @ ..] if !first => return Ok((Step::Class(ranges, none), after)),
            [from, after @ ..] => (*from, after),
            [] => bail!("it has a [ without its ]"),
        };
        first = false;
        rest = after;
        let mut to = from;
        if let [b'-', end, after @ ..] = rest
            && *end != b']'
        {
            to = *end;
            rest = after;
        }
        if to < from {
            bail!("it has a range that ends before it begins");
        }
        ranges.push((from, to));
    }
}

fn fits(parts: &[Part], names: &[&[u8]]) -> bool {
    match parts.split_first() {
        None => names.is_empty(),
        // At the end it means what is in a folder, and not the folder.
        Some((Part::Folders, [])) => !names.is_empty(),
        Some((Part::Folders, rest)) => (0..=names.len()).any(|skip| fits(rest, &names[skip..])),
        Some((Part::Name(steps), rest)) => names
            .split_first()
            .is_some_and(|(name, names)| is_name(steps, name) && fits(rest, names)),
    }
}

/// Goes back to the last `*` alone: no name takes longer than its length times the pattern's.
fn is_name(steps: &[Step], name: &[u8]) -> bool {
    let (mut step, mut at) = (0, 0);
    let mut back = None;
    loop {
        let fits = match steps.get(step) {
            Some(Step::Run) => {
                back = Some((step + 1, at));
                step += 1;
                continue;
            }
            Some(one) => name.get(at).is_some_and(|byte| is_byte(one, *byte)),
            None if at == name.len() => return true,
            None => false,
        };
        if fits {
            step += 1;
            at += 1;
            continue;
        }
        match back {
            Some((after, from)) if from < name.len() => {
                back = Some((after, from + 1));
                (step, at) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

fn is_byte(step: &Step, byte: u8) -> bool {
    match step {
        Step::Byte(wanted) => *wanted == byte,
        Step::Any => true,
        Step::Class(ranges, none) => {
            let mut ranges = ranges.iter();
            ranges.any(|(from, to)| (*from..=*to).contains(&byte)) != *none
        }
        Step::Run => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_mean_what_people_expect() {
        for (pattern, path, means) in [
            ("tmp/*", "tmp/a", true),
            ("tmp/*", "tmp/a/b", false),
            ("tmp/*", "tmp", false),
            ("**/*.pyc", "a.pyc", true),
            ("**/*.pyc", "usr/lib/a.pyc", true),
            ("srv/**", "srv/a/b", true),
            ("srv/**", "srv", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("**", "a/b", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("{a,b*}/c", "bb/c", true),
            ("{a,b{c,d}}", "bd", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*a*b*", "xaxxb", true),
        ] {
            assert_eq!(
                Glob::new(pattern).unwrap().matches(path.as_bytes()),
                means,
                "{pattern} {path}"
            );
        }
        for wrong in ["a[", "a{b", "a}", "a\\", "[z-a]"] {
            assert!(Glob::new(wrong).is_err(), "{wrong}");
        }
        assert!(Glob::new(&"{a,b}".repeat(20)).is_err());
    }

    fn theirs(pattern: &str) -> Option<globset::GlobMatcher> {
        let mut builder = globset::GlobBuilder::new(pattern);
        let glob = builder
            .literal_separator(true)
            .backslash_escape(true)
            .build();
        glob.ok().map(|glob| glob.compile_matcher())
    }

    proptest! {
        #[test]
        fn what_ripgreps_matcher_means_is_meant_here_too(
            pattern in "([ab?*.]{1,3}|\\*\\*|\\[ab\\]|\\{a,b\\})(/([ab?*.]{1,3}|\\*\\*)){0,3}",
            paths in prop::collection::vec("[ab.]{1,4}(/[ab.]{1,4}){0,4}", 20),
        ) {
            // Stars that are no component are nobody's business.
            let odd = |part: &str| part.contains("**") && part != "**";
            prop_assume!(!pattern.split('/').any(odd));
            let (Ok(ours), Some(theirs)) = (Glob::new(&pattern), theirs(&pattern)) else {
                return Ok(());
            };
            for path in paths {
                prop_assert_eq!(ours.matches(path.as_bytes()), theirs.is_match(&path), "{} {}", pattern, path);
            }
        }

        #[test]
        fn any_pattern_ends_soon(pattern in "\\PC{0,40}", path in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            if let Ok(glob) = Glob::new(&pattern) {
                let _ = glob.matches(&path);
            }
        }
    }
}

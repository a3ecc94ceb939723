//! Values that are written as one of a few words: each word stands here once, for reading and for writing.

use crate::job::{After, Distribute, Method};
use pitstop_imaging::image::{Delta, Level, ReadErrors};

/// A value that is one of a few words in a host file and on a command line.
pub trait Word: Copy + 'static {
    /// Every value, in the order in which help and errors list them.
    const ALL: &'static [Self];

    /// Other spellings that are understood and not shown.
    const ALIASES: &'static [(&'static str, Self)] = &[];

    fn word(self) -> &'static str;

    /// # Errors
    /// Says which words there are.
    fn read(text: &str) -> Result<Self, String> {
        let all = Self::ALL.iter().map(|value| (value.word(), *value));
        all.chain(Self::ALIASES.iter().copied())
            .find_map(|(word, value)| (word == text).then_some(value))
            .ok_or_else(|| format!("{text:?}: there are {}", listed(&words::<Self>())))
    }
}

/// A word of a kind, and its other spellings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub word: &'static str,
    pub aliases: Vec<&'static str>,
}

/// What there is to choose from.
pub fn choices<W: Word>() -> Vec<Choice> {
    let choice = |word: &'static str| Choice {
        word,
        aliases: W::ALIASES
            .iter()
            .filter(|(_, value)| value.word() == word)
            .map(|(alias, _)| *alias)
            .collect(),
    };
    words::<W>().into_iter().map(choice).collect()
}

/// The words of a kind.
pub fn words<W: Word>() -> Vec<&'static str> {
    W::ALL.iter().copied().map(W::word).collect()
}

/// `a, b and c`
fn listed(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        words => words.concat(),
    }
}

impl Word for Level {
    const ALL: &'static [Self] = &[Level::Fast, Level::Small];

    /// `auto` leaves the choice to Pitstop: hardly a line or a disk is faster than `fast`.
    const ALIASES: &'static [(&'static str, Self)] = &[("auto", Level::Fast)];

    fn word(self) -> &'static str {
        match self {
            Level::Fast => "fast",
            Level::Small => "small",
        }
    }
}

impl Word for ReadErrors {
    const ALL: &'static [Self] = &[ReadErrors::Fail, ReadErrors::Record];

    fn word(self) -> &'static str {
        match self {
            ReadErrors::Fail => "fail",
            ReadErrors::Record => "record",
        }
    }
}

/// In a host file `true` and `false` are TOML's own, without quotation marks.
impl Word for Delta {
    const ALL: &'static [Self] = &[Delta::On, Delta::Off, Delta::Auto];

    const ALIASES: &'static [(&'static str, Self)] = &[("on", Delta::On), ("off", Delta::Off)];

    fn word(self) -> &'static str {
        match self {
            Delta::On => "true",
            Delta::Off => "false",
            Delta::Auto => "auto",
        }
    }
}

impl Word for Distribute {
    const ALL: &'static [Self] = &[Distribute::Auto, Distribute::Swarm, Distribute::Off];

    fn word(self) -> &'static str {
        match self {
            Distribute::Auto => "auto",
            Distribute::Swarm => "swarm",
            Distribute::Off => "off",
        }
    }
}

impl Word for Method {
    const ALL: &'static [Self] = &[Method::Discard, Method::Zero, Method::Secure];

    fn word(self) -> &'static str {
        match self {
            Method::Discard => "discard",
            Method::Zero => "zero",
            Method::Secure => "secure",
        }
    }
}

impl Word for After {
    const ALL: &'static [Self] = &[After::Reboot, After::Poweroff, After::Rescue];

    fn word(self) -> &'static str {
        match self {
            After::Reboot => "reboot",
            After::Poweroff => "poweroff",
            After::Rescue => "rescue",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_back<W: Word + PartialEq + std::fmt::Debug>() {
        for value in W::ALL {
            assert_eq!(W::read(value.word()), Ok(*value));
        }
        for choice in choices::<W>() {
            let value = W::read(choice.word).unwrap();
            for alias in choice.aliases {
                assert_eq!(W::read(alias), Ok(value));
            }
        }
    }

    #[test]
    fn every_word_reads_back() {
        reads_back::<Level>();
        reads_back::<ReadErrors>();
        reads_back::<Delta>();
        reads_back::<Method>();
        reads_back::<After>();
        assert_eq!(
            After::read("Reboot").unwrap_err(),
            "\"Reboot\": there are reboot, poweroff and rescue"
        );
    }
}

//! Values that are written as one of a few words: each word stands here once, for reading and for writing.

use crate::job::{After, Distribute, Method};
use pitstop_imaging::image::{Delta, Level, ReadErrors};
use pitstop_imaging::wishes::{BootWish, Changes, Check, Identity, Initrd, Strangers, Writable};

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
    const ALL: &'static [Self] = &[Level::Auto, Level::Fast, Level::Small];

    fn word(self) -> &'static str {
        match self {
            Level::Auto => "auto",
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

impl Word for Identity {
    const ALL: &'static [Self] = &[Identity::New, Identity::Keep];

    fn word(self) -> &'static str {
        match self {
            Identity::New => "new",
            Identity::Keep => "keep",
        }
    }
}

impl Word for BootWish {
    const ALL: &'static [Self] = &[
        BootWish::Auto,
        BootWish::Native,
        BootWish::Chroot,
        BootWish::None,
    ];

    fn word(self) -> &'static str {
        match self {
            BootWish::Auto => "auto",
            BootWish::Native => "native",
            BootWish::Chroot => "chroot",
            BootWish::None => "none",
        }
    }
}

impl Word for Initrd {
    const ALL: &'static [Self] = &[Initrd::Auto, Initrd::Keep, Initrd::Rebuild];

    fn word(self) -> &'static str {
        match self {
            Initrd::Auto => "auto",
            Initrd::Keep => "keep",
            Initrd::Rebuild => "rebuild",
        }
    }
}

impl Word for Changes {
    const ALL: &'static [Self] = &[Changes::Keep, Changes::Replace, Changes::Fail];

    fn word(self) -> &'static str {
        match self {
            Changes::Keep => "keep",
            Changes::Replace => "replace",
            Changes::Fail => "fail",
        }
    }
}

impl Word for Strangers {
    const ALL: &'static [Self] = &[Strangers::Keep, Strangers::Delete, Strangers::Fail];

    fn word(self) -> &'static str {
        match self {
            Strangers::Keep => "keep",
            Strangers::Delete => "delete",
            Strangers::Fail => "fail",
        }
    }
}

impl Word for Check {
    const ALL: &'static [Self] = &[Check::Quick, Check::Full];

    fn word(self) -> &'static str {
        match self {
            Check::Quick => "quick",
            Check::Full => "full",
        }
    }
}

impl Word for Writable {
    const ALL: &'static [Self] = &[Writable::Memory, Writable::Scratch];

    fn word(self) -> &'static str {
        match self {
            Writable::Memory => "memory",
            Writable::Scratch => "scratch",
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
        reads_back::<Identity>();
        reads_back::<BootWish>();
        reads_back::<Initrd>();
        reads_back::<Changes>();
        reads_back::<Strangers>();
        reads_back::<Check>();
        reads_back::<Writable>();
        assert_eq!(
            After::read("Reboot").unwrap_err(),
            "\"Reboot\": there are reboot, poweroff and rescue"
        );
    }
}

//! What is left to do once a swap is decided, written down so that it can be finished after a power cut.

use super::super::record::write_file;
use anyhow::{Context, bail};
use pitstop_trees::btrfs::Shelf;
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;

const NAME: &str = "swap.toml";
const PART: &str = "swap.toml.part";
/// Of this build.
const VERSION: u32 = 1;
/// Far more than it has.
const MOST: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct State {
    pub version: u32,
    /// The subvolume that is the root, from the outermost one.
    pub root: String,
    /// As what the one that takes its place lies among our snapshots.
    pub beside: String,
    /// The numbers of the one that was the root, and of the one that will be.
    pub old: u64,
    pub new: u64,
    /// The transaction that changed the root last when the snapshot was made.
    pub changed: u64,
    /// Whether the root is the default subvolume as well.
    pub default: bool,
    /// Folders of GRUB whose core goes to the disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grub: Vec<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            root: String::new(),
            beside: String::new(),
            old: 0,
            new: 0,
            changed: 0,
            default: false,
            grub: Vec::new(),
        }
    }
}

impl State {
    /// `None` where no swap is under way.
    ///
    /// # Errors
    /// When it cannot be read, or is of a later version.
    pub fn read(store: &Shelf) -> anyhow::Result<Option<Self>> {
        let reading = || format!("reading {}", store.shown(NAME));
        let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(store.folder(), NAME, how, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error).with_context(reading),
        };
        let mut text = String::new();
        File::from(opened)
            .take(MOST)
            .read_to_string(&mut text)
            .with_context(reading)?;
        Self::parse(&text).map(Some).with_context(reading)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let state: Self = toml::from_str(text)?;
        if state.version != VERSION {
            bail!(
                "it is of version {}, and this Pitstop knows {VERSION}",
                state.version
            );
        }
        Ok(state)
    }

    /// Writes it, to the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, store: &Shelf) -> anyhow::Result<()> {
        let writing = || format!("writing {}", store.shown(NAME));
        let text = toml::to_string(self).with_context(writing)?;
        write_file(store.folder(), PART, text.as_bytes()).with_context(writing)?;
        renameat(store.folder(), PART, store.folder(), NAME).with_context(writing)?;
        rustix::fs::fsync(store.folder()).with_context(writing)
    }

    /// All is done, or dropped.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(store: &Shelf) -> anyhow::Result<()> {
        let removing = || format!("removing {}", store.shown(NAME));
        for name in [NAME, PART] {
            match unlinkat(store.folder(), name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error).with_context(removing),
            }
        }
        rustix::fs::fsync(store.folder()).with_context(removing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_state_reads_back_and_one_of_later_is_told() {
        let state = State {
            root: "@/.snapshots/1/snapshot".into(),
            beside: "new".into(),
            old: 256,
            new: u64::from(u32::MAX),
            changed: 7,
            default: true,
            grub: vec!["boot/grub/i386-pc".into()],
            ..State::default()
        };
        let text = toml::to_string(&state).unwrap();
        assert_eq!(State::parse(&text).unwrap(), state);
        let later = text.replace("version = 1", "version = 2");
        let error = State::parse(&later).unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_makes_no_panic(text in "[a-z0-9=\"\\[\\]. \n-]{0,200}") {
            let _ = State::parse(&text);
        }
    }
}

//! What is left to do once an update is decided: written down whole before the first of it is done, so that it can be finished
//! after a power cut. Each step can be done again.
//!
//! Lines of text, fields with a space between them, bytes that are no plain letters as `%20`; at the end the BLAKE3 of
//! all that stands before.

use pitstop_trees::entry::{Attributes, Kind, Time, Xattrs};
use pitstop_trees::flags::Flags;
use pitstop_trees::path::TreePath;
use std::fmt::{self, Write as _};
use std::sync::Arc;

const FIRST: &str = "pitstop-update 1";
const LAST: &str = "end ";

/// How a file looked when it was decided that it goes, or is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    pub inode: u64,
    pub size: u64,
    pub time: Time,
}

impl Guard {
    fn fields(&self) -> [String; 3] {
        let Self { inode, size, time } = self;
        [inode.to_string(), size.to_string(), time.to_string()]
    }

    fn read(fields: &[&str]) -> Option<Self> {
        let [inode, size, time] = fields else {
            return None;
        };
        Some(Self {
            inode: inode.parse().ok()?,
            size: size.parse().ok()?,
            time: Time::parse(time.as_bytes())?,
        })
    }
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Flags that hinder changes are taken away.
    Soften(TreePath),
    /// What is no folder is removed, if it is still the same.
    Remove(TreePath, Guard),
    /// A folder is removed, if it is empty.
    RemoveFolder(TreePath),
    /// What is staged as `name` in that volume gets its path, if what is there is still the same, or still nothing.
    Place {
        volume: usize,
        name: String,
        path: TreePath,
        before: Option<Guard>,
    },
    /// The same, whatever is there.
    Replace {
        volume: usize,
        name: String,
        path: TreePath,
    },
    Set(TreePath, Kind, Attributes),
    Flags(TreePath, Flags),
    Time(TreePath, Time),
    /// The core of GRUB in that folder goes to the disk.
    Grub(TreePath),
}

impl fmt::Display for Step {
    /// The path that it is about.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().fmt(f)
    }
}

impl Step {
    pub fn path(&self) -> &TreePath {
        match self {
            Self::Soften(path)
            | Self::Remove(path, _)
            | Self::RemoveFolder(path)
            | Self::Place { path, .. }
            | Self::Replace { path, .. }
            | Self::Set(path, ..)
            | Self::Flags(path, _)
            | Self::Time(path, _)
            | Self::Grub(path) => path,
        }
    }

    /// Where what it puts in its place was staged.
    pub fn volume(&self) -> Option<usize> {
        match self {
            Self::Place { volume, .. } | Self::Replace { volume, .. } => Some(*volume),
            _ => None,
        }
    }

    pub fn volume_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::Place { volume, .. } | Self::Replace { volume, .. } => Some(volume),
            _ => None,
        }
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Journal {
    /// The topmost folder of each volume: what is staged for it is in a folder there.
    pub volumes: Vec<TreePath>,
    pub steps: Vec<Step>,
}

/// Why a file is no journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    #[error("it is not whole, or was changed")]
    Damaged,
    #[error("line {0} is none that this pitstop knows")]
    Line(usize),
}

impl Journal {
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST}\n");
        for volume in &self.volumes {
            line(&mut text, "volume", &[path(volume)]);
        }
        for step in &self.steps {
            write_step(&mut text, step);
        }
        let hash = blake3::hash(text.as_bytes()).to_hex();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{LAST}{hash}");
        text
    }

    /// # Errors
    /// When the text is not one whole journal of this version.
    pub fn parse(text: &str) -> Result<Self, JournalError> {
        let body = text.strip_suffix('\n').ok_or(JournalError::Damaged)?;
        let at = body.rfind('\n').ok_or(JournalError::Damaged)? + 1;
        let hash = body[at..].strip_prefix(LAST);
        let is = blake3::hash(&text.as_bytes()[..at]).to_hex();
        if hash != Some(is.as_str()) {
            return Err(JournalError::Damaged);
        }
        let mut journal = Self::default();
        for (number, line) in text[..at].lines().enumerate() {
            if number == 0 {
                if line != FIRST {
                    return Err(JournalError::Line(1));
                }
                continue;
            }
            let fields: Vec<&str> = line.split(' ').collect();
            let known = match fields[..] {
                ["volume", volume] => read_path(volume).map(|it| journal.volumes.push(it)),
                _ => read_step(&fields).map(|step| journal.steps.push(step)),
            };
            known.ok_or(JournalError::Line(number + 1))?;
        }
        let count = journal.volumes.len();
        let known = |step: &Step| step.volume().is_none_or(|volume| volume < count);
        if journal.steps.iter().all(known) {
            Ok(journal)
        } else {
            Err(JournalError::Damaged)
        }
    }
}

fn write_step(text: &mut String, step: &Step) {
    match step {
        Step::Soften(at) => line(text, "soften", &[path(at)]),
        Step::Remove(at, guard) => {
            let mut fields = vec![path(at)];
            fields.extend(guard.fields());
            line(text, "remove", &fields);
        }
        Step::RemoveFolder(at) => line(text, "remove-folder", &[path(at)]),
        Step::Place {
            volume,
            name,
            path: at,
            before,
        } => {
            let mut fields = vec![volume.to_string(), name.clone(), path(at)];
            fields.extend(before.iter().flat_map(Guard::fields));
            line(text, "place", &fields);
        }
        Step::Replace {
            volume,
            name,
            path: at,
        } => line(
            text,
            "replace",
            &[volume.to_string(), name.clone(), path(at)],
        ),
        Step::Set(at, kind, attributes) => {
            let mut fields = vec![
                char::from(kind.letter()).to_string(),
                path(at),
                format!("{:o}", attributes.mode),
                attributes.uid.to_string(),
                attributes.gid.to_string(),
                attributes.mtime.to_string(),
            ];
            let pairs = attributes.xattrs.pairs().iter();
            fields.extend(pairs.map(|(key, value)| format!("{}={}", escape(key), escape(value))));
            line(text, "set", &fields);
        }
        Step::Flags(at, flags) => line(text, "flags", &[path(at), flags.bits().to_string()]),
        Step::Time(at, time) => line(text, "time", &[path(at), time.to_string()]),
        Step::Grub(at) => line(text, "grub", &[path(at)]),
    }
}

fn line(text: &mut String, word: &str, fields: &[String]) {
    text.push_str(word);
    for field in fields {
        text.push(' ');
        text.push_str(field);
    }
    text.push('\n');
}

fn read_step(fields: &[&str]) -> Option<Step> {
    Some(match fields {
        ["soften", at] => Step::Soften(read_path(at)?),
        ["remove", at, guard @ ..] => Step::Remove(read_path(at)?, Guard::read(guard)?),
        ["remove-folder", at] => Step::RemoveFolder(read_path(at)?),
        ["place", volume, name, at, guard @ ..] => Step::Place {
            volume: volume.parse().ok()?,
            name: is_staged(name).then(|| (*name).to_owned())?,
            path: read_path(at)?,
            before: match guard {
                [] => None,
                guard => Some(Guard::read(guard)?),
            },
        },
        ["replace", volume, name, at] => Step::Replace {
            volume: volume.parse().ok()?,
            name: is_staged(name).then(|| (*name).to_owned())?,
            path: read_path(at)?,
        },
        ["set", kind, at, mode, uid, gid, time, xattrs @ ..] => {
            let pairs = xattrs.iter().map(|pair| {
                let (key, value) = pair.split_once('=')?;
                Some((unescape(key)?, unescape(value)?))
            });
            let attributes = Attributes {
                mode: u32::from_str_radix(mode, 8)
                    .ok()
                    .filter(|it| *it <= 0o7777)?,
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                mtime: Time::parse(time.as_bytes())?,
                xattrs: Arc::new(Xattrs::new(pairs.collect::<Option<_>>()?)),
                flags: Flags::default(),
            };
            Step::Set(read_path(at)?, read_kind(kind)?, attributes)
        }
        ["flags", at, bits] => Step::Flags(read_path(at)?, Flags::from_kernel(bits.parse().ok()?)),
        ["grub", at] => Step::Grub(read_path(at)?),
        ["time", at, time] => Step::Time(read_path(at)?, Time::parse(time.as_bytes())?),
        _ => return None,
    })
}

/// Whether it is a name that something is staged by, and no way to anywhere else.
pub fn is_staged(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// A kind of which only that it is one matters here.
pub fn bare_kind(kind: &Kind) -> Kind {
    match kind {
        Kind::Folder => Kind::Folder,
        Kind::File { .. } | Kind::HardLink(_) => Kind::File {
            size: 0,
            extents: None,
            hash: [0; 32],
        },
        Kind::Symlink(_) => Kind::Symlink(Vec::new()),
        Kind::Character { .. } | Kind::Block { .. } | Kind::Fifo => Kind::Fifo,
    }
}

fn read_kind(letter: &str) -> Option<Kind> {
    Some(match letter {
        "d" => Kind::Folder,
        "f" => Kind::File {
            size: 0,
            extents: None,
            hash: [0; 32],
        },
        "l" => Kind::Symlink(Vec::new()),
        "p" => Kind::Fifo,
        _ => return None,
    })
}

fn path(path: &TreePath) -> String {
    format!("/{}", escape(path.as_bytes()))
}

fn read_path(text: &str) -> Option<TreePath> {
    TreePath::parse(&unescape(text.strip_prefix('/')?)?).ok()
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_graphic() && !matches!(byte, b'%' | b'=') {
            text.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (code, after) = after.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(code[0])? * 16 + digit(code[1])?).ok()?);
        rest = after;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn journal() -> Journal {
        let path = |text: &[u8]| TreePath::parse(text).unwrap();
        let time = Time {
            seconds: -5,
            nanos: 250_000_000,
        };
        let attributes = Attributes {
            mode: 0o4755,
            uid: 3_000_000_000,
            gid: 7,
            mtime: time,
            xattrs: Arc::new(Xattrs::new(vec![
                (b"user.a=b".to_vec(), b"\0\n %".to_vec()),
                (b"user.empty".to_vec(), Vec::new()),
            ])),
            flags: Flags::default(),
        };
        Journal {
            volumes: vec![TreePath::root(), path(b"boot")],
            steps: vec![
                Step::Soften(path(b"etc/two\nlines %41")),
                Step::Remove(
                    path(b"a/caf\xe9"),
                    Guard {
                        inode: u64::MAX,
                        size: 0,
                        time,
                    },
                ),
                Step::RemoveFolder(path(b"a b")),
                Step::Place {
                    volume: 1,
                    name: "n12".into(),
                    path: path(b"boot/vmlinuz"),
                    before: None,
                },
                Step::Place {
                    volume: 0,
                    name: "n13".into(),
                    path: path(b"etc/issue"),
                    before: Some(Guard {
                        inode: 7,
                        size: 1,
                        time,
                    }),
                },
                Step::Replace {
                    volume: 0,
                    name: "record".into(),
                    path: path(b"var/x"),
                },
                Step::Set(path(b"usr/bin/su"), read_kind("f").unwrap(), attributes),
                Step::Flags(path(b"etc/immutable"), Flags::from_kernel(0x10)),
                Step::Time(TreePath::root(), time),
                Step::Grub(path(b"boot/grub/i386-pc")),
            ],
        }
    }

    #[test]
    fn a_journal_reads_back_and_half_of_one_is_none() {
        let text = journal().to_text();
        assert_eq!(Journal::parse(&text), Ok(journal()));
        for end in 0..text.len() {
            assert_eq!(
                Journal::parse(&text[..end]),
                Err(JournalError::Damaged),
                "{end}"
            );
        }
        let changed = text.replace("n12", "n14");
        assert_eq!(Journal::parse(&changed), Err(JournalError::Damaged));
    }

    #[test]
    fn nothing_in_it_leads_elsewhere() {
        for line in [
            "place 0 ../x /etc/x",
            "place 0 . /etc/x",
            "place 7 n1 /etc/x",
            "place 0 n1 /etc/x 1",
            "place 0 n1 /../x",
            "remove /etc/x 1 2",
            "volume /a/../..",
            "chmod /x",
            "",
        ] {
            let text = format!("{FIRST}\nvolume /\n{line}\n");
            let hash = blake3::hash(text.as_bytes()).to_hex();
            assert!(
                Journal::parse(&format!("{text}{LAST}{hash}\n")).is_err(),
                "{line}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_makes_no_panic(text in "[a-z0-9/%=. \n]{0,200}") {
            let text = format!("{FIRST}\n{text}\n");
            let hash = blake3::hash(text.as_bytes()).to_hex();
            let _ = Journal::parse(&format!("{text}{LAST}{hash}\n"));
            let _ = Journal::parse(&text);
        }
    }
}

//! What the last deploy or update put on a machine, kept there: the index of its image, and what that says of itself.

use super::workshop::{keeping_time, make_folders};
use crate::root::Root;
use anyhow::{Context, bail};
use pitstop_trees::entry::Kind;
use pitstop_trees::index::{Index, decode_alone};
use pitstop_trees::machine::{Access, Machine};
use pitstop_trees::path::TreePath;
use pitstop_trees::{Meta, RECORD, TreeImage};
use rustix::fs::{Mode, OFlags, openat, renameat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

/// The files, in [`RECORD`].
const INDEX: &str = "index";
const META: &str = "image.toml";
/// As what each is staged.
pub(super) const FILES: [(&str, &str); 2] = [("recordindex", INDEX), ("recordmeta", META)];

/// What is on the machine, as far as no one changed it.
pub struct Record {
    pub index: Index,
    pub meta: Meta,
}

impl Record {
    /// Reads the record of the machine at `root`; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is not whole.
    pub fn read(root: &Root) -> anyhow::Result<Option<Self>> {
        Self::of(&Machine::open(root.path(), Access::Read, &[])?)
    }

    pub(super) fn of(machine: &Machine) -> anyhow::Result<Option<Self>> {
        let (Some(index), Some(meta)) = (file(machine, INDEX)?, file(machine, META)?) else {
            return Ok(None);
        };
        let broken = || {
            format!(
                "the record of the last deploy or update in {}/{RECORD} is damaged: remove that folder, and the update takes \
                 the machine as one without a record",
                machine.name().trim_end_matches('/')
            )
        };
        let meta = String::from_utf8(meta).with_context(broken)?;
        let meta = Meta::from_toml(&meta).with_context(broken)?;
        if meta.index != format!("blake3:{}", blake3::hash(&index).to_hex()) {
            bail!(broken());
        }
        let index = decode_alone(&index).with_context(broken)?;
        Ok(Some(Self { index, meta }))
    }

    /// Writes the record of what `image` has put on the machine at `root`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(root: &Root, image: &TreeImage) -> anyhow::Result<()> {
        let machine = Machine::open(root.path(), Access::Write, &[])?;
        let folder = folder(&machine)?;
        let writing = || format!("writing the record in {}/{RECORD}", machine.name());
        for ((_, name), bytes) in FILES.into_iter().zip(contents(image)?) {
            let part = format!("{name}.part");
            write_file(&folder, &part, &bytes).with_context(writing)?;
            renameat(&folder, part.as_str(), &folder, name).with_context(writing)?;
        }
        rustix::fs::fsync(&folder).with_context(writing)
    }
}

/// The folder of the record, made where it is not there.
pub(super) fn folder(machine: &Machine) -> anyhow::Result<OwnedFd> {
    let path = TreePath::parse(RECORD.as_bytes())?;
    make_folders(machine, &path)
}

/// What is in the two files.
pub(super) fn contents(image: &TreeImage) -> anyhow::Result<[Vec<u8>; 2]> {
    let meta = image.meta_beside().to_toml()?.into_bytes();
    Ok([image.index_bytes().to_vec(), meta])
}

/// Writes a new file of root's, to the disk.
pub(in crate::update) fn write_file(folder: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let mut file = keeping_time(folder.as_fd(), || {
        Ok(File::from(openat(folder, name, how, mode)?))
    })?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::LOOP | Errno::NOTDIR)
    )
}

/// Whether a system as in `image` has a place for the record.
///
/// # Errors
/// Names what is in its way.
pub fn check_place(image: &TreeImage) -> anyhow::Result<()> {
    let ends = RECORD.match_indices('/').map(|(at, _)| at);
    for path in ends.chain([RECORD.len()]).map(|end| &RECORD[..end]) {
        let Some(at) = image.index.find(path.as_bytes()) else {
            return Ok(());
        };
        let kind = &image.index.placed()[at].entry.kind;
        if *kind != Kind::Folder {
            bail!(
                "/{path} of {} is a {}, and a deploy keeps its record in /{RECORD}, in folders alone: make it a folder in the tree",
                image.name(),
                kind.word()
            );
        }
    }
    Ok(())
}

pub(super) fn file(machine: &Machine, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let path = TreePath::parse(RECORD.as_bytes())?.join(name.as_bytes())?;
    let reading = || format!("reading {}", machine.shown(&path));
    match machine.open_path(&path, OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(file) => {
            let mut bytes = Vec::new();
            File::from(file)
                .read_to_end(&mut bytes)
                .with_context(reading)?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if is_no_folder(&error) => bail!(
            "{} is behind a symlink or a file, and a deploy or an update keeps its record in folders alone: make /{RECORD} \
             a path of folders",
            machine.shown(&path)
        ),
        Err(error) => Err(error).with_context(reading),
    }
}

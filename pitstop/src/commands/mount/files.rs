//! The files that are seen: each a stretch of the disk.

use super::Event;
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request,
};
use pitstop_imaging::image::ImageReader;
use std::ffi::OsStr;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Nothing here ever changes, so the kernel need not ask again.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// `st_blocks` counts in these, whatever the filesystem.
const STAT_BLOCK: u64 = 512;
/// Inode numbers of files: the root is 1.
const FIRST: u64 = 2;

/// A stretch of the disk under a name.
pub struct File {
    pub name: String,
    pub start: u64,
    pub size: u64,
}

/// Whose the files are.
pub struct Owner {
    uid: u32,
    gid: u32,
    file_mode: u16,
    dir_mode: u16,
}

impl Owner {
    /// This process's user, alone or with everybody else.
    pub fn this(everybody: bool) -> Self {
        let (file_mode, dir_mode) = if everybody {
            (0o444, 0o555)
        } else {
            (0o400, 0o500)
        };
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            file_mode,
            dir_mode,
        }
    }
}

/// The filesystem.
pub struct Files {
    reader: ImageReader,
    stretches: Vec<File>,
    owner: Owner,
    created: SystemTime,
    /// Told when it is unmounted.
    ended: Sender<Event>,
    /// What was said last on standard error: a program that tries again need not hear it again.
    said: Mutex<String>,
}

impl Files {
    pub fn new(reader: ImageReader, files: Vec<File>, owner: Owner, ended: Sender<Event>) -> Self {
        let created = reader.meta().created.parse::<jiff::Timestamp>();
        Self {
            created: created.map_or(SystemTime::UNIX_EPOCH, SystemTime::from),
            reader,
            stretches: files,
            owner,
            ended,
            said: Mutex::default(),
        }
    }

    fn file(&self, inode: INodeNo) -> Option<&File> {
        let at = u64::from(inode).checked_sub(FIRST)?;
        self.stretches.get(usize::try_from(at).ok()?)
    }

    fn inode(at: usize) -> INodeNo {
        INodeNo(FIRST + at as u64)
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size, nlink) = if inode == INodeNo::ROOT {
            (FileType::Directory, self.owner.dir_mode, 0, 2)
        } else {
            let size = self.file(inode)?.size;
            (FileType::RegularFile, self.owner.file_mode, size, 1)
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(STAT_BLOCK),
            atime: self.created,
            mtime: self.created,
            ctime: self.created,
            crtime: self.created,
            kind,
            perm,
            nlink,
            uid: self.owner.uid,
            gid: self.owner.gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// What of the file is in a request's range; less than asked for at its end only.
    fn bytes(&self, file: &File, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let length = u64::from(size).min(file.size.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| Errno::EINVAL)?];
        let at = file.start.saturating_add(offset);
        match self.reader.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(bytes),
            Err(error) => {
                self.say(format!("pitstop: error: {}: {error:#}", file.name));
                Err(Errno::EIO)
            }
        }
    }

    fn say(&self, line: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != line {
            eprintln!("{line}");
            *said = line;
        }
    }
}

impl Filesystem for Files {
    fn destroy(&mut self) {
        // Nobody waits any more where a second signal ended the program.
        let _ = self.ended.send(Event::Ended);
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self
            .stretches
            .iter()
            .position(|file| name == file.name.as_str());
        let found = found.filter(|_| parent == INodeNo::ROOT);
        match found.and_then(|at| self.attributes(Self::inode(at))) {
            Some(attributes) => reply.entry(&FOR_EVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOR_EVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() == OpenAccMode::O_RDONLY {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        } else {
            reply.error(Errno::EROFS);
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let file = self.file(inode).ok_or(Errno::ENOENT);
        match file.and_then(|file| self.bytes(file, offset, size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if inode != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let dots = [".", ".."].map(|name| (INodeNo::ROOT, FileType::Directory, name));
        let files = self.stretches.iter().enumerate();
        let files =
            files.map(|(at, file)| (Self::inode(at), FileType::RegularFile, file.name.as_str()));
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for ((inode, kind, name), next) in dots.into_iter().chain(files).zip(1..).skip(skip) {
            if reply.add(inode, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

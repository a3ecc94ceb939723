//! What is done in the namespaces of a call before its program begins, as a list: made beforehand, because a process that was
//! just forked must not ask for memory.

use anyhow::Context;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One thing. Paths are absolute; those after [`Step::Enter`] are the tree's.
#[derive(Debug)]
pub enum Step {
    Mount {
        source: CString,
        target: CString,
        kind: CString,
        flags: libc::c_ulong,
        data: CString,
    },
    /// One that is there already is no error.
    Folder {
        path: CString,
        mode: libc::mode_t,
    },
    Link {
        target: CString,
        path: CString,
    },
    File {
        path: CString,
        mode: libc::mode_t,
        bytes: Vec<u8>,
    },
    HostName(CString),
    /// The tree becomes `/`.
    Enter(CString),
}

pub fn c_string(text: impl AsRef<OsStr>) -> anyhow::Result<CString> {
    CString::new(text.as_ref().as_bytes()).context("a path with a zero byte")
}

impl Step {
    pub fn mount(
        kind: &str,
        target: &Path,
        flags: libc::c_ulong,
        data: &str,
    ) -> anyhow::Result<Self> {
        Ok(Self::Mount {
            source: c_string(kind)?,
            target: c_string(target)?,
            kind: c_string(kind)?,
            flags,
            data: c_string(data)?,
        })
    }

    pub fn bind(source: &Path, target: &Path, flags: libc::c_ulong) -> anyhow::Result<Self> {
        Ok(Self::Mount {
            source: c_string(source)?,
            target: c_string(target)?,
            kind: CString::default(),
            flags: libc::MS_BIND | flags,
            data: CString::default(),
        })
    }

    pub fn folder(path: &Path, mode: libc::mode_t) -> anyhow::Result<Self> {
        let path = c_string(path)?;
        Ok(Self::Folder { path, mode })
    }

    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Self::Mount {
                source,
                target,
                kind,
                ..
            } => {
                let what = if kind.is_empty() { source } else { kind };
                format!("mounting {} on {}", shown(what), shown(target))
            }
            Self::Folder { path, .. } => format!("making the folder {}", shown(path)),
            Self::Link { path, .. } => format!("making the link {}", shown(path)),
            Self::File { path, .. } => format!("writing {}", shown(path)),
            Self::HostName(name) => format!("setting the host name {}", shown(name)),
            Self::Enter(path) => format!("entering {}", shown(path)),
        }
    }

    /// Does it, by calls to the kernel alone: no memory is asked for, no lock is taken.
    pub fn run(&self) -> io::Result<()> {
        match self {
            Self::Mount {
                source,
                target,
                kind,
                flags,
                data,
            } => mount(source, target, kind, *flags, data),
            Self::Folder { path, mode } => make_folder(path, *mode),
            Self::Link { target, path } => {
                // SAFETY: both are C strings that live on.
                checked(unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) })
            }
            Self::File { path, mode, bytes } => write_file(path, *mode, bytes),
            Self::HostName(name) => {
                let length = name.as_bytes().len();
                // SAFETY: the pointer and the length are those of one string.
                checked(unsafe { libc::sethostname(name.as_ptr(), length) })
            }
            Self::Enter(path) => enter(path),
        }
    }
}

fn shown(text: &CStr) -> std::borrow::Cow<'_, str> {
    text.to_string_lossy()
}

fn checked(code: libc::c_int) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: libc::c_ulong,
    data: &CStr,
) -> io::Result<()> {
    // SAFETY: all are C strings that live on; the kernel only reads them.
    checked(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    })
}

fn make_folder(path: &CStr, mode: libc::mode_t) -> io::Result<()> {
    // SAFETY: a C string that lives on.
    match checked(unsafe { libc::mkdir(path.as_ptr(), mode) }) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => return Ok(()),
        other => other?,
    }
    // The mask of modes has taken from it.
    // SAFETY: as above.
    checked(unsafe { libc::chmod(path.as_ptr(), mode) })
}

fn write_file(path: &CStr, mode: libc::mode_t, bytes: &[u8]) -> io::Result<()> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: a C string that lives on.
    let fd = unsafe { libc::open(path.as_ptr(), flags, 0o600) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: the pointer and the length are those of one slice, and the descriptor is open.
        let written = unsafe { libc::write(fd, rest.as_ptr().cast(), rest.len()) };
        let Ok(written) = usize::try_from(written) else {
            return Err(io::Error::last_os_error());
        };
        rest = rest.get(written..).unwrap_or_default();
    }
    // SAFETY: the descriptor is open.
    checked(unsafe { libc::fchmod(fd, mode) })?;
    // SAFETY: the descriptor is this function's, and nobody uses it afterwards.
    checked(unsafe { libc::close(fd) })
}

/// `pivot_root` is not possible in an initramfs, whose root cannot be moved (Documentation/filesystems/ramfs-rootfs-initramfs.rst): the tree's
/// mount is moved over `/`, as `switch_root` does.
fn enter(path: &CStr) -> io::Result<()> {
    // SAFETY: C strings that live on.
    unsafe {
        checked(libc::chdir(path.as_ptr()))?;
        mount(c".", c"/", c"", libc::MS_MOVE, c"")?;
        checked(libc::chroot(c".".as_ptr()))?;
        checked(libc::chdir(c"/".as_ptr()))
    }
}

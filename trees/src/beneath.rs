//! Opening what is below a folder, and never what is not: no `..`, no symlink on the way (openat2(2)).

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The longest path for one call, with room for what Linux counts besides.
const STEP: usize = 4000;

/// Opens `path`, as a [`TreePath`](crate::path::TreePath) stores it, below `root`.
///
/// # Errors
/// As the kernel has them; `ELOOP` or `ENOTDIR` where a symlink stands in the way.
pub fn open(root: BorrowedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut folder: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > STEP {
        let cut = rest[..STEP].iter().rposition(|byte| *byte == b'/');
        let cut = cut.ok_or(Errno::NAMETOOLONG)?;
        let at = folder.as_ref().map_or(root, AsFd::as_fd);
        folder = Some(step(at, &rest[..cut], OFlags::PATH | OFlags::DIRECTORY)?);
        rest = &rest[cut + 1..];
    }
    let at = folder.as_ref().map_or(root, AsFd::as_fd);
    step(at, if rest.is_empty() { b"." } else { rest }, flags)
}

fn step(at: BorrowedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // A symlink as such can be opened with O_PATH; on the way to it none is followed.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = match openat2(at, path, flags, Mode::empty(), resolve) {
        // openat2 came with Linux 5.6.
        Err(Errno::NOSYS) => by_component(at, path, flags),
        other => other,
    };
    // Something was renamed meanwhile: asked again, the kernel looks again (openat2(2), EAGAIN).
    match opened {
        Err(Errno::AGAIN) => by_component(at, path, flags),
        other => other,
    }
}

/// The same without openat2: a component at a time, none of them a symlink.
fn by_component(at: BorrowedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let last = names.pop().unwrap_or(b".");
    let mut folder: Option<OwnedFd> = None;
    for name in names {
        let on = folder.as_ref().map_or(at, AsFd::as_fd);
        let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = Some(openat(on, name, way, Mode::empty())?);
    }
    openat(
        folder.as_ref().map_or(at, AsFd::as_fd),
        last,
        flags,
        Mode::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    #[test]
    fn no_symlink_is_followed_and_long_paths_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), b"x").unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/file"), b"x").unwrap();
        symlink(outside.path(), folder.path().join("out")).unwrap();
        symlink("a", folder.path().join("in")).unwrap();
        let root = File::open(folder.path()).unwrap();
        for open in [step, by_component] {
            let open = |root: BorrowedFd, path: &[u8], flags: OFlags| {
                open(root, path, flags | OFlags::NOFOLLOW)
            };
            let read = |path: &[u8]| open(root.as_fd(), path, OFlags::RDONLY);
            assert!(read(b"a/file").is_ok());
            for path in [&b"out/secret"[..], b"in/file", b"in"] {
                let error = read(path).unwrap_err();
                assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{error}");
            }
            // The link itself is no way to anywhere.
            assert!(open(root.as_fd(), b"in", OFlags::PATH).is_ok());
        }
        let mut path = Vec::new();
        let mut at = root.try_clone().unwrap().into();
        for _ in 0..40 {
            let name = [b'd'; 200];
            rustix::fs::mkdirat(&at, &name[..], Mode::from_raw_mode(0o755)).unwrap();
            at = rustix::fs::openat(&at, &name[..], OFlags::RDONLY, Mode::empty()).unwrap();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
        }
        assert!(open(root.as_fd(), &path, OFlags::PATH).is_ok());
    }
}

//! The firmware's variables as efivarfs shows them: each a file, its attributes the first four bytes
//! (Documentation/filesystems/efivarfs.rst).

use anyhow::Context;
use nix::errno::Errno;
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// `EFI_GLOBAL_VARIABLE`, whose variables the specification defines.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Non-volatile, and seen by boot services and by the running system.
const ATTRIBUTES: u32 = 7;
/// Far more than a boot entry ever has.
const MOST_BYTES: u64 = 64 << 10;
/// `FS_IMMUTABLE_FL`: the kernel guards variables from `rm -rf`.
const IMMUTABLE: libc::c_long = 0x10;

mod raw {
    nix::ioctl_read!(getflags, b'f', 1, nix::libc::c_long);
    nix::ioctl_write_ptr!(setflags, b'f', 2, nix::libc::c_long);
}

/// The folder where efivarfs is mounted.
pub struct Vars<'a>(pub &'a Path);

impl Vars<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}-{GLOBAL}"))
    }

    /// A variable's data; `None` if there is none of this name.
    ///
    /// # Errors
    /// The firmware's.
    pub fn read(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let doing = || format!("reading the firmware's variable {name}");
        let file = match File::open(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.with_context(doing)?,
        };
        let mut bytes = Vec::new();
        file.take(MOST_BYTES)
            .read_to_end(&mut bytes)
            .with_context(doing)?;
        Ok(bytes.get(4..).map(<[u8]>::to_vec))
    }

    /// A variable of 16-bit numbers.
    ///
    /// # Errors
    /// The firmware's.
    pub fn numbers(&self, name: &str) -> anyhow::Result<Vec<u16>> {
        let data = self.read(name)?.unwrap_or_default();
        let pairs = data.chunks_exact(2);
        Ok(pairs
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect())
    }

    /// The numbers of all `Boot####`, ascending.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn entries(&self) -> anyhow::Result<Vec<u16>> {
        let names = crate::inventory::names(self.0)?;
        let number = |name: &String| {
            let digits = name.strip_prefix("Boot")?.strip_suffix(GLOBAL)?;
            let digits = digits
                .strip_suffix('-')
                .filter(|digits| digits.len() == 4)?;
            u16::from_str_radix(digits, 16).ok()
        };
        Ok(names.iter().filter_map(number).collect())
    }

    /// Gives a variable new data; the firmware keeps it.
    ///
    /// # Errors
    /// In words where it is known what they mean: the store is full, or the firmware takes no writes.
    pub fn write(&self, name: &str, data: &[u8]) -> anyhow::Result<()> {
        let path = self.path(name);
        let mut bytes = ATTRIBUTES.to_le_bytes().to_vec();
        bytes.extend(data);
        // One write is one call of the firmware's: a half-written variable would be refused.
        let written = release(&path)
            .and_then(|()| {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(false).open(&path)
            })
            .and_then(|mut file| file.write(&bytes));
        match written {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(count) => Err(anyhow::anyhow!("{count} of {} bytes", bytes.len())),
            Err(error) => Err(anyhow::anyhow!(explain(&error))),
        }
        .with_context(|| format!("writing the firmware's variable {name}"))
    }
}

/// Takes the guard from a variable that is there.
fn release(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut flags = 0;
    // SAFETY: the descriptor is open and the kernel writes one long to a live long.
    match unsafe { raw::getflags(file.as_raw_fd(), &raw mut flags) } {
        Ok(_) => {}
        // A filesystem without such flags guards nothing.
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    if flags & IMMUTABLE == 0 {
        return Ok(());
    }
    flags &= !IMMUTABLE;
    // SAFETY: the descriptor is open and the kernel reads one long from a live long.
    unsafe { raw::setflags(file.as_raw_fd(), &raw const flags) }?;
    Ok(())
}

fn explain(error: &io::Error) -> String {
    let meaning = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC) => "its store is full: delete old boot entries in its set-up",
        Some(Errno::EROFS) => "efivarfs is read-only here: the firmware has no writes at run time",
        Some(Errno::EPERM | Errno::EACCES) => "the firmware does not allow it",
        Some(Errno::EINVAL) => "the firmware takes it for invalid",
        Some(Errno::EIO) => "the firmware failed",
        _ => return error.to_string(),
    };
    format!("{meaning} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_firmware_refuses_is_said_with_what_to_do() {
        for (errno, part) in [
            (Errno::ENOSPC, "its store is full: delete old boot entries"),
            (Errno::EROFS, "no writes at run time"),
            (Errno::EPERM, "does not allow it"),
            (Errno::EINVAL, "takes it for invalid"),
            (Errno::EIO, "the firmware failed"),
        ] {
            let text = explain(&io::Error::from(errno));
            assert!(text.contains(part), "{text}");
        }
        let error = Vars(Path::new("/dev/full"))
            .write("BootOrder", &[])
            .unwrap_err();
        let text = error.to_string();
        assert_eq!(text, "writing the firmware's variable BootOrder");
    }

    #[test]
    fn other_names_are_no_entries() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["Boot0003", "Boot000A", "BootOrder", "Boot00010", "BootNext"] {
            std::fs::write(folder.path().join(format!("{name}-{GLOBAL}")), [7, 0, 0, 0]).unwrap();
        }
        std::fs::write(folder.path().join("Boot0001-other"), []).unwrap();
        assert_eq!(Vars(folder.path()).entries().unwrap(), [3, 10]);
    }
}

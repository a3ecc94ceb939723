//! What programs that ran in the snapshot wrote of where it lies: by the time that anybody reads it, it lies where the root does.

use super::NEW;
use super::judge::{Site, configurations};
use crate::files::Files;
use crate::root::Root;
use pitstop_trees::btrfs::SNAPSHOTS;

/// For a file that is new: what is replaced keeps its own.
const MODE: u32 = 0o600;

/// Names the place of the root in what boot loaders read, where it is that of the snapshot: a hook may have run `update-grub`.
///
/// # Errors
/// When something cannot be read or written.
pub fn correct(root: &Root, site: &Site) -> anyhow::Result<()> {
    let snapshot = format!("{SNAPSHOTS}/{NEW}");
    let files = Files::of(root)?;
    for path in configurations(&files) {
        let Some(text) = files.read(&path)? else {
            continue;
        };
        if let Some(text) = replaced(&text, snapshot.as_bytes(), site.path.as_bytes()) {
            files.write(&path, &text, MODE)?;
        }
    }
    Ok(())
}

/// A text with `to` wherever it has `from`; `None` where it does not.
fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let next = |rest: &[u8]| rest.windows(from.len()).position(|here| here == from);
    let mut at = next(text)?;
    let (mut done, mut rest) = (Vec::with_capacity(text.len()), text);
    loop {
        done.extend_from_slice(&rest[..at]);
        done.extend_from_slice(to);
        rest = &rest[at + from.len()..];
        let Some(found) = next(rest) else {
            done.extend_from_slice(rest);
            return Some(done);
        };
        at = found;
    }
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn every_name_of_the_snapshot_becomes_the_roots() {
        let text = b"linux /.s/new/boot/vmlinuz rootflags=subvol=.s/new";
        assert_eq!(
            replaced(text, b".s/new", b"@").unwrap(),
            b"linux /@/boot/vmlinuz rootflags=subvol=@"
        );
        assert_eq!(replaced(b"subvol=@", b".s/new", b"@"), None);
        assert_eq!(replaced(b"", b".s/new", b"@"), None);
    }
}

//! What the tool of an ext filesystem chooses by itself: blocks and inodes, by the size and by its own configuration.

use super::filesystems::{Wanted, arguments, maker};
use crate::tools;
use anyhow::Context;

/// How an ext filesystem is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtShape {
    /// Bytes.
    pub block: u64,
    /// Those that the filesystem keeps for itself among them.
    pub inodes: u64,
}

const KIB: u64 = 1 << 10;

impl Wanted<'_> {
    /// How its tool would make it; `None` of other filesystems, and where it does not tell.
    ///
    /// # Errors
    /// When the tool is missing, and what it says.
    pub fn ext_shape(&self, sector: u64) -> anyhow::Result<Option<ExtShape>> {
        let name = self.entry.filesystem.as_deref().unwrap_or_default();
        if !name.starts_with("ext") {
            return Ok(None);
        }
        let maker = maker(name)?;
        let file = tempfile::NamedTempFile::new().context("making a file for a filesystem")?;
        // What a folder cannot have a file of is not tried.
        if file.as_file().set_len(self.size).is_err() {
            return Ok(None);
        }
        let mut arguments = arguments(maker, self.entry, sector)?;
        arguments.retain(|word| word != "-q");
        arguments.extend(["-n".into(), file.path().into()]);
        let said = tools::ask(maker.program, &arguments, &[("LC_ALL", "C")])
            .with_context(|| format!("asking how {name} on {} would be", self.on))?;
        Ok(read(&said))
    }
}

/// `Creating filesystem with 1310720 4k blocks and 327680 inodes`: the tool has no other form of it.
fn read(said: &str) -> Option<ExtShape> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Creating filesystem with "))?;
    let [_, block, _, _, inodes, ..] = line.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let kib: u64 = block.strip_suffix('k')?.parse().ok()?;
    Some(ExtShape {
        block: kib.checked_mul(KIB)?,
        inodes: inodes.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Entry;

    #[test]
    fn the_tool_says_which_blocks_and_how_many_inodes_it_chooses() {
        let shape = |name: &str, mib: u64, sector: u64| {
            let entry = Entry {
                filesystem: Some(name.into()),
                ..Entry::default()
            };
            let wanted = Wanted {
                on: "partition 1".into(),
                size: mib << 20,
                entry: &entry,
            };
            wanted.ext_shape(sector).unwrap()
        };
        let small = shape("ext4", 100, 512).unwrap();
        assert_eq!((small.block, small.inodes), (1024, 25_584));
        assert_eq!(shape("ext4", 100, 4096).unwrap().block, 4096);
        assert_eq!(shape("ext2", 1000, 512).unwrap().block, 4096);
        assert_eq!(shape("xfs", 1000, 512), None);
        assert_eq!(read("mke2fs 1.47.0\n"), None);
        assert_eq!(read("Creating filesystem with some blocks\n"), None);
    }
}

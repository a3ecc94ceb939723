//! Flags of inodes, as `chattr` sets them, and the names that libarchive has for them.

/// Flags of one inode: bits of `FS_IOC_GETFLAGS`, those that a copy is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Flags(u32);

/// `FS_NOCOW_FL` and `FS_COMPR_FL` (linux/fs.h): they say how data is stored, and count for what is written later.
const EARLY: u32 = 0x0080_0000 | 0x4;

/// `FS_IMMUTABLE_FL` and `FS_APPEND_FL`.
const MATTER: u32 = 0x30;

/// The names of libarchive 3.6, whose bsdtar reads and writes `SCHILY.fflags`; linux/fs.h has the bits.
const NAMES: [(&str, u32); 13] = [
    ("securedeletion", 0x1),
    ("uunlnk", 0x2),
    ("compress", 0x4),
    ("sync", 0x8),
    ("schg", 0x10),
    ("sappnd", 0x20),
    ("nodump", 0x40),
    ("noatime", 0x80),
    ("journal-data", 0x4000),
    ("notail", 0x8000),
    ("dirsync", 0x1_0000),
    ("topdir", 0x2_0000),
    ("nocow", 0x80_0000),
];

/// Other names for the same, which other programs may write.
const ALIASES: [(&str, &str); 5] = [
    ("sappend", "sappnd"),
    ("schange", "schg"),
    ("simmutable", "schg"),
    ("undel", "uunlnk"),
    ("uunlink", "uunlnk"),
];

impl Flags {
    /// Of what the kernel tells, what a copy is to have: how a filesystem stores an inode is its own affair.
    pub fn from_kernel(bits: u32) -> Self {
        let known = NAMES.iter().fold(0, |all, (_, bit)| all | bit);
        Self(bits & known)
    }

    pub fn bits(self) -> u32 {
        self.0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that have to be set before there is data.
    #[must_use]
    pub fn early(self) -> Self {
        Self(self.0 & EARLY)
    }

    /// Those that say what may be done with a file, and those that only say how it is stored.
    pub fn by_weight(self) -> (Self, Self) {
        (Self(self.0 & MATTER), Self(self.0 & !MATTER))
    }

    /// Names joined by commas, as `SCHILY.fflags` has them.
    pub fn to_text(self) -> String {
        let set = NAMES.iter().filter(|(_, bit)| self.0 & bit != 0);
        set.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
    }

    /// Reads names; those that are not known are left out.
    pub fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let bits = text.split(',').filter_map(|name| {
            let name = name.trim();
            let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
            let name = alias.map_or(name, |(_, same)| same);
            NAMES.iter().find(|(known, _)| *known == name)
        });
        Self(bits.fold(0, |all, (_, bit)| all | bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_the_names_that_bsdtar_reads() {
        // Immutable, no dump, and "stored in extents", which is ext4's own.
        let flags = Flags::from_kernel(0x10 | 0x40 | 0x8_0000);
        assert_eq!(flags.to_text(), "schg,nodump");
        assert_eq!(Flags::parse(b"schg,nodump"), flags);
        assert_eq!(Flags::parse(b"simmutable, nodump,strange"), flags);
        assert!(Flags::parse(b"").is_empty());
        assert_eq!(Flags::from_kernel(0x80_0010).early().to_text(), "nocow");
    }
}

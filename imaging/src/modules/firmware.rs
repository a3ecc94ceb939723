//! Which of Debian's packages of non-free-firmware has a file, and which drivers do nothing without theirs.

/// How files of a package begin, below `/lib/firmware`. Those of network cards and disk controllers alone.
const PACKAGES: [(&str, &str); 17] = [
    ("bnx2/", "bnx2"),
    ("bnx2x/", "bnx2x"),
    ("bnx2x-", "bnx2x"),
    ("rtl_nic/", "realtek"),
    ("ql2", "qlogic"),
    ("ql8", "qlogic"),
    ("qed/", "qlogic"),
    ("qlogic/", "qlogic"),
    ("phanfw", "netxen"),
    ("myri10ge", "myricom"),
    ("liquidio/", "cavium"),
    ("cxgb", "misc-nonfree"),
    ("e100/", "misc-nonfree"),
    ("tigon/", "misc-nonfree"),
    ("intel/ice/", "misc-nonfree"),
    ("mellanox/", "misc-nonfree"),
    ("slicoss/", "misc-nonfree"),
];

/// Without their files these drive nothing. Others have the firmware in the card, or do without.
const NEEDY: [&str; 8] = [
    "bnx2", "bnx2x", "cxgb3", "e100", "liquidio", "qed", "qla1280", "slicoss",
];

/// The package's name behind `firmware-`, as `FIRMWARE=` of `make image` takes it.
pub fn package(file: &str) -> Option<&'static str> {
    let mut packages = PACKAGES.iter();
    packages
        .find(|(prefix, _)| file.starts_with(prefix))
        .map(|(_, package)| *package)
}

pub fn is_needed(module: &str) -> bool {
    NEEDY.contains(&module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_their_packages() {
        assert_eq!(package("bnx2/bnx2-mips-09-6.2.1b.fw"), Some("bnx2"));
        assert_eq!(package("bnx2x/bnx2x-e2-7.13.21.0.fw"), Some("bnx2x"));
        assert_eq!(package("rtl_nic/rtl8168g-2.fw"), Some("realtek"));
        assert_eq!(package("nowhere.bin"), None);
        assert!(is_needed("bnx2") && !is_needed("r8169"));
    }
}

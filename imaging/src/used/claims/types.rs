//! What a partition's type says of its contents, where that contradicts what is seen, or leaves the blocks to somebody
//! who has no signature there. `docs/image-format.md` has the same table for people.

use super::{Claim, Filesystem, Owner};
use crate::table::PartitionKind;

/// Whose maps are believed in a partition of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Any: the type is for data, or not known.
    Anything,
    /// Swap alone.
    Swap,
    /// LVM alone.
    Lvm,
    /// FAT alone.
    Fat,
    /// None: what belongs there is not read by maps, or has no signature.
    Other,
    /// None: its blocks are a volume manager's, whatever is seen at its beginning.
    Manager,
    /// None: all blocks are hashed, free ones too.
    Hashed,
}

impl Says {
    /// Whether `claim` is what the type says.
    pub fn allows(self, claim: &Claim) -> bool {
        match self {
            Self::Anything => true,
            Self::Swap => claim.owner == Owner::Filesystem(Filesystem::Swap),
            Self::Lvm => claim.owner == Owner::Lvm2,
            Self::Fat => claim.owner == Owner::Filesystem(Filesystem::Fat),
            Self::Other | Self::Manager | Self::Hashed => false,
        }
    }

    /// Why the map of `claim` is not believed in a partition of the type `kind`.
    pub fn why(self, kind: &PartitionKind, claim: &Claim) -> String {
        let name = claim.name;
        match self {
            Self::Manager => {
                format!(
                    "its type, {kind}, leaves its blocks to a volume manager, though it could be {name}"
                )
            }
            Self::Hashed => {
                format!("what has its type, {kind}, is hashed with all its blocks, free ones too")
            }
            _ => format!("its type, {kind}, is not {name}'s: one of the two is a leftover"),
        }
    }
}

impl From<&PartitionKind> for Says {
    fn from(kind: &PartitionKind) -> Self {
        match kind {
            PartitionKind::Code(code) => of_code(*code),
            PartitionKind::Guid(guid) => of_guid(guid),
        }
    }
}

/// Whether it is for hashes of blocks of other partitions.
pub fn hashes_of_others(kind: &PartitionKind) -> bool {
    matches!(kind, PartitionKind::Guid(guid) if VERITY.contains(&guid.as_str()))
}

fn of_code(code: u8) -> Says {
    match code {
        // Solaris used the same code.
        0x82 => Says::Swap,
        0x8e => Says::Lvm,
        0xef => Says::Fat,
        // Windows LDM, NT's volume sets, VMware.
        0x42 | 0x86 | 0x87 | 0xfb | 0xfc => Says::Manager,
        // XENIX, AIX, Venix, MINIX, hibernation, AMOEBA, BSDs, NeXTSTEP, Apple, Solaris, BeOS, Plan 9, QNX,
        // NetWare, PReP, LUKS, data without a filesystem, RAID, bad blocks.
        0x02
        | 0x03
        | 0x08
        | 0x09
        | 0x39
        | 0x40
        | 0x41
        | 0x4d..=0x4f
        | 0x64
        | 0x65
        | 0x75
        | 0x80
        | 0x81
        | 0x84
        | 0x93
        | 0x94
        | 0x9f
        | 0xa0
        | 0xa5..=0xa9
        | 0xab
        | 0xaf
        | 0xb7
        | 0xb8
        | 0xbe
        | 0xbf
        | 0xda
        | 0xe8
        | 0xeb
        | 0xfd
        | 0xff => Says::Other,
        // FAT, NTFS and Linux: all of them are met with any filesystem on them.
        _ => Says::Anything,
    }
}

fn of_guid(guid: &str) -> Says {
    match guid {
        "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F" => return Says::Swap,
        "E6D6D379-F507-44C2-A23C-238F2A3DF928" => return Says::Lvm,
        "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" => return Says::Fat,
        _ => {}
    }
    if MANAGERS.contains(&guid) {
        Says::Manager
    } else if HASHED.contains(&guid) {
        Says::Hashed
    } else if OTHERS.contains(&guid)
        || VERITY.contains(&guid)
        || OTHER_FAMILIES.iter().any(|family| guid.ends_with(family))
    {
        Says::Other
    } else {
        Says::Anything
    }
}

/// Windows LDM (both), Storage Spaces, GPFS, `VMware` (five), Ceph (six), Apple RAID (two) and Core Storage.
const MANAGERS: &[&str] = &[
    "5808C8AA-7E8F-42E0-85D2-E1E90434CFB3",
    "AF9B60A0-1431-4F62-BC68-3311714A69AD",
    "E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D",
    "37AFFC90-EF7D-4E96-91C3-2D7AE055B174",
    "AA31E02A-400F-11DB-9590-000C2911D1B8",
    "9D275380-40AD-11DB-BF97-000C2911D1B8",
    "381CFCCC-7288-11E0-92EE-000C2911D0B2",
    "77719A0C-A4A0-11E3-A47E-000C29745A24",
    "9198EFFC-31C0-11DB-8F78-000C2911D1B8",
    "45B0969E-9B03-4F30-B4C6-B4B80CEFF106",
    "45B0969E-9B03-4F30-B4C6-5EC00CEFF106",
    "4FBD7E29-9D25-41B8-AFD0-062C0CEFF05D",
    "4FBD7E29-9D25-41B8-AFD0-5EC00CEFF05D",
    "89C57F98-2FE5-4DC0-89C1-F3AD0CEFF2BE",
    "89C57F98-2FE5-4DC0-89C1-5EC00CEFF2BE",
    "52414944-0000-11AA-AA11-00306543ECAC",
    "52414944-5F4F-11AA-AA11-00306543ECAC",
    "53746F72-6167-11AA-AA11-00306543ECAC",
];

/// `ChromeOS`'s and Flatcar's system partitions: their hashes lie behind the filesystem, or in the kernel's command line.
const HASHED: &[&str] = &[
    "3CB8E202-3B7E-47DD-8A3C-7FF2A13CFCEC",
    "5DFBF5F4-2848-4BAC-AA5E-0D9A20B745A6",
];

/// RAID, LUKS, plain dm-crypt, boot code (BIOS, `PReP`, Microsoft's, Intel's, `ChromeOS`'s, U-Boot's), QNX, Haiku, MINIX,
/// HP-UX, OpenBSD, Plan 9.
const OTHERS: &[&str] = &[
    "A19D880F-05FC-4D3B-A006-743F0F84911E",
    "CA7D7CCB-63ED-4C53-861C-1742536059CC",
    "7FFEC5C9-2D00-49B7-8941-3EA10A5586B7",
    "8DA63339-0007-60C0-C436-083AC8230908",
    "21686148-6449-6E6F-744E-656564454649",
    "9E1A2D38-C612-4316-AA26-8B49521E5A8B",
    "E3C9E316-0B5C-4DB8-817D-F92DF00215AE",
    "D3BFE2DE-3DAF-11DF-BA40-E3A556D89593",
    "FE3A2A5D-4F32-41A7-B725-ACCC3285A309",
    "2E0A753D-9E48-43B0-8337-B15192CB1B5E",
    "CAB6E88E-ABF3-4102-A07A-D4BB9BE3C1D3",
    "09845860-705F-4BB5-B16C-8A8A099CAF52",
    "3F0F8318-F146-4E6B-8222-C28C8F02E0D5",
    "3DE21764-95BD-54BD-A5C3-4ABE786F38A8",
    "CEF5A9AD-73BC-4601-89F3-CDEEEEE321A1",
    "42465331-3BA3-10F1-802A-4861696B7521",
    "481B2A38-0561-420B-B72A-F1C4988EFC16",
    "75894C1E-3AEB-11D3-B7C1-7B03A0000000",
    "E2A1E728-32E3-11D6-A682-7B03A0000000",
    "824CC7A0-36A8-11E3-890A-952519AD3F61",
    "C91818F9-8025-47AF-89D2-F030D7000C2C",
    "83BD6B9D-7F41-11DC-BE0B-001560B84F0F",
];

/// The last parts of the GUIDs of FreeBSD, `MidnightBSD`, NetBSD (two), `DragonFly` (three), Solaris with ZFS, and Apple.
const OTHER_FAMILIES: &[&str] = &[
    "-6ECF-11D6-8FF8-00022D09712B",
    "-11E1-B4B3-E89A8F7FC3A7",
    "-B10E-11DC-B99B-0019D1879648",
    "-B10F-11DC-B99B-0019D1879648",
    "-01301BB8A9F5",
    "-1DD2-11B2-99A6-080020736631",
    "-11AA-AA11-00306543ECAC",
];

/// Hashes of dm-verity, and their signatures, for each architecture (Discoverable Partitions Specification).
const VERITY: &[&str] = &[
    "0B888863-D7F8-4D9E-9766-239FCE4D58AF",
    "143A70BA-CBD3-4F06-919F-6C05683A78BC",
    "15DE6170-65D3-431C-916E-B0DCD8393F25",
    "16B417F8-3E06-4F57-8DD2-9B5232F41AA6",
    "17440E4F-A8D0-467F-A46E-3912AE6EF2C5",
    "1B31B5AA-ADD9-463A-B2ED-BD467FC857E7",
    "24B2D975-0F97-4521-AFA1-CD531E421B8D",
    "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5",
    "2FB4BF56-07FA-42DA-8132-6B139F2026AE",
    "31741CC4-1A2A-4111-A581-E00B447D2D06",
    "3482388E-4254-435A-A241-766A065F9960",
    "3A112A75-8729-4380-B4CF-764D79934448",
    "3C3D61FE-B5F3-414D-BB71-8739A694A4EF",
    "3E23CA0B-A4BC-4B4E-8087-5AB6A26AA8A9",
    "3F324816-667B-46AE-86EE-9B0C0C6C11B4",
    "41092B05-9FC8-4523-994F-2DEF0408B176",
    "42B0455F-EB11-491D-98D3-56145BA9D037",
    "450DD7D1-3224-45EC-9CF2-A43A346D71EE",
    "46B98D8D-B55C-4E8F-AAB3-37FCA7F80752",
    "4EDE75E2-6CCC-4CC8-B9C7-70334B087510",
    "5843D618-EC37-48D7-9F12-CEA8E08768B2",
    "5996FC05-109C-48DE-808B-23FA0830B676",
    "5AFB67EB-ECC8-4F85-AE8E-AC1E7C50E7D0",
    "5C6E1C76-076A-457A-A0FE-F3B4CD21CE6E",
    "6A491E03-3BE7-4545-8E38-83320E0EA880",
    "6DB69DE6-29F4-4758-A7A5-962190F00CE3",
    "6E11A4E7-FBCA-4DED-B9E9-E1A512BB664E",
    "7007891D-D371-4A80-86A4-5CB875B9302E",
    "7386CDF2-203C-47A9-A498-F2ECCE45A2D6",
    "77FF5F63-E7B6-4633-ACF4-1565B864C0E6",
    "7AC63B47-B25C-463B-8DF8-B4A94E6C90E1",
    "86ED10D5-B607-45BB-8957-D350F23D0571",
    "8CCE0D25-C0D0-4A44-BD87-46331BF1DF67",
    "8DE58BC2-2A43-460D-B14E-A76E4A17B47F",
    "8F1056BE-9B05-47C4-81D6-BE53128E5B54",
    "8F461B0D-14EE-4E81-9AA9-049B6FB97ABD",
    "904E58EF-5C65-4A31-9C57-6AF5FC7C5DE7",
    "906BD944-4589-4AAE-A4E4-DD983917446A",
    "9225A9A3-3C19-4D89-B4F6-EEFF88F17631",
    "94F9A9A1-9971-427A-A400-50CB297F0F35",
    "966061EC-28E4-4B2E-B4A5-1F0A825A1D84",
    "974A71C0-DE41-43C3-BE5D-5C5CCD1AD2C0",
    "98CFE649-1588-46DC-B2F0-ADD147424925",
    "AE0253BE-1167-4007-AC68-43926C14C5DE",
    "B024F315-D330-444C-8461-44BBDE524E99",
    "B325BFBE-C7BE-4AB8-8357-139E652D2F6B",
    "B3671439-97B0-4A53-90F7-2D5A8F3AD47B",
    "B663C618-E7BC-4D6D-90AA-11B756BB1797",
    "B6ED5582-440B-4209-B8DA-5FF7C419EA3D",
    "BDB528A5-A259-475F-A87D-DA53FA736A07",
    "C215D751-7BCD-4649-BE90-6627490A4C05",
    "C23CE4FF-44BD-4B00-B2D4-B41B3419E02A",
    "C3836A13-3137-45BA-B583-B16C50FE5EB4",
    "C80187A5-73A3-491A-901A-017C3FA953E9",
    "C8BFBD1E-268E-4521-8BBA-BF314C399557",
    "C919CC1F-4456-4EFF-918C-F75E94525CA5",
    "CB1EE4E3-8CD0-4136-A0A4-AA61A32E8730",
    "D13C5D3B-B5D1-422A-B29F-9454FDC89D76",
    "D212A430-FBC5-49F9-A983-A7FEEF2B8D0E",
    "D2F9000A-7A18-453F-B5CD-4D32F77A7B32",
    "D46495B7-A053-414F-80F7-700C99921EF8",
    "D4A236E7-E873-4C07-BF1D-BF6CF7F1C3C6",
    "D7D150D2-2A04-4A33-8F12-16651205FF7B",
    "D7FF812F-37D1-4902-A810-D76BA57B975A",
    "DF3300CE-D69F-4C92-978C-9BFB0F38D820",
    "DF765D00-270E-49E5-BC75-F47BB2118B09",
    "E7BB33FB-06CF-4E81-8273-E543B413E2E2",
    "E98B36EE-32BA-4882-9B12-0CE14655F46A",
    "EE2B9983-21E8-4153-86D9-B6901A54D1CE",
    "EFE0F087-EA8D-4469-821A-4C2A96A8386A",
    "F2C2C7EE-ADCC-4351-B5C6-EE9816B66E16",
    "F3393B22-E9AF-4613-A948-9D3BFBD0C535",
    "F46B2C26-59AE-48F0-9106-C50ED47F673D",
    "F5E2C20C-45B2-4FFA-BCE9-2A60737E1AAF",
    "FC56D9E9-E6E5-4C06-BE32-E74407CE09A5",
    "FCA0598C-D880-4591-8C16-4EDA05C7347C",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(owner: Owner, name: &'static str) -> Claim {
        Claim { owner, name, at: 0 }
    }

    fn says(kind: &str) -> Says {
        let kind = match u8::from_str_radix(kind, 16) {
            Ok(code) => PartitionKind::Code(code),
            Err(_) => PartitionKind::Guid(kind.into()),
        };
        Says::from(&kind)
    }

    #[test]
    fn what_is_common_and_harmless_contradicts_nothing() {
        for kind in [
            "07",
            "0c",
            "06",
            "83",
            "27",
            "ea",
            "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
            "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
            "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
            "933AC7E1-2EB4-4F13-B844-0E14E2AEF915",
            "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC",
            "BC13C2FF-59E6-4262-A352-B275FD6F7172",
            "01234567-89AB-CDEF-0123-456789ABCDEF",
        ] {
            assert_eq!(says(kind), Says::Anything, "{kind}");
        }
    }

    #[test]
    fn each_type_allows_what_belongs_there_alone() {
        let swap = claim(Owner::Filesystem(Filesystem::Swap), "swap");
        let fat = claim(Owner::Filesystem(Filesystem::Fat), "vfat");
        let ext = claim(Owner::Filesystem(Filesystem::Ext), "ext4");
        let lvm = claim(Owner::Lvm2, "LVM2_member");
        for (kind, allowed) in [
            ("82", Some(&swap)),
            ("0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", Some(&swap)),
            ("8e", Some(&lvm)),
            ("E6D6D379-F507-44C2-A23C-238F2A3DF928", Some(&lvm)),
            ("ef", Some(&fat)),
            ("C12A7328-F81F-11D2-BA4B-00A0C93EC93B", Some(&fat)),
            ("fd", None),
            ("a5", None),
            ("42", None),
            ("bf", None),
            // FreeBSD UFS, ZFS, Apple HFS+, LDM data, BIOS boot, root verity of x86-64, ChromeOS root.
            ("516E7CB6-6ECF-11D6-8FF8-00022D09712B", None),
            ("6A898CC3-1DD2-11B2-99A6-080020736631", None),
            ("48465300-0000-11AA-AA11-00306543ECAC", None),
            ("AF9B60A0-1431-4F62-BC68-3311714A69AD", None),
            ("21686148-6449-6E6F-744E-656564454649", None),
            ("2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5", None),
            ("3CB8E202-3B7E-47DD-8A3C-7FF2A13CFCEC", None),
        ] {
            for claim in [&swap, &fat, &ext, &lvm] {
                assert_eq!(
                    says(kind).allows(claim),
                    allowed == Some(claim),
                    "{kind}, {}",
                    claim.name
                );
            }
        }
        let verity = PartitionKind::Guid("2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5".into());
        assert!(hashes_of_others(&verity));
    }
}

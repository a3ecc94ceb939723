//! Entries in a folder that stands for the firmware's variables.

use super::*;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const SIGNATURE: u32 = 0x1234_abcd;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// A disk with an MBR and an EFI system partition from sector 2048 on, and firmware with these variables.
    fn new(vars: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("efivars")).unwrap();
        let bench = Self { folder };
        for (name, data) in vars {
            fs::write(bench.var(name), [&[7, 0, 0, 0], *data].concat()).unwrap();
        }
        let mut disk = vec![0; 4 << 20];
        disk[440..444].copy_from_slice(&SIGNATURE.to_le_bytes());
        disk[446 + 4] = 0xef;
        disk[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
        disk[446 + 12..446 + 16].copy_from_slice(&4096u32.to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(bench.disk(), disk).unwrap();
        bench
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn efivars(&self) -> PathBuf {
        self.folder.path().join("efivars")
    }

    fn var(&self, name: &str) -> PathBuf {
        self.efivars().join(format!("{name}-{GLOBAL}"))
    }

    fn enter(&self, loaders: &[Loader]) -> anyhow::Result<Vec<String>> {
        let start = Startable {
            efivars: &self.efivars(),
            disk: &self.disk(),
            sector: 512,
            label: "UEFI disk",
            all: &[(self.disk(), 512)],
        };
        enter(&start, loaders)
    }

    fn order(&self) -> Vec<u8> {
        fs::read(self.var("BootOrder")).unwrap()
    }
}

fn option(signature: u32, file: &str) -> Vec<u8> {
    let drive = HardDrive {
        number: 1,
        start: 2048,
        size: 4096,
        signature: Signature::Mbr(signature),
    };
    let option = LoadOption {
        description: "debian".into(),
        drive,
        file: file.into(),
    };
    option.to_bytes().unwrap()
}

fn shim() -> Loader {
    Loader {
        partition: 1,
        path: "\\EFI\\debian\\shimx64.efi".into(),
        description: "debian".into(),
    }
}

fn fallback() -> Loader {
    Loader {
        partition: 1,
        path: Architecture::X86_64.fallback().into(),
        description: String::new(),
    }
}

#[test]
fn entries_of_the_disk_are_recorded_in_the_firmwares_order_and_others_are_not() {
    let own = option(SIGNATURE, "\\EFI\\debian\\shimx64.efi");
    let again = option(SIGNATURE, "\\efi\\DEBIAN\\shimx64.efi");
    let other = option(5, "\\EFI\\other\\grubx64.efi");
    let bench = Bench::new(&[
        ("BootCurrent", &[9, 0]),
        ("BootOrder", &[9, 0, 3, 0, 2, 0, 1, 0, 0, 0]),
        ("Boot0000", &own),
        ("Boot0001", &other),
        ("Boot0002", &again),
        ("Boot0003", b"damaged"),
    ]);
    let found = loaders(&bench.efivars(), &bench.disk(), 512);
    assert_eq!(
        found,
        [Loader {
            path: "\\efi\\DEBIAN\\shimx64.efi".into(),
            ..shim()
        }]
    );
    assert!(loaders(Path::new("/nowhere"), &bench.disk(), 512).is_empty());
    assert!(loaders(&bench.efivars(), Path::new("/nowhere"), 512).is_empty());
}

#[test]
fn the_fallback_is_recorded_where_it_is_there() {
    let bench = Bench::new(&[]);
    let mut esp = std::io::Cursor::new(vec![0; 2 << 20]);
    fatfs::format_volume(&mut esp, fatfs::FormatVolumeOptions::new()).unwrap();
    {
        let system = fatfs::FileSystem::new(&mut esp, fatfs::FsOptions::new()).unwrap();
        let efi = system.root_dir().create_dir("EFI").unwrap();
        let mut file = efi
            .create_dir("BOOT")
            .unwrap()
            .create_file("BOOTX64.EFI")
            .unwrap();
        file.write_all(b"MZ").unwrap();
        let boot = system.root_dir().open_dir("EFI/BOOT").unwrap();
        let mut other = boot.create_file("BOOTAA64.EFI").unwrap();
        other.write_all(b"MZ").unwrap();
    }
    assert!(loaders(&bench.efivars(), &bench.disk(), 512).is_empty());
    let mut disk = fs::read(bench.disk()).unwrap();
    disk[1 << 20..3 << 20].copy_from_slice(esp.get_ref());
    fs::write(bench.disk(), disk).unwrap();
    let of_arm64 = Loader {
        path: Architecture::Arm64.fallback().into(),
        ..fallback()
    };
    assert_eq!(
        loaders(&bench.efivars(), &bench.disk(), 512),
        [fallback(), of_arm64]
    );
}

#[test]
fn what_this_machine_cannot_start_gets_no_entry() {
    let bench = Bench::new(&[("BootOrder", &[1, 0]), ("Boot0001", b"the network")]);
    let here = Architecture::here().expect("an architecture that Pitstop knows");
    let of = |architecture: &Architecture| Loader {
        path: architecture.fallback().into(),
        ..fallback()
    };
    let all: Vec<Loader> = Architecture::ALL.iter().map(of).collect();
    let said = bench.enter(&all).unwrap();
    assert!(said[0].contains(here.fallback()), "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");
}

#[test]
fn an_entry_is_made_once_right_behind_the_network() {
    let bench = Bench::new(&[
        ("BootCurrent", &[4, 0]),
        ("BootOrder", &[1, 0, 4, 0]),
        ("Boot0000", b"setup"),
        ("Boot0001", b"a stick"),
        ("Boot0004", b"the network"),
    ]);
    let said = bench.enter(&[shim(), fallback()]).unwrap();
    assert_eq!(
        said,
        [
            "the firmware's entry Boot0002 \"debian\" for \\EFI\\debian\\shimx64.efi on partition 1 is made",
            "the firmware's boot order is 0004, 0002, 0001",
        ]
    );
    assert_eq!(bench.order(), [7, 0, 0, 0, 4, 0, 2, 0, 1, 0]);
    let written = fs::read(bench.var("Boot0002")).unwrap();
    assert_eq!(written[..4], [7, 0, 0, 0]);
    assert_eq!(
        written[4..],
        option(SIGNATURE, "\\EFI\\debian\\shimx64.efi")
    );

    let said = bench.enter(&[shim()]).unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].ends_with("is there already"), "{said:?}");
    assert!(!bench.var("Boot0003").exists());
}

#[test]
fn an_entry_for_a_partition_that_is_gone_is_used_again() {
    let gone = option(0x5555_5555, "\\EFI\\Debian\\shimx64.efi");
    let other = option(0x5555_5555, "\\EFI\\debian\\grubx64.efi");
    let vars: &[(&str, &[u8])] = &[
        ("BootCurrent", &[4, 0]),
        ("BootOrder", &[4, 0, 1, 0, 0, 0]),
        ("Boot0000", &other),
        ("Boot0001", &gone),
        ("Boot0004", b"the network"),
    ];
    let bench = Bench::new(vars);
    let said = bench.enter(&[shim()]).unwrap();
    let how = "on partition 1 takes the place of one for a partition that is gone";
    assert!(
        said[0].contains("Boot0001") && said[0].ends_with(how),
        "{said:?}"
    );
    let written = fs::read(bench.var("Boot0001")).unwrap();
    let own = option(SIGNATURE, "\\EFI\\debian\\shimx64.efi");
    assert_eq!(written[4..], own);
    assert_eq!(fs::read(bench.var("Boot0000")).unwrap()[4..], other);
    assert!(!bench.var("Boot0002").exists());

    // A disk that cannot be read may have the partition.
    let bench = Bench::new(vars);
    let start = Startable {
        efivars: &bench.efivars(),
        disk: &bench.disk(),
        sector: 512,
        label: "",
        all: &[(bench.disk(), 512), (PathBuf::from("/nowhere"), 512)],
    };
    let said = enter(&start, &[shim()]).unwrap();
    assert!(
        said[0].contains("Boot0002") && said[0].ends_with("is made"),
        "{said:?}"
    );
    assert_eq!(fs::read(bench.var("Boot0001")).unwrap()[4..], gone);
}

#[test]
fn the_fallback_alone_gets_an_entry_under_the_disks_name() {
    let bench = Bench::new(&[
        ("BootCurrent", &[0, 0]),
        ("BootOrder", &[0, 0]),
        ("Boot0000", b"net"),
    ]);
    let said = bench.enter(&[fallback()]).unwrap();
    assert!(said[0].contains("Boot0001 \"UEFI disk\""), "{said:?}");
    assert_eq!(bench.order(), [7, 0, 0, 0, 0, 0, 1, 0]);
}

#[test]
fn firmware_without_variables_and_a_disk_without_the_partition_are_errors() {
    let bench = Bench::new(&[]);
    let error = bench.enter(&[shim()]).unwrap_err().to_string();
    assert!(
        error.starts_with("there are no EFI variables at "),
        "{error}"
    );
    let bench = Bench::new(&[("BootOrder", &[])]);
    let missing = Loader {
        partition: 7,
        ..shim()
    };
    let error = bench.enter(&[missing]).unwrap_err().to_string();
    assert_eq!(error, "the disk has no partition 7");
}

#[test]
fn the_one_that_booted_stays_first_whatever_the_order_was() {
    assert_eq!(ordered(&[1, 2, 3], Some(3), &[5]), [3, 5, 1, 2]);
    assert_eq!(ordered(&[1, 2, 3], Some(9), &[3]), [1, 3, 2]);
    assert_eq!(ordered(&[2, 1], None, &[2]), [2, 1]);
    assert_eq!(ordered(&[], None, &[4, 5]), [4, 5]);
}

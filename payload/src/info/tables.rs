//! The firmware's raw tables, ACPI and SMBIOS, and the device tree, in one zip file.

use anyhow::Context;
use std::fs;
use std::io::{Cursor, ErrorKind, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Folders below `/sys`; in the zip the files have the same paths.
const FOLDERS: [&str; 2] = ["firmware/acpi/tables", "firmware/dmi/tables"];

/// The device tree as the boot loader gave it, below `/sys` as well.
const DEVICE_TREE: &str = "firmware/fdt";

/// All tables of any machine seen weigh less; more would be a fault.
const MOST_BYTES: usize = 64 << 20;

/// A zip of every table, and what could not be read (some firmware tables are for the kernel alone).
pub fn zip(sysfs: &Path) -> anyhow::Result<(Vec<u8>, Vec<String>)> {
    let mut zip = Zip {
        writer: ZipWriter::new(Cursor::new(Vec::new())),
        bytes: 0,
        problems: Vec::new(),
    };
    for folder in FOLDERS {
        zip.add_folder(sysfs, folder)?;
    }
    if sysfs.join(DEVICE_TREE).exists() {
        zip.add_file(&sysfs.join(DEVICE_TREE), DEVICE_TREE)?;
    }
    let bytes = zip
        .writer
        .finish()
        .context("ending the zip of firmware tables")?;
    Ok((bytes.into_inner(), zip.problems))
}

struct Zip {
    writer: ZipWriter<Cursor<Vec<u8>>>,
    bytes: usize,
    problems: Vec<String>,
}

impl Zip {
    fn add_folder(&mut self, sysfs: &Path, folder: &str) -> anyhow::Result<()> {
        for name in pitstop_imaging::inventory::names(&sysfs.join(folder))? {
            let inner = format!("{folder}/{name}");
            let path = sysfs.join(&inner);
            let kind = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata.file_type(),
                Err(error) => {
                    self.problems.push(format!("{inner}: {error}"));
                    continue;
                }
            };
            if kind.is_dir() {
                self.add_folder(sysfs, &inner)?;
            } else if kind.is_file() {
                self.add_file(&path, &inner)?;
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path, inner: &str) -> anyhow::Result<()> {
        let table = match fs::read(path) {
            Ok(table) => table,
            // Not a fault of this machine: some tables are only a name.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.problems.push(format!("{inner}: {error}"));
                return Ok(());
            }
        };
        self.bytes = self.bytes.saturating_add(table.len());
        if self.bytes > MOST_BYTES {
            self.problems.push(format!(
                "{inner}: the tables are larger than {MOST_BYTES} bytes"
            ));
            return Ok(());
        }
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        let doing = || format!("packing {inner}");
        self.writer.start_file(inner, options).with_context(doing)?;
        self.writer.write_all(&table).with_context(doing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::inventory::fake::FakeMachine;
    use std::io::Read;

    #[test]
    fn every_table_comes_back_out_under_its_path() {
        let fake = FakeMachine::new();
        fake.write_sys("firmware/acpi/tables/DSDT", vec![7; 9000]);
        fake.write_sys("firmware/acpi/tables/dynamic/SSDT1", b"ssdt");
        fake.write_sys("firmware/dmi/tables/DMI", b"dmi");
        fake.write_sys("firmware/fdt", b"tree");
        let (bytes, problems) = zip(&fake.machine().sysfs).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        assert!(bytes.len() < 2000, "deflated, not stored: {}", bytes.len());
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut names: Vec<String> = archive
            .file_names()
            .map(|name| name.unwrap().into_owned())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "firmware/acpi/tables/DSDT",
                "firmware/acpi/tables/dynamic/SSDT1",
                "firmware/dmi/tables/DMI",
                "firmware/fdt"
            ]
        );
        let mut table = Vec::new();
        let mut entry = archive.by_name("firmware/acpi/tables/DSDT").unwrap();
        entry.read_to_end(&mut table).unwrap();
        assert_eq!(table, vec![7; 9000]);
    }

    #[test]
    fn a_machine_without_tables_gets_an_empty_zip() {
        let (bytes, problems) = zip(&FakeMachine::new().machine().sysfs).unwrap();
        assert!(problems.is_empty());
        assert_eq!(zip::ZipArchive::new(Cursor::new(bytes)).unwrap().len(), 0);
    }
}

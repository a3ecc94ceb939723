//! KA's partition descriptions: a type and a size in MiB a line, or `fill`.
//!
//! ```text
//! linux 4000
//! swap 512
//! extended fill
//! logical linux fill
//! logical type8e 2000
//! ```

use super::{Entry, Layout, VERSION};
use crate::table::TableKind;
use anyhow::{Context, bail};

/// Reads the text of such a description.
///
/// # Errors
/// The line that makes no sense, and what is understood.
pub fn import(text: &str) -> anyhow::Result<Layout> {
    let mut partitions = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let entry = entry(line).with_context(|| format!("line {number}, {line:?}"))?;
        partitions.push(entry);
    }
    if partitions.is_empty() {
        bail!("there is no partition in it");
    }
    let layout = Layout {
        version: VERSION,
        table: TableKind::Mbr,
        id: None,
        alignment: None,
        partitions,
        raid: Vec::new(),
        luks: Vec::new(),
        lvm: Vec::new(),
    };
    layout.check()?;
    Ok(layout)
}

fn entry(line: &str) -> anyhow::Result<Entry> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if words.first() == Some(&"desc") {
        words.remove(0);
    }
    let logical = words.first() == Some(&"logical");
    if logical {
        words.remove(0);
    }
    let [kind, size] = words.as_slice() else {
        bail!("a line is a type and a size: linux 4000");
    };
    let (kind, filesystem) = match *kind {
        "linux" => ("linux".to_owned(), Some("ext4")),
        "swap" => ("swap".to_owned(), Some("swap")),
        "fat" | "vfat" | "fat32" => ("fat32".to_owned(), Some("vfat")),
        "ntfs" => ("msdata".to_owned(), Some("ntfs")),
        "extended" => ("extended".to_owned(), None),
        "lvm" | "raid" => ((*kind).to_owned(), None),
        other => match other.strip_prefix("type") {
            Some(code) => (format!("0x{:0>2}", code.to_ascii_lowercase()), None),
            None => bail!(
                "unknown type {other:?}: there are linux, swap, fat32, ntfs, lvm, raid, extended and codes such as type83"
            ),
        },
    };
    let size = match *size {
        "fill" => "fill".to_owned(),
        mebibytes => match mebibytes.parse::<u32>() {
            Ok(mebibytes) => format!("{mebibytes}MiB"),
            Err(_) => bail!("a size is a number of MiB, or fill"),
        },
    };
    Ok(Entry {
        kind,
        size,
        logical,
        filesystem: filesystem.map(str::to_owned),
        ..Entry::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_becomes_a_layout() {
        let text = "# nodes of 2009\ndesc linux 4000\nswap 512\nextended fill\nlogical linux 1000\n\
                    logical type8E fill\n";
        let layout = import(text).unwrap();
        let made: Vec<_> = layout
            .partitions
            .iter()
            .map(|p| (p.kind.as_str(), p.size.as_str(), p.logical))
            .collect();
        assert_eq!(
            made,
            [
                ("linux", "4000MiB", false),
                ("swap", "512MiB", false),
                ("extended", "fill", false),
                ("linux", "1000MiB", true),
                ("0x8e", "fill", true),
            ]
        );
        assert_eq!(layout.partitions[0].filesystem.as_deref(), Some("ext4"));
        assert!(layout.place(20 << 30, 512).is_ok());
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        for (text, why) in [
            ("linux", "line 1, \"linux\""),
            ("linux 10\nbeos 3", "line 2"),
            ("swap 1G", "a number of MiB"),
            ("type00 3", "no type code"),
            ("# nothing", "no partition"),
        ] {
            let error = format!("{:#}", import(text).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[a-z0-9 \\n#]*|\\PC*") {
            let _ = import(&text);
        }
    }
}

use super::*;

#[test]
fn a_layout_reads_back() {
    let text = r#"
version = 1
table = "gpt"
alignment = "1MiB"

[[partition]]
type = "efi"
size = "512MiB"
filesystem = "vfat"
label = "EFI"

[[partition]]
type = "linux"
size = "fill"
name = "root"
flags = ["legacy-boot", "grow"]
"#;
    let layout = Layout::parse(text).unwrap();
    assert_eq!(Layout::parse(&layout.to_toml().unwrap()).unwrap(), layout);
    assert_eq!(
        flags(&layout.partitions[1].flags, TableKind::Gpt),
        Ok(4 | 1 << 59)
    );
}

#[test]
fn what_makes_no_sense_is_told_with_its_partition() {
    let with = |table: &str, entry: &str| {
        let text = format!("version = 1\ntable = {table:?}\n[[partition]]\n{entry}");
        format!("{:#}", Layout::parse(&text).unwrap_err())
    };
    for (table, entry, why) in [
        (
            "gpt",
            "type = \"linux\"\nsize = \"0\"",
            "0 bytes cannot be made",
        ),
        ("gpt", "type = \"linux\"\nsize = \"101%\"", "1% to 100%"),
        (
            "gpt",
            "type = \"linux\"\nsize = \"big\"",
            "\"25%\" or \"fill\"",
        ),
        (
            "gpt",
            "type = \"linux\"\nsize = \"fill\"\nlogical = true",
            "none of them logical",
        ),
        (
            "mbr",
            "type = \"linux\"\nsize = \"fill\"\nname = \"x\"",
            "neither name nor id",
        ),
        (
            "mbr",
            "type = \"linux\"\nsize = \"fill\"\nflags = [\"grow\"]",
            "an MBR has boot",
        ),
        (
            "gpt",
            "type = \"linux\"\nsize = \"fill\"\nflags = [\"boot\"]",
            "there are required",
        ),
        (
            "gpt",
            "type = \"linux\"\nsize = \"fill\"\nlabel = \"x\"",
            "there is none",
        ),
        (
            "gpt",
            "type = \"linux\"\nsize = \"fill\"\nfilesystem = \"zfs\"",
            "there are ext2",
        ),
        (
            "none",
            "type = \"linux\"\nsize = \"fill\"",
            "\"gpt\" or \"mbr\"",
        ),
        (
            "gpt",
            "type = \"linux\"\nsise = \"fill\"",
            "unknown field `sise`",
        ),
    ] {
        let error = with(table, entry);
        assert!(error.contains(why), "{entry}: {error}");
    }
    let error = Layout::parse("version = 2\ntable = \"gpt\"").unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*") {
        let _ = Layout::parse(&text);
        let _ = Size::parse(&text);
        let _ = kinds::kind(&text, TableKind::Mbr);
    }
}

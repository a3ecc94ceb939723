use super::super::Placed;
use super::*;

const MIB: u64 = 1 << 20;

const PARTITIONS: &str = r#"
version = 1
table = "gpt"
[[partition]]
type = "efi"
size = "100MiB"
filesystem = "vfat"
mount = "/boot/efi"
[[partition]]
type = "raid"
size = "200MiB"
[[partition]]
type = "raid"
size = "fill"
"#;

const STACK: &str = r#"
[[raid]]
name = "boot"
on = 2
filesystem = "ext4"
mount = "/boot"
[[raid]]
name = "system"
level = 1
on = 3
[[lvm]]
group = "vg0"
on = ["system"]
volumes = [
  { name = "root", size = "fill", filesystem = "xfs", mount = "/" },
  { name = "swap", size = "101MiB", filesystem = "swap" },
  { name = "spare", size = "10%" },
]
"#;

fn placed(layout: &Layout, disk: u64) -> Placed {
    layout.place(disk, 512).unwrap()
}

#[test]
fn arrays_and_volumes_get_what_metadata_leaves() {
    let layout = Layout::parse(&format!("{PARTITIONS}{STACK}")).unwrap();
    assert_eq!(Layout::parse(&layout.to_toml().unwrap()).unwrap(), layout);
    let disks = [placed(&layout, 2000 * MIB), placed(&layout, 1302 * MIB)];
    let sizes = sizes(&layout, &[&disks[0], &disks[1]]).unwrap();
    // The smaller disk decides: 1 000 MiB, less 1 for the array, less 1 for the group, in extents of 4.
    let found: Vec<u64> = sizes.iter().map(|size| size / MIB).collect();
    assert_eq!(found, [100, 200, 1000, 199, 999, 796, 104, 96]);
    let names: Vec<String> = layout.slots().iter().map(|it| it.0.to_string()).collect();
    assert_eq!(names[3..5], ["array boot", "array system"]);
    assert_eq!(names[5], "volume vg0/root");
}

#[test]
fn volumes_that_do_not_fit_are_told_with_numbers() {
    let with = |volumes: &str| {
        let text = format!(
            "{PARTITIONS}[[raid]]\nname = \"a\"\non = 3\n[[lvm]]\ngroup = \"g\"\non = [\"a\"]\nvolumes = [{volumes}]"
        );
        let layout = Layout::parse(&text).unwrap();
        let one = placed(&layout, 502 * MIB);
        format!("{:#}", sizes(&layout, &[&one, &one]).unwrap_err())
    };
    let error = with("{ name = \"x\", size = \"1GiB\" }");
    assert!(
        error.starts_with("[[lvm]] \"g\": its volumes take 1.0 GiB, and there is room for 196"),
        "{error}"
    );
    let error = with("{ name = \"x\", size = \"100%\" }, { name = \"y\", size = \"fill\" }");
    assert!(error.contains("no room for volume \"y\" (fill)"), "{error}");
}

#[test]
fn what_makes_no_sense_is_told_by_its_key() {
    let raid = |rest: &str| format!("[[raid]]\nname = \"a\"\n{rest}\n");
    let lvm = |on: &str, volumes: &str| {
        format!("[[lvm]]\ngroup = \"g\"\non = [{on}]\nvolumes = [{volumes}]\n")
    };
    let root = "{ name = \"root\", size = \"1G\" }";
    for (text, why) in [
        (
            raid("on = 9"),
            "[[raid]] \"a\": on = 9: the layout has no partition 9",
        ),
        (raid("on = 1"), "on = 1: that partition has a filesystem"),
        (
            raid("on = 2\nlevel = 5"),
            "has level = 5: only arrays of level 1",
        ),
        (raid("on = 2\nmembers = []"), "unknown field `members`"),
        (
            raid("on = 2\nfilesystem = \"vfat\""),
            "filesystem = \"vfat\": there can be ext2",
        ),
        (raid("on = 2\nlabel = \"x\""), "there is none"),
        (
            raid("on = 2\nfilesystem = \"ext4\"\nmount = \"boot\""),
            "is no path of a system",
        ),
        (
            raid("on = 2\nfilesystem = \"ext4\"\nmount = \"/boot/efi\""),
            "two filesystems of the layout have mount",
        ),
        (
            raid("on = 2") + &raid("on = 3"),
            "two [[raid]] have the name \"a\"",
        ),
        (
            raid("on = 2") + "[[raid]]\nname = \"b\"\non = 2\n",
            "on = 2: something else uses that partition",
        ),
        (
            "[[raid]]\nname = \"-a\"\non = 2\n".into(),
            "begins with a letter",
        ),
        (
            "[[raid]]\nname = \"a/b\"\non = 2\n".into(),
            "begins with a letter",
        ),
        (
            lvm("\"a\"", root),
            "the layout has no [[raid]] or [[luks]] with that name",
        ),
        (lvm("", root), "[[lvm]] \"g\": on names nothing"),
        (lvm("2", ""), "it has no volumes"),
        (
            lvm("2, 2", root),
            "on = 2: something else uses that partition",
        ),
        (
            lvm("2", root) + &lvm("3", root),
            "two [[lvm]] have the group \"g\"",
        ),
        (
            raid("on = 3") + &lvm("2", root),
            "[[lvm]] is on partition 2, and with [[raid]]",
        ),
        (
            raid("on = 2\nfilesystem = \"ext4\"") + &lvm("\"a\"", root),
            "it has a filesystem of its own",
        ),
        (
            lvm("2", &format!("{root}, {root}")),
            "two volumes have the name \"root\"",
        ),
        (
            lvm("2", "{ name = \"x_rimage_0\", size = \"1G\" }"),
            "LVM keeps the name",
        ),
        (
            lvm("2", "{ name = \"x_vorigin\", size = \"1G\" }"),
            "LVM keeps the name",
        ),
        (lvm("2", "{ name = \"x\", size = \"1X\" }"), "volume \"x\""),
        (
            lvm(
                "2",
                "{ name = \"x\", size = \"fill\" }, { name = \"y\", size = \"fill\" }",
            ),
            "only one volume can fill",
        ),
    ] {
        let error = format!(
            "{:#}",
            Layout::parse(&format!("{PARTITIONS}{text}")).unwrap_err()
        );
        assert!(error.contains(why), "{text}: {error}");
    }
}

/// Volumes on LUKS on an array, and LUKS with a filesystem on another one.
const ENCRYPTED: &str = r#"
[[raid]]
name = "all"
on = 3
[[luks]]
name = "secret"
on = "all"
[[raid]]
name = "more"
on = 2
[[luks]]
name = "home"
on = "more"
filesystem = "ext4"
mount = "/home"
[[lvm]]
group = "vg0"
on = ["secret"]
volumes = [{ name = "root", size = "fill", filesystem = "xfs", mount = "/" }]
"#;

#[test]
fn what_is_encrypted_gets_what_its_header_leaves() {
    let layout = Layout::parse(&format!("{PARTITIONS}{ENCRYPTED}")).unwrap();
    assert_eq!(Layout::parse(&layout.to_toml().unwrap()).unwrap(), layout);
    assert!(layout.is_stacked());
    let placed = placed(&layout, 1302 * MIB);
    let found = sizes(&layout, &[&placed, &placed]).unwrap();
    let found: Vec<u64> = found.iter().map(|size| size / MIB).collect();
    // 1 000 MiB, less 1 for the array, 16 for LUKS, and 1 for the group, in extents of 4.
    assert_eq!(found, [100, 200, 1000, 999, 199, 983, 183, 980]);
    let slots = layout.slots();
    let told: Vec<(String, bool)> = slots
        .iter()
        .map(|(slot, _)| (slot.to_string(), layout.is_encrypted(*slot)))
        .collect();
    let expected = [
        ("array all", false),
        ("array more", false),
        ("LUKS secret", true),
        ("LUKS home", true),
        ("volume vg0/root", true),
    ];
    assert_eq!(
        told[3..],
        expected.map(|(name, encrypted)| (name.to_owned(), encrypted))
    );
    // Without arrays a partition does as well, and a volume beside it is open.
    let text = "[[luks]]\nname = \"secret\"\non = 3\n[[lvm]]\ngroup = \"g\"\non = [2]\n\
                volumes = [{ name = \"x\", size = \"fill\" }]\n";
    let layout = Layout::parse(&format!("{PARTITIONS}{text}")).unwrap();
    assert!(!layout.is_encrypted(layout.slots()[4].0));
    let placed = self::placed(&layout, 1302 * MIB);
    assert_eq!(sizes(&layout, &[&placed]).unwrap()[3], 984 * MIB);
    let small = layout.place(317 * MIB, 512).unwrap();
    let error = sizes(&layout, &[&small]).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "[[luks]] \"secret\": it has 15.0 MiB, and its header alone takes 16.0 MiB"
        ),
        "{error}"
    );
}

#[test]
fn encryption_that_makes_no_sense_is_told_by_its_key() {
    let luks = |name: &str, rest: &str| format!("[[luks]]\nname = \"{name}\"\n{rest}\n");
    let raid = "[[raid]]\nname = \"a\"\non = 3\n";
    for (text, why) in [
        (
            luks("x", "on = 9"),
            "[[luks]] \"x\": on = 9: the layout has no partition 9",
        ),
        (
            luks("x", "on = 1"),
            "on = 1: that partition has a filesystem",
        ),
        (
            luks("x", "on = \"y\"") + &luks("y", "on = 2"),
            "[[luks]] \"x\": on = \"y\": the layout has no [[raid]] with that name",
        ),
        (
            luks("x", "on = 2") + &luks("y", "on = 2"),
            "[[luks]] \"y\": on = 2: something else uses that partition",
        ),
        (
            luks("x", "on = 2") + &luks("x", "on = 3"),
            "another [[luks]] or [[raid]] has the name",
        ),
        (
            raid.to_owned() + &luks("a", "on = \"a\""),
            "another [[luks]] or [[raid]] has the name",
        ),
        (
            raid.to_owned() + &luks("x", "on = 2"),
            "[[luks]] is on partition 2, and with [[raid]] each disk has one",
        ),
        (luks("control", "on = 2"), "device-mapper keeps the name"),
        (luks("-x", "on = 2"), "begins with a letter"),
        (luks("x", "on = 2\nkey = \"secret\""), "unknown field `key`"),
        (
            luks("x", "on = 2\nfilesystem = \"vfat\""),
            "filesystem = \"vfat\": there can be ext2",
        ),
        (
            luks("g-r--o", "on = 2")
                + "[[lvm]]\ngroup = \"g\"\non = [3]\nvolumes = [{ name = \"r-o\", size = \"fill\" }]",
            "the volume g/r-o has the same name in /dev/mapper",
        ),
        (
            luks("x", "on = 2\nfilesystem = \"ext4\"")
                + "[[lvm]]\ngroup = \"g\"\non = [\"x\"]\nvolumes = [{ name = \"r\", size = \"fill\" }]",
            "on = \"x\": it has a filesystem of its own",
        ),
    ] {
        let error = format!(
            "{:#}",
            Layout::parse(&format!("{PARTITIONS}{text}")).unwrap_err()
        );
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn what_grub_writes_itself_into_is_no_part_of_an_array() {
    let layout = PARTITIONS.replacen("type = \"raid\"", "type = \"bios-boot\"", 1);
    let raid = "[[raid]]\nname = \"a\"\non = 2\n";
    let error = Layout::parse(&format!("{layout}{raid}")).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("[[raid]] \"a\": on = 2: that partition is of type bios-boot"),
        "{error}"
    );
}

#[test]
fn a_filesystem_that_each_disk_would_have_is_refused() {
    let plain = PARTITIONS.replace(
        "type = \"raid\"\nsize = \"fill\"",
        "type = \"linux\"\nsize = \"fill\"\nfilesystem = \"ext4\"",
    );
    let raid = "[[raid]]\nname = \"a\"\non = 2\n";
    let error = Layout::parse(&format!("{plain}{raid}")).unwrap_err();
    assert!(
        error.to_string().contains(
            "partition 3 of the layout has ext4, and with [[raid]] each disk would have it"
        ),
        "{error}"
    );
}

proptest::proptest! {
    #[test]
    fn no_size_makes_it_panic(size in "([0-9]{1,19}[KMGT]?|[0-9]{1,3}%|fill)", disk: u64) {
        let text = format!(
            "{PARTITIONS}[[lvm]]\ngroup = \"g\"\non = [2, 3]\nvolumes = [{{ name = \"x\", size = \"{size}\" }}, {{ name = \"y\", size = \"1G\" }}]"
        );
        if let Ok(layout) = Layout::parse(&text)
            && let Ok(placed) = layout.place(disk, 512)
            && let Ok(sizes) = sizes(&layout, &[&placed])
        {
            proptest::prop_assert!(sizes[3] + sizes[4] <= sizes[1] + sizes[2]);
        }
    }

    #[test]
    fn no_encryption_makes_it_panic(name in "[a-c-]{1,3}", on in "([1-4]|\"[a-c]\")", sector in 0..2_usize, disk: u64) {
        let text = format!("{PARTITIONS}[[raid]]\nname = \"a\"\non = 3\n[[luks]]\nname = \"{name}\"\non = {on}\n");
        if let Ok(layout) = Layout::parse(&text)
            && let Ok(placed) = layout.place(disk, [512, 4096][sector])
            && let Ok(sizes) = sizes(&layout, &[&placed])
        {
            proptest::prop_assert_eq!(sizes[4], sizes[3] - LUKS_HEADER);
            proptest::prop_assert_eq!(Layout::parse(&layout.to_toml().unwrap()).unwrap(), layout);
        }
    }
}

use super::*;
use crate::entry::{Attributes, Extent, Kind, Time, Xattrs};
use crate::flags::Flags;
use crate::header::{self, padded};
use crate::path::TreePath;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn attributes() -> impl Strategy<Value = Attributes> {
    let xattrs = prop::collection::btree_map("[a-z]{1,5}\\.[a-z=%]{1,5}", any::<Vec<u8>>(), 0..3);
    let times = (any::<i32>(), 0u32..1_000_000_000);
    (
        0u32..=0o7777,
        any::<u32>(),
        any::<u32>(),
        times,
        xattrs,
        any::<u32>(),
    )
        .prop_map(
            |(mode, uid, gid, (seconds, nanos), xattrs, flags)| Attributes {
                mode,
                uid,
                gid,
                mtime: Time {
                    seconds: i64::from(seconds) * 3,
                    nanos,
                },
                xattrs: Arc::new(Xattrs::new(
                    xattrs
                        .into_iter()
                        .map(|(key, value)| (key.into_bytes(), value))
                        .collect(),
                )),
                flags: Flags::from_kernel(flags),
            },
        )
}

fn kind() -> impl Strategy<Value = Kind> {
    let extents = prop::collection::vec((0u64..5000, 1u64..5000), 0..4);
    prop_oneof![
        Just(Kind::Folder),
        Just(Kind::Fifo),
        prop::collection::vec(1u8..=255, 1..120).prop_map(Kind::Symlink),
        (0u32..4096, 0u32..1_000_000).prop_map(|(major, minor)| Kind::Character { major, minor }),
        (0u32..4096, 0u32..1_000_000).prop_map(|(major, minor)| Kind::Block { major, minor }),
        (0u64..100_000, any::<[u8; 32]>()).prop_map(|(size, hash)| Kind::File {
            size,
            extents: None,
            hash: if size == 0 {
                *blake3::hash(b"").as_bytes()
            } else {
                hash
            },
        }),
        (extents, 0u64..10_000, any::<[u8; 32]>()).prop_map(|(gaps, rest, hash)| {
            let mut end = 0;
            let extents: Vec<Extent> = gaps
                .into_iter()
                .map(|(gap, length)| {
                    let start = end + gap;
                    end = start + length;
                    Extent { start, length }
                })
                .collect();
            Kind::File {
                size: end + rest,
                hash: if extents.is_empty() {
                    *blake3::hash(b"").as_bytes()
                } else {
                    hash
                },
                extents: Some(extents.into()),
            }
        }),
    ]
}

/// A tree of any entries, every one in a folder, some of them hard links.
fn tree() -> impl Strategy<Value = Vec<Entry>> {
    let name = prop::collection::vec(prop_oneof![1u8..=46, 48u8..=255], 1..6);
    let path = prop::collection::vec(name, 1..4);
    prop::collection::vec((path, kind(), attributes(), any::<bool>()), 0..20).prop_map(|given| {
        let mut tree: BTreeMap<TreePath, (Kind, Attributes)> = BTreeMap::new();
        tree.insert(TreePath::root(), (Kind::Folder, Attributes::default()));
        for (names, kind, attributes, _) in &given {
            let mut at = TreePath::root();
            for (depth, name) in names.iter().enumerate() {
                let Ok(next) = at.join(name) else { break };
                at = next;
                let last = depth + 1 == names.len();
                let here = tree.entry(at.clone());
                let here = here.or_insert_with(|| {
                    let kind = if last { kind.clone() } else { Kind::Folder };
                    (kind, attributes.clone())
                });
                if here.0 != Kind::Folder {
                    break;
                }
            }
        }
        let mut target: Option<TreePath> = None;
        let mut entries = Vec::new();
        for (number, (path, (mut kind, attributes))) in tree.into_iter().enumerate() {
            match (&target, &kind) {
                (Some(to), Kind::Fifo) if number % 2 == 0 => kind = Kind::HardLink(to.clone()),
                (_, Kind::Folder | Kind::HardLink(_)) => {}
                _ => target = Some(path.clone()),
            }
            entries.push(Entry {
                path,
                kind,
                attributes,
            });
        }
        entries
    })
}

fn index_of(entries: Vec<Entry>, toml: &str) -> Index {
    let mut size = END as u64;
    let placed: Vec<Placed> = entries
        .into_iter()
        .map(|entry| {
            let mut bytes = Vec::new();
            header::encode(&entry, &mut bytes);
            size += bytes.len() as u64 + padded(entry.kind.stored());
            Placed {
                entry,
                header: u32::try_from(bytes.len()).unwrap(),
            }
        })
        .collect();
    let mut members = Vec::new();
    while size > 0 {
        let raw = size.min(70_000);
        size -= raw;
        members.push(Member {
            size: 30 + u32::try_from(raw / 3).unwrap(),
            raw: u32::try_from(raw).unwrap(),
            hash: [u8::try_from(size % 256).unwrap(); 32],
        });
    }
    Index::new(members, placed, toml.to_owned()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_tree_reads_back(entries in tree(), toml in "\\PC*") {
        let index = index_of(entries, &toml);
        prop_assert_eq!(decode(&encode(&index), index.data_size()).unwrap(), index.clone());
        // Every byte of the tar is in one member, and every entry is found.
        for (number, placed) in index.placed().iter().enumerate() {
            prop_assert_eq!(index.find(placed.entry.path.as_bytes()), Some(number));
            let header = index.header_range(number);
            let members = index.members_in(&header);
            prop_assert!(index.raw_range(members.start).contains(&header.start));
            for member in members {
                prop_assert!(index.entries_in(&index.raw_range(member)).contains(&number));
            }
        }
    }

    #[test]
    fn a_changed_index_is_an_error_or_another_sound_tree(
        entries in tree(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let index = index_of(entries, "x = 1");
        let mut blob = encode(&index);
        for (at, byte) in changes {
            let at = at.index(blob.len());
            blob[at] = byte;
        }
        // The footer's hash would tell; here nothing may panic, and no path may lead out.
        if let Ok(index) = decode(&blob, index.data_size()) {
            for entry in index.entries() {
                prop_assert!(TreePath::parse(entry.path.as_bytes()).is_ok());
            }
        }
    }

    #[test]
    fn any_bytes_make_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode(&bytes, 0).is_err());
        let mut begun = b"PITTREE1".to_vec();
        begun.extend_from_slice(&bytes);
        let _ = decode(&begun, 0);
    }
}

#[test]
fn what_is_no_tree_is_refused() {
    let entry = |path: &str, kind| Entry {
        path: TreePath::parse(path.as_bytes()).unwrap(),
        kind,
        attributes: Attributes::default(),
    };
    let wrong = |entries: Vec<Entry>| {
        let placed: Vec<Placed> = entries
            .into_iter()
            .map(|entry| Placed { entry, header: 512 })
            .collect();
        match decode::check_tree(&placed).unwrap_err() {
            IndexError::Wrong(why) => why,
            IndexError::Version(version) => panic!("{version}"),
        }
    };
    let root = || entry("", Kind::Folder);
    let link = |to: &str| Kind::HardLink(TreePath::parse(to.as_bytes()).unwrap());
    assert_eq!(wrong(vec![]), "it does not begin with the root");
    assert_eq!(
        wrong(vec![root(), entry("a/b", Kind::Fifo)]),
        "an entry is in no folder"
    );
    let through = vec![
        root(),
        entry("a", Kind::Symlink(b"/etc".to_vec())),
        entry("a/b", Kind::Fifo),
    ];
    assert_eq!(wrong(through), "an entry is in no folder");
    assert_eq!(
        wrong(vec![root(), entry("b", Kind::Fifo), entry("a", Kind::Fifo)]),
        "its entries are not in order"
    );
    let to_later = vec![root(), entry("a", link("b")), entry("b", Kind::Fifo)];
    assert_eq!(wrong(to_later), "a hard link leads to no file before it");
    let to_folder = vec![root(), entry("a", Kind::Folder), entry("b", link("a"))];
    assert_eq!(wrong(to_folder), "a hard link leads to no file before it");
}

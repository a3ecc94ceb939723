use super::*;
use pitstop_imaging::used::Piece;

const MIB: u64 = 1 << 20;

/// A member of the mirror `name`, on the partition `partition` of `disk`.
fn member(name: &str, disk: &str, partition: u32, place: Option<u16>, events: u64) -> Volume {
    let member = Member {
        name: name.into(),
        uuid: name.into(),
        level: MIRROR,
        disks: 2,
        place,
        events,
        data: MIB..9 * MIB,
        size: 8 * MIB,
        is_reshaping: false,
        has_bad_blocks: false,
        is_sound: true,
    };
    let inside = Volume {
        filesystem: "ext4".into(),
        size: 8 * MIB,
        ..Volume::default()
    };
    Volume {
        name: format!("{disk}{partition}"),
        node: format!("/dev/{disk}{partition}").into(),
        disk: disk.into(),
        number: partition,
        filesystem: MEMBER.into(),
        holds: Some(Holds::Member(member, Box::new(inside))),
        ..Volume::default()
    }
}

fn changed(volume: Volume, change: impl FnOnce(&mut Member)) -> Volume {
    let mut volume = volume;
    if let Some(Holds::Member(member, _)) = &mut volume.holds {
        change(member);
    }
    volume
}

#[test]
fn a_mirror_is_read_from_the_first_of_its_members_that_is_up_to_date() {
    let here = [
        member("root", "sdb", 2, Some(1), 7),
        member("root", "sda", 2, Some(0), 7),
        member("boot", "sda", 1, Some(0), 3),
        member("boot", "sdb", 1, Some(1), 5),
    ];
    let (mirrors, closed) = mirrors(&here);
    assert_eq!(closed, []);
    let [root, boot] = &mirrors[..] else {
        panic!("{mirrors:?}");
    };
    assert_eq!(root.lacks, None);
    assert_eq!(root.ground.volume.node.to_str(), Some("/dev/sda2"));
    assert_eq!((root.ground.start, root.ground.volume.size), (MIB, 8 * MIB));
    assert_eq!(root.ground.volume.names, ["/dev/md/root"]);
    assert!(root.ground.volume.is_on("sda") && root.ground.volume.is_on("sdb"));
    // The first one of the other was away when the second was written.
    assert_eq!(boot.ground.volume.node.to_str(), Some("/dev/sdb1"));
    assert_eq!(boot.members, [("sdb".to_owned(), 1)]);
    let told = "the array boot has 1 of its 2 disks here, and sda1 is old or not whole: it is read from sdb1";
    assert_eq!(boot.lacks.as_deref(), Some(told));
}

/// Not what the kernel would start, though it has all of itself.
#[test]
fn a_member_that_was_failed_out_is_not_read_where_a_newer_one_is_still_copied_to() {
    let here = [
        member("root", "sda", 2, Some(0), 9),
        member("root", "sdb", 2, None, 20),
    ];
    let (found, closed) = mirrors(&here);
    assert!(found.is_empty(), "{found:?}");
    assert!(closed[0].why.contains("has all of it"), "{closed:?}");
}

#[test]
fn a_member_with_blocks_that_could_not_be_written_is_the_last_choice() {
    let bad = |disk: &str, place: u16| {
        let one = member("root", disk, 2, Some(place), 7);
        changed(one, |it| it.has_bad_blocks = true)
    };
    let good = member("root", "sdb", 2, Some(1), 7);
    let (found, _) = mirrors(&[bad("sda", 0), good]);
    assert_eq!(found[0].ground.volume.node.to_str(), Some("/dev/sdb2"));
    let (found, closed) = mirrors(&[bad("sda", 0), bad("sdb", 1)]);
    assert!(found.is_empty(), "{found:?}");
    assert!(closed[0].why.contains("could not be written"), "{closed:?}");
}

#[test]
fn a_copy_of_a_member_beside_it_closes_the_array() {
    let one = |disk: &str| member("root", disk, 2, Some(0), 7);
    let (found, closed) = mirrors(&[one("sda"), one("sdc")]);
    assert!(found.is_empty(), "{found:?}");
    assert!(closed[0].why.contains("here twice"), "{closed:?}");
}

#[test]
fn an_array_that_no_member_has_all_of_is_closed_with_the_reason() {
    let one = || member("7", "sda", 1, Some(0), 1);
    let mut old = one();
    old.holds = None;
    for (volume, why) in [
        (changed(one(), |it| it.level = 5), "it is of level 5"),
        (changed(one(), |it| it.level = -1), "joined to one"),
        (
            changed(one(), |it| it.is_reshaping = true),
            "changing its form",
        ),
        (changed(one(), |it| it.is_sound = false), "has all of it"),
        (changed(one(), |it| it.place = None), "has all of it"),
        (old, "a format before 1.0"),
    ] {
        let (mirrors, closed) = mirrors(&[volume]);
        assert!(mirrors.is_empty(), "{mirrors:?}");
        assert_eq!(
            (closed[0].kind, &closed[0].on[..]),
            ("RAID", &["sda1".to_owned()][..])
        );
        assert!(closed[0].why.contains(why), "{closed:?}");
    }
    let (_, closed) = super::mirrors(&[changed(one(), |it| it.level = 5)]);
    assert_eq!(closed[0].names, ["/dev/md/7", "/dev/md7"]);
}

/// A part of the group `name`, as the physical volume `own` of `parts` tells it.
fn part(name: &str, id: &str, own: &str, parts: &[&str], sequence: u64) -> Volume {
    let group = VolumeGroup {
        name: name.into(),
        id: id.into(),
        sequence,
        own: own.into(),
        parts: parts.iter().map(|part| (*part).to_owned()).collect(),
        volumes: vec![LogicalVolume {
            name: format!("v{sequence}"),
            size: MIB,
            pieces: Ok(vec![Piece {
                part: own.into(),
                start: 0,
                length: MIB,
            }]),
        }],
    };
    Volume {
        name: format!("disk-{own}"),
        filesystem: PHYSICAL.into(),
        holds: Some(Holds::Group(Ok(group))),
        ..Volume::default()
    }
}

fn groups_on(here: &[Volume]) -> (Vec<Group>, Vec<Closed>) {
    groups(&grounds(here, &[]))
}

#[test]
fn a_group_is_as_its_newest_part_says_and_all_of_them_are_needed() {
    let two = ["a", "b"];
    let (found, closed) = groups_on(&[
        part("vg0", "1", "a", &two, 3),
        part("vg0", "1", "b", &two, 4),
    ]);
    assert_eq!(closed, []);
    assert_eq!(found[0].volumes[0].name, "v4");
    assert_eq!(found[0].parts.len(), 2);
    let (found, closed) = groups_on(&[part("vg0", "1", "b", &two, 4)]);
    assert!(found.is_empty());
    assert_eq!(closed[0].why, "1 of the 2 parts of the group vg0 are here");
    assert_eq!(closed[0].names, ["/dev/mapper/vg0-", "/dev/vg0/"]);
}

#[test]
fn groups_of_one_name_and_copies_of_a_group_are_closed() {
    let (found, closed) = groups_on(&[
        part("vg0", "1", "a", &["a"], 1),
        part("vg0", "2", "b", &["b"], 1),
        part("vg1", "3", "c", &["c"], 1),
    ]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, "vg1");
    assert_eq!(closed.len(), 2);
    assert!(
        closed[0].why.starts_with("two groups have the name vg0"),
        "{closed:?}"
    );
    let one = part("vg0", "1", "a", &["a"], 1);
    let (found, closed) = groups_on(&[one.clone(), one]);
    assert!(found.is_empty());
    assert!(closed[0].why.contains("is here twice"), "{closed:?}");
}

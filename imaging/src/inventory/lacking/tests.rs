use super::*;
use crate::event::Silent;
use crate::inventory::fake::{FakeDisk, FakeMachine};
use proptest::prelude::*;
use std::os::unix::fs::symlink;

/// As Debian 12's kernel says it: each try twice in its own words, and once in those of its makers.
const DEBIAN: &str = "\
[    3.901122] r8169 0000:02:00.0: firmware: failed to load rtl_nic/rtl8168h-2.fw (-2)
[    3.901130] firmware_class: See https://wiki.debian.org/Firmware for information about missing firmware
[    3.901163] r8169 0000:02:00.0: firmware: failed to load rtl_nic/rtl8168h-2.fw (-2)
[    3.901164] r8169 0000:02:00.0: Direct firmware load for rtl_nic/rtl8168h-2.fw failed with error -2
[    3.901165] r8169 0000:02:00.0: Unable to load firmware rtl_nic/rtl8168h-2.fw (-2)
[    4.210011] bnx2 0000:01:00.0: firmware: failed to load bnx2/bnx2-mips-09-6.2.1b.fw (-2)
[    4.210055] bnx2 0000:01:00.0: firmware: failed to load bnx2/bnx2-mips-09-6.2.1b.fw (-2)
[    4.210057] bnx2 0000:01:00.0: Direct firmware load for bnx2/bnx2-mips-09-6.2.1b.fw failed with error -2
[    4.210060] bnx2: Can't load firmware file \"bnx2/bnx2-mips-09-6.2.1b.fw\"
";

/// The same of a kernel as it comes from its makers.
const PLAIN: &str = "\
[    4.210044] bnx2 0000:01:00.0: Direct firmware load for bnx2/bnx2-mips-09-6.2.1b.fw failed with error -2
[    4.210060] bnx2: Can't load firmware file \"bnx2/bnx2-mips-09-6.2.1b.fw\"
[    5.000001] r8152 2-1:1.0: Direct firmware load for rtl_nic/rtl8153b-2.fw failed with error -2
[    5.000002] platform regulatory.0: Direct firmware load for regulatory.db failed with error -2
";

/// Of QEMU's `i82551`, word for word.
const SEEN: &str = "\
[    6.122061] e100 0000:00:01.0 eth0: addr 0xfebfe000, irq 21, MAC addr 52:54:00:12:34:56
[    6.282428] e100 0000:00:01.0: firmware: failed to load e100/d102e_ucode.bin (-2)
[    6.282730] firmware_class: See https://wiki.debian.org/Firmware for information about missing firmware
[    6.283033] e100 0000:00:01.0: firmware: failed to load e100/d102e_ucode.bin (-2)
[    6.283269] e100 0000:00:01.0: Direct firmware load for e100/d102e_ucode.bin failed with error -2
";

/// A newer file first, an older one then.
const FELL_BACK: &str = "\
[    4.000001] bnx2x 0000:01:00.0: firmware: failed to load bnx2x/bnx2x-e2-7.13.21.0.fw (-2)
[    4.000002] bnx2x 0000:01:00.0: firmware: direct-loading firmware bnx2x/bnx2x-e2-7.13.15.0.fw
";

fn machine(devices: &[(&str, &str)]) -> FakeMachine {
    let fake = FakeMachine::new();
    for (device, class) in devices {
        let folder = format!("bus/pci/devices/{device}");
        fake.write_sys(&format!("{folder}/class"), class);
        fake.write_sys(&format!("{folder}/vendor"), "0x14e4\n");
        fake.write_sys(&format!("{folder}/device"), "0x1639\n");
    }
    fake
}

/// Gives a device on `bus` a driver and a card.
fn card(fake: &FakeMachine, device: &str, name: &str, flags: &str) {
    fake.write_sys(&format!("{device}/driver/x"), "");
    fake.write_sys(&format!("class/net/{name}/flags"), flags);
    let sys = fake.machine().sysfs;
    symlink(
        sys.join(device),
        sys.join(format!("class/net/{name}/device")),
    )
    .unwrap();
}

fn judged(log: &str, fake: &FakeMachine) -> Vec<Lacking> {
    let sysfs = fake.machine().sysfs;
    let all = asked(log).into_iter();
    all.filter_map(|it| judge(it, &sysfs)).collect()
}

#[test]
fn a_card_that_does_nothing_without_its_file_is_told_with_the_set_that_has_it() {
    for log in [DEBIAN, PLAIN] {
        let fake = machine(&[("0000:01:00.0", "0x020000")]);
        // Its driver has it, and cannot switch it on.
        card(&fake, "bus/pci/devices/0000:01:00.0", "eth0", "0x1002\n");
        let found = judged(log, &fake);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].cards, ["eth0"]);
        assert!(found[0].is_network());
        assert_eq!(
            idle(&[], &found).unwrap(),
            "the network card 01:00.0 [14e4:1639] did not come up: its driver bnx2 asked for the firmware \
             bnx2/bnx2-mips-09-6.2.1b.fw, which is not in this image: `make image FIRMWARE=bnx2` puts it in (Debian's \
             firmware-bnx2)"
        );
    }
}

#[test]
fn what_an_emulated_card_was_seen_to_lack_is_told() {
    let fake = machine(&[("0000:00:01.0", "0x020000")]);
    card(&fake, "bus/pci/devices/0000:00:01.0", "eth0", "0x1002\n");
    let found = judged(SEEN, &fake);
    assert_eq!(found[0].files, ["e100/d102e_ucode.bin"]);
    let text = idle(&[], &found).unwrap();
    assert!(
        text.contains("`make image FIRMWARE=misc-nonfree` puts it in"),
        "{text}"
    );
}

#[test]
fn a_card_that_works_all_the_same_is_no_trouble() {
    let fake = machine(&[("0000:02:00.0", "0x020000")]);
    let device = "bus/pci/devices/0000:02:00.0";
    card(&fake, device, "eth0", "0x1003\n");
    let found = judged(DEBIAN, &fake);
    assert!(found[0].works, "{found:?}");
    assert_eq!(idle(&[], &found), None);
    assert!(
        found[0].to_string().starts_with(
            "the network card 02:00.0 [14e4:1639] works, but its driver r8169 asked for the firmware rtl_nic/rtl8168h-2.fw,"
        ),
        "{}",
        found[0]
    );
}

#[test]
fn a_driver_that_got_on_with_another_file_lacks_none() {
    let fake = machine(&[("0000:01:00.0", "0x020000")]);
    card(&fake, "bus/pci/devices/0000:01:00.0", "eth0", "0x1003\n");
    assert_eq!(judged(FELL_BACK, &fake), []);
    let came_later = "[    9.000000] bnx2 0000:01:00.0: firmware: direct-loading firmware bnx2/bnx2-mips-09-6.2.1b.fw\n";
    let asked = asked(&format!("{DEBIAN}{came_later}"));
    assert!(asked.iter().all(|it| it.driver != "bnx2"), "{asked:?}");
}

#[test]
fn a_controller_is_judged_by_its_disks_and_what_boots_nothing_is_not_told() {
    let log = "[ 1.000000] qla1280 0000:03:00.0: Direct firmware load for qlogic/12160.bin failed with error -2\n\
               [ 1.000001] i915 0000:00:02.0: Direct firmware load for i915/dmc.bin failed with error -2\n\
               [ 1.000002] x 0000:00:09.0: Direct firmware load for x.bin failed with error -110\n";
    let fake = machine(&[
        ("0000:03:00.0", "0x010000"),
        ("0000:00:02.0", "0x030000"),
        ("0000:00:09.0", "0x020000"),
    ]);
    let found = judged(log, &fake);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(!found[0].works && !found[0].is_network());
    // A part without a driver is told once.
    let undriven = undriven::read(&fake.machine().sysfs);
    let text = idle(&undriven, &found).unwrap();
    assert_eq!(text.matches("03:00.0").count(), 1, "{text}");
    assert!(text.contains("FIRMWARE=qlogic") && text.contains("no driver of this image works"));

    fake.add(&FakeDisk::new("sda", 4096));
    let sys = fake.machine().sysfs;
    fs::remove_dir_all(sys.join("bus/pci/devices/0000:03:00.0")).unwrap();
    symlink(
        sys.join("devices/pci0"),
        sys.join("bus/pci/devices/0000:03:00.0"),
    )
    .unwrap();
    fake.write_sys("devices/pci0/class", "0x010000\n");
    assert!(judged(log, &fake)[0].works);
}

#[test]
fn a_card_on_usb_is_told_by_its_place() {
    let fake = FakeMachine::new();
    let device = "bus/usb/devices/2-1:1.0";
    fake.write_sys("bus/platform/devices/regulatory.0/x", "");
    card(&fake, device, "eth1", "0x1003\n");
    let found = judged(PLAIN, &fake);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].works);
    assert!(
        found[0]
            .to_string()
            .starts_with("the device 2-1:1.0 works, but its driver r8152 ")
    );
}

#[test]
fn many_files_are_counted_and_an_unknown_one_names_no_set() {
    let files: Vec<String> = (0..5).map(|n| format!("new/{n}.bin")).collect();
    let text = sentence("device x", "new", &files, false);
    assert!(
        text.contains("new/0.bin, new/1.bin, new/2.bin and 2 more, which are not in this image")
    );
    assert!(text.ends_with("give the folder that has them to `mkimage build --firmware`"));
}

#[test]
fn a_machine_without_a_kernel_log_lacks_nothing() {
    assert_eq!(read(&FakeMachine::new().machine()), []);
    tell(&FakeMachine::new().machine(), &[], &Silent);
}

proptest! {
    #[test]
    fn any_log_is_read(text in "(\\PC|\n|\\] |: firmware: failed to load | \\(-2\\)|: Direct firmware load for )*") {
        let _ = asked(&text);
    }

    #[test]
    fn every_file_is_found_again(
        who in "[a-z0-9_]{1,12}",
        device in "[0-9a-f:.-]{1,14}",
        files in prop::collection::btree_set("[a-z0-9/._ -]{0,20}[a-z0-9]", 1..MOST_FILES),
        debian in any::<bool>(),
    ) {
        let (before, behind) = FAILED[usize::from(!debian)];
        let line = |file: &String| format!("[    1.000000] {who} {device}{before}{file}{behind}\n");
        let lines: Vec<String> = files.iter().map(line).collect();
        let all = asked(&lines.concat().repeat(2));
        prop_assert_eq!(all.len(), 1);
        let files: Vec<String> = files.into_iter().collect();
        prop_assert_eq!((&all[0].driver, &all[0].device, &all[0].missing), (&who, &device, &files));
    }
}

use super::*;
use crate::test_tree::{Told, script, text, tree, with_shell};
use std::fs;
use std::process::Command;

const OLD: &str = "6a7b8c9d-0000-4111-8222-333344445555";
const NEW: &str = "0f0f0f0f-1111-4222-8333-abcdefabcdef";

fn map() -> Vec<Changed> {
    [(OLD, NEW), ("ABCD-1234", "EF01-5678")]
        .map(|(from, to)| Changed {
            from: from.into(),
            to: to.into(),
        })
        .into()
}

#[test]
fn all_that_boots_a_tree_names_the_new_ones() {
    let grubenv = format!(
        "# GRUB Environment Block\nkernelopts=root=UUID={OLD} ro\n{}",
        "#".repeat(900)
    );
    let named = format!("x UUID={OLD} y ABCD-1234\n");
    let paths = [
        "etc/fstab",
        "etc/crypttab",
        "etc/default/grub",
        "etc/default/grub.d/50-x.cfg",
        "etc/kernel/cmdline",
        "etc/initramfs-tools/conf.d/resume",
        "etc/dracut.conf.d/x.conf",
        "etc/systemd/system/srv.mount",
        "boot/grub/grub.cfg",
        "boot/loader/entries/0123-6.1.conf",
        "boot/efi/loader/entries/a.conf",
        "efi/loader/entries/a.conf",
        "boot/efi/EFI/debian/grub.cfg",
        "boot/EFI/fedora/grub.cfg",
        "boot/extlinux/extlinux.conf",
        "boot/efi/EFI/debian/grubx64.efi",
    ];
    let mut all: Vec<(&str, &str)> = paths.map(|path| (path, named.as_str())).into();
    all.push(("boot/grub2/grubenv", &grubenv));
    all.push(("home/x/notes", &named));
    let (_folder, root) = tree(&all);
    let mut written = rewrite(&root, &map(), &Told::default()).unwrap();
    written.sort();
    let mut expected: Vec<&str> = paths.into();
    expected.push("boot/grub2/grubenv");
    expected.sort_unstable();
    assert_eq!(written, expected);
    for path in paths {
        assert_eq!(
            text(&root, path),
            format!("x UUID={NEW} y EF01-5678\n"),
            "{path}"
        );
    }
    assert_eq!(text(&root, "boot/grub2/grubenv"), grubenv.replace(OLD, NEW));
    assert_eq!(text(&root, "home/x/notes"), named);
    let uneven = [Changed {
        from: OLD.into(),
        to: "short".into(),
    }];
    let error = rewrite(&root, &uneven, &Told::default()).unwrap_err();
    assert!(error.to_string().ends_with("they are not equally long"));
}

/// A program of the firmware with a command line, as `objcopy` makes a unified kernel image.
fn unified(folder: &std::path::Path) -> std::path::PathBuf {
    let (line, image) = (folder.join("cmdline"), folder.join("linux.efi"));
    fs::write(&line, format!("root=UUID={OLD} ro")).unwrap();
    let made = Command::new("objcopy")
        .args(["--add-section", &format!(".cmdline={}", line.display())])
        .args(["--change-section-vma", ".cmdline=0x30000"])
        .arg("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
        .arg(&image)
        .status()
        .expect("install binutils");
    assert!(made.success(), "install systemd-boot-efi");
    image
}

#[test]
fn a_signed_kernel_image_that_names_an_old_one_is_refused_and_an_unsigned_one_changed() {
    let folder = tempfile::tempdir().unwrap();
    let image = unified(folder.path());
    let unsigned = fs::read(&image).unwrap();
    let path = "boot/efi/EFI/Linux/debian-6.1.efi";
    check_program(path, &unsigned, &map()).unwrap();
    let (key, certificate) = (folder.path().join("key"), folder.path().join("cert"));
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("install openssl");
    assert!(made.status.success());
    let signed = Command::new("sbsign")
        .arg("--key")
        .arg(&key)
        .arg("--cert")
        .arg(&certificate)
        .arg(&image)
        .output()
        .expect("install sbsigntool");
    assert!(signed.status.success(), "{signed:?}");
    let signed = fs::read(image.with_extension("efi.signed")).unwrap();
    let error = check_program(path, &signed, &map())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!(
            "{path} is signed and names {OLD}: new identifiers would break"
        )),
        "{error}"
    );
    // One that goes by labels may be signed.
    let others = [Changed {
        from: NEW.into(),
        to: OLD.into(),
    }];
    check_program(path, &signed, &others).unwrap();

    let (_tree, root) = tree(&[]);
    fs::create_dir_all(root.path().join("boot/efi/EFI/Linux")).unwrap();
    fs::write(root.path().join(path), &unsigned).unwrap();
    assert_eq!(rewrite(&root, &map(), &Told::default()).unwrap(), [path]);
    let after = fs::read(root.path().join(path)).unwrap();
    let line = format!("root=UUID={NEW} ro");
    assert!(
        after
            .windows(line.len())
            .any(|part| part == line.as_bytes())
    );
}

#[test]
fn the_trees_own_program_makes_its_boot_configuration() {
    let (_folder, root) = tree(&[("boot/grub/grub.cfg", "old\n")]);
    with_shell(&root);
    let chroot = Chroot::enter(&root, None).unwrap();
    rebuild(&chroot, &Told::default()).unwrap();
    assert_eq!(text(&root, "boot/grub/grub.cfg"), "old\n");
    script(
        &root,
        "usr/sbin/grub-mkconfig",
        "echo new $GRUB_DISABLE_OS_PROBER >$2",
    );
    rebuild(&chroot, &Told::default()).unwrap();
    assert_eq!(text(&root, "boot/grub/grub.cfg"), "new true\n");
    script(&root, "usr/sbin/grub-mkconfig", "exit 1");
    let error = rebuild(&chroot, &Told::default()).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "making /boot/grub/grub.cfg anew: grub-mkconfig ended with status 1"
    );
}

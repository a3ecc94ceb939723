//! Configurations that name a network card by its address: on another machine they would be for no card.

use super::{Given, is_given};
use crate::files::Files;
use pitstop_imaging::event::Reporter;

const CONNECTIONS: &str = "etc/NetworkManager/system-connections";
/// Folder, and how the names of its files begin and end.
const IFCFG: [&str; 2] = ["etc/sysconfig/network-scripts", "etc/sysconfig/network"];
/// Where somebody may have written an address for a reason: told, and left.
const OTHERS: [(&str, &[&str]); 4] = [
    ("etc/netplan", &[".yaml", ".yml"]),
    ("etc/systemd/network", &[".link", ".network", ".netdev"]),
    ("etc/network/interfaces.d", &[""]),
    ("etc/udev/rules.d", &[".rules"]),
];
const INTERFACES: &str = "etc/network/interfaces";
/// Keys whose value is the address of a card, or one that two machines must not have.
const NM_KEYS: [&str; 2] = ["mac-address", "cloned-mac-address"];
const IFCFG_KEYS: [&str; 2] = ["HWADDR", "MACADDR"];

/// Takes the addresses of cards out of `NetworkManager`'s connections and out of `ifcfg` files; tells of others.
pub fn unbind(files: &Files, given: &Given, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let free = |path: &str, keys: &[&str]| {
        if is_given(given, path) {
            return Ok(());
        }
        drop_keys(files, path, keys, reporter)
    };
    for name in files.list(CONNECTIONS)? {
        free(&format!("{CONNECTIONS}/{name}"), &NM_KEYS)?;
    }
    for folder in IFCFG {
        let names = files.list(folder)?;
        for name in names.iter().filter(|name| name.starts_with("ifcfg-")) {
            free(&format!("{folder}/{name}"), &IFCFG_KEYS)?;
        }
    }
    let mut others = vec![INTERFACES.to_owned()];
    for (folder, ends) in OTHERS {
        let names = files.list(folder)?.into_iter();
        let names = names.filter(|name| ends.iter().any(|end| name.ends_with(end)));
        others.extend(names.map(|name| format!("{folder}/{name}")));
    }
    others.retain(|path| !is_given(given, path));
    for path in others {
        let text = files.text(&path)?.unwrap_or_default();
        if text.lines().any(names_card) {
            reporter.warn(format!(
                "/{path} names a network card by its address, and stays as it is: on this machine it may be for no card"
            ));
        }
    }
    Ok(())
}

fn drop_keys(
    files: &Files,
    path: &str,
    keys: &[&str],
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let Some(bytes) = files.read(path)? else {
        return Ok(());
    };
    let after = without_keys(&bytes, keys);
    if after != bytes {
        files.write(path, &after, 0o600)?;
        reporter.info(format!(
            "/{path} is no longer for one network card by its address"
        ));
    }
    Ok(())
}

/// Without the lines that give one of `keys` the address of a card.
fn without_keys(text: &[u8], keys: &[&str]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let kept = lines.filter(|line| {
        let line = String::from_utf8_lossy(line);
        match line.split_once('=') {
            Some((key, value)) => !keys.contains(&key.trim()) || !has_address(value),
            None => true,
        }
    });
    kept.flatten().copied().collect()
}

/// Whether a line that is no comment has an address.
fn names_card(line: &str) -> bool {
    !line.trim_start().starts_with(['#', ';']) && has_address(line)
}

/// Six pairs of hex digits with colons or dashes between them.
fn has_address(text: &str) -> bool {
    const LENGTH: usize = 17;
    let bytes = text.as_bytes();
    bytes.windows(LENGTH).enumerate().any(|(at, window)| {
        let shape = window.iter().enumerate().all(|(at, byte)| match at % 3 {
            2 => matches!(byte, b':' | b'-') && *byte == window[2],
            _ => byte.is_ascii_hexdigit(),
        });
        let alone = |byte: Option<&u8>| {
            byte.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != window[2])
        };
        shape
            && alone(bytes.get(at + LENGTH))
            && alone(at.checked_sub(1).and_then(|at| bytes.get(at)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_tree::{Told, text, tree};
    use proptest::prelude::*;

    #[test]
    fn connections_are_freed_of_cards_and_others_are_told() {
        let connection = "[connection]\nid=lan\n[ethernet]\nmac-address=52:54:00:12:34:56\ncloned-mac-address=stable\n[ipv4]\nmethod=auto\n";
        let (_folder, root) = tree(&[
            (
                "etc/NetworkManager/system-connections/lan.nmconnection",
                connection,
            ),
            (
                "etc/sysconfig/network-scripts/ifcfg-eth0",
                "DEVICE=eth0\nHWADDR=\"52:54:00:12:34:56\"\nONBOOT=yes\n",
            ),
            (
                "etc/netplan/50-cloud-init.yaml",
                "match:\n  macaddress: \"52:54:00:12:34:56\"\n",
            ),
            (
                "etc/network/interfaces",
                "# 52:54:00:12:34:56\niface eth0 inet dhcp\n",
            ),
        ]);
        let told = Told::default();
        unbind(&Files::of(&root).unwrap(), &Given::new(), &told).unwrap();
        let after = text(
            &root,
            "etc/NetworkManager/system-connections/lan.nmconnection",
        );
        assert_eq!(
            after,
            connection.replace("mac-address=52:54:00:12:34:56\n", "")
        );
        assert_eq!(
            text(&root, "etc/sysconfig/network-scripts/ifcfg-eth0"),
            "DEVICE=eth0\nONBOOT=yes\n"
        );
        assert!(told.has("/etc/netplan/50-cloud-init.yaml names a network card"));
        assert!(!told.has("interfaces"), "{:?}", told.lines());
    }

    #[test]
    fn addresses_of_cards_are_told_from_other_numbers() {
        for (text, is) in [
            ("52:54:00:12:34:56", true),
            ("x=\"52-54-00-12-34-5F\";", true),
            ("2001:db8:00:11:22:33:44:55", false),
            ("00:11:22:33:44:55:66:77", false),
            ("52:54:00:12:34:5", false),
            ("52:54-00:12:34:56", false),
        ] {
            assert_eq!(has_address(text), is, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_no_such_key_stays(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let after = without_keys(&bytes, &NM_KEYS);
            prop_assert!(after == bytes || bytes.windows(11).any(|window| window == b"mac-address"));
        }
    }
}

//! What is asked of a deploy whose layout has `[[luks]]`.

use crate::disk::Deployment;
use crate::disk::volumes::Volumes;
use crate::wishes::BootWish;
use anyhow::bail;
use pitstop_imaging::layout::stack::{On, Slot};

/// What is read before anybody can type a passphrase.
const OPEN: [&str; 3] = ["/boot", "/boot/grub", "/boot/grub2"];

/// Whether there is a passphrase where one is needed, and what starts the system can be read without it.
///
/// # Errors
/// When it is not so, with what to do.
pub fn check(deployment: &Deployment, volumes: &Volumes) -> anyhow::Result<()> {
    match (volumes.layout.luks.first(), &deployment.passphrase) {
        (None, None) => return Ok(()),
        (None, Some(_)) => bail!(
            "there is a passphrase for LUKS, and the layout has no [[luks]]: nothing would be encrypted"
        ),
        (Some(luks), None) => bail!(
            "the layout has [[luks]] {:?}, and there is no passphrase for it: name the file that has it, luks-key in a host file, \
             --luks-key for pitstop tree deploy",
            luks.name
        ),
        (Some(_), Some(_)) => {}
    }
    if deployment.boot == BootWish::None {
        return Ok(());
    }
    for path in OPEN {
        let Some(volume) = volumes.of(path) else {
            continue;
        };
        let (slot, _) = volumes.slot(volume.index);
        if volumes.layout.is_encrypted(slot) {
            bail!(
                "{path} would be on {slot}, which what starts the system cannot read: give /boot a partition or an array of its own \
                 (boot = \"none\" leaves booting to you)"
            );
        }
    }
    Ok(())
}

/// What the initramfs has to open, since the root is on it: names of `[[luks]]`.
pub fn opened_early(volumes: &Volumes) -> Vec<String> {
    let Some(root) = volumes.of("/") else {
        return Vec::new();
    };
    match volumes.slot(root.index).0 {
        Slot::Partition | Slot::Array(_) => Vec::new(),
        Slot::Luks(luks) => vec![luks.name.clone()],
        Slot::Volume(group, _) => {
            let all = volumes.layout.luks.iter();
            let under = all.filter(|luks| group.on.contains(&On::Name(luks.name.clone())));
            under.map(|luks| luks.name.clone()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fstab::Fstab;
    use crate::disk::volumes::assign;
    use pitstop_imaging::layout::Layout;
    use pitstop_trees::Meta;

    const PARTITIONS: &str = "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"linux\"\nsize = \"200MiB\"\n\
                              [[partition]]\ntype = \"luks\"\nsize = \"1GiB\"\n[[partition]]\ntype = \"luks\"\nsize = \"fill\"\n";

    fn volumes(rest: &str) -> Volumes {
        let layout = Layout::parse(&format!("{PARTITIONS}{rest}")).unwrap();
        assign(layout, &Meta::default(), &Fstab::parse(""), false).unwrap()
    }

    #[test]
    fn the_initramfs_opens_what_the_root_is_on_and_nothing_else() {
        let home = "[[luks]]\nname = \"home\"\non = 2\nfilesystem = \"ext4\"\nmount = \"/home\"\n";
        let root = "[[luks]]\nname = \"system\"\non = 3\nfilesystem = \"ext4\"\nmount = \"/\"\n";
        assert_eq!(opened_early(&volumes(&format!("{home}{root}"))), ["system"]);
        let group = "[[luks]]\nname = \"system\"\non = 3\n[[lvm]]\ngroup = \"g\"\non = [\"system\"]\n\
                     volumes = [{ name = \"r\", size = \"fill\", filesystem = \"ext4\", mount = \"/\" }]\n";
        assert_eq!(
            opened_early(&volumes(&format!("{home}{group}"))),
            ["system"]
        );
        let plain = group.replace("on = [\"system\"]", "on = [1]");
        assert!(opened_early(&volumes(&plain)).is_empty());
    }
}

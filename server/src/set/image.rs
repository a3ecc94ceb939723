//! Which images a machine has on the share, as far as the server's own folder shows it.

use cap_std::fs::Dir;
use pitstop_imaging::image::encrypted::SUFFIX;
use std::io::ErrorKind;

/// What `backup` writes, and what `restore` also reads.
const GZIP: &str = ".gz";
const OTHERS: [&str; 4] = [".xz", ".zst", ".raw", ".img"];

/// Images in one folder of the share.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// File names, in order.
    pub names: Vec<String>,
}

impl Images {
    /// Looks into `folder` of the share; one that is not there has none.
    pub fn find(share: &Dir, folder: &str) -> std::io::Result<Self> {
        let entries = match share.read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if is_gzip(&name) || OTHERS.iter().any(|end| name.ends_with(end)) {
                names.push(name);
            }
        }
        names.sort();
        Ok(Self { names })
    }

    /// Those that a `backup` of the disks with these names would meet; of all disks, if there are no names.
    pub fn in_the_way(&self, disks: &[String]) -> Vec<&str> {
        let gzip = self.names.iter().filter(|name| is_gzip(name));
        gzip.filter(|name| disks.is_empty() || disks.iter().any(|disk| is_of(name, disk)))
            .map(String::as_str)
            .collect()
    }

    /// The first of these disks that has no image; the whole folder, if there are no names.
    pub fn lacks<'a>(&self, disks: &'a [String]) -> Option<&'a str> {
        if disks.is_empty() {
            return self.names.is_empty().then_some("any disk");
        }
        disks
            .iter()
            .find(|disk| !self.names.iter().any(|name| is_of(name, disk)))
            .map(String::as_str)
    }
}

/// Encrypted or not.
fn is_gzip(name: &str) -> bool {
    name.strip_suffix(SUFFIX).unwrap_or(name).ends_with(GZIP)
}

/// `sda.raw.gz` and `sda.gz` are of `sda`.
fn is_of(name: &str, disk: &str) -> bool {
    name.strip_prefix(disk)
        .is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;

    #[test]
    fn images_are_told_from_what_lies_beside_them() {
        let temp = tempfile::tempdir().unwrap();
        let share = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        assert_eq!(
            Images::find(&share, "10.0.2.15").unwrap(),
            Images::default()
        );
        share.create_dir("10.0.2.15").unwrap();
        for name in [
            "sda.raw.gz",
            "sda.raw.gz.toml",
            "sda.raw.gz.old",
            "sdb.raw.gz.part",
            "sdc.xz",
            "sdd.raw.gz.age",
            "sdd.raw.gz.age.toml",
            "maintenance.log",
            "testbox-info.zip",
        ] {
            share.write(format!("10.0.2.15/{name}"), "").unwrap();
        }
        let images = Images::find(&share, "10.0.2.15").unwrap();
        assert_eq!(images.names, ["sda.raw.gz", "sdc.xz", "sdd.raw.gz.age"]);
        assert_eq!(images.in_the_way(&[]), ["sda.raw.gz", "sdd.raw.gz.age"]);
        assert_eq!(images.in_the_way(&["sdb".into()]), [""; 0]);
        assert_eq!(images.lacks(&[]), None);
        assert_eq!(images.lacks(&["sda".into(), "sdb".into()]), Some("sdb"));
        assert_eq!(Images::default().lacks(&[]), Some("any disk"));
    }
}

//! A folder of files by layer as one tar, `layers/base.tar` of `layers/base`: a machine that reaches the share over HTTP cannot
//! list a folder. Made on request, in the order of the names, and kept as long as the folder is as it was; all of it is root's.

mod kept;
mod tar;

pub use kept::Kept;

use crate::file::Facts;
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::site::Site;
use cap_std::fs::{Dir, File};
use cap_tempfile::TempFile;
use pitstop_protocol::tree::{LAYER, LAYERS};
use std::io::{self, Seek};
use std::sync::Arc;

/// The folder that `path` is the tar of, if it is one of a layer that is there, and no file of that name is.
fn folder_of(share: &Dir, path: &RelPath) -> Option<Dir> {
    path.below(LAYERS)?;
    let folder = path.as_str().strip_suffix(LAYER)?;
    // A file that somebody put there is that file.
    if share.exists(path.as_path()) || folder.ends_with('/') || folder == LAYERS {
        return None;
    }
    share.open_dir(folder).ok()
}

/// The tar of the layer that `path` asks for, as a file without a name, and what clients are told of it; `None` of anything else.
///
/// # Errors
/// A file in it cannot be read, or the share has no room.
pub async fn of(site: &Arc<Site>, path: &RelPath) -> Result<Option<(File, Facts)>, Refusal> {
    let (site, path) = (Arc::clone(site), path.clone());
    blocking(move || {
        let failed = |error: &io::Error| Refusal::io(&format!("making {path}"), error);
        let Some(folder) = folder_of(&site.share, &path) else {
            return Ok(None);
        };
        let made = site.layers.get(&site.share, path.as_str(), &folder);
        let made = made.map_err(|error| failed(&error))?;
        Ok(Some(made))
    })
    .await
}

fn packed(share: &Dir, folder: &Dir) -> io::Result<(File, Facts)> {
    let mut file = TempFile::new_anonymous(share)?;
    let mut out = io::BufWriter::new(Hashed {
        file: &mut file,
        hasher: blake3::Hasher::new(),
    });
    tar::write(folder, &mut out)?;
    let hashed = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    let hash = hashed.hasher.finalize().to_hex();
    file.rewind()?;
    let facts = Facts {
        length: file.metadata()?.len(),
        // It is made just now, and is no other than an hour ago.
        modified: None,
        tag: format!("\"{hash}\"").parse().ok(),
    };
    Ok((file, facts))
}

/// Made anew for each request, a tar has its bytes alone to be known by: a download that broke goes on by them.
struct Hashed<'a> {
    file: &'a mut File,
    hasher: blake3::Hasher,
}

impl io::Write for Hashed<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.file.write(data)?;
        self.hasher.update(&data[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    fn at(text: &str) -> RelPath {
        RelPath::from_text(text).unwrap()
    }

    /// What GNU tar lists, and the bytes.
    fn listed(share: &Dir, path: &str) -> (String, Vec<u8>) {
        let folder = folder_of(share, &at(path)).unwrap();
        let (mut file, facts) = packed(share, &folder).unwrap();
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        assert_eq!(facts.length, bytes.len() as u64);
        let tar = tempfile::NamedTempFile::new().unwrap();
        fs::write(tar.path(), &bytes).unwrap();
        let output = Command::new("tar")
            .args(["--numeric-owner", "-tvf"])
            .arg(tar.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), bytes)
    }

    #[test]
    fn a_layer_is_one_tar_of_roots_in_the_order_of_names() {
        let root = tempfile::tempdir().unwrap();
        let on = |path: &str| root.path().join(path);
        let long = "n".repeat(180);
        fs::create_dir_all(on("layers/base/etc/cron.d")).unwrap();
        fs::create_dir_all(on("secret")).unwrap();
        fs::write(on("secret/key"), "mine").unwrap();
        fs::write(on("layers/base/etc/motd"), "hello\n").unwrap();
        fs::write(on(&format!("layers/base/etc/{long}")), "").unwrap();
        fs::write(on("layers/base/run-me"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(on("layers/base/run-me"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("../../../secret", on("layers/base/etc/out")).unwrap();
        symlink("../../secret", on("layers/base/folder")).unwrap();
        let share = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        let (list, bytes) = listed(&share, "layers/base.tar");
        let names: Vec<&str> = list
            .lines()
            .map(|line| line.split_whitespace().nth(5).unwrap())
            .collect();
        let with_long = format!("etc/{long}");
        assert_eq!(
            names,
            [
                "etc/",
                "etc/cron.d/",
                "etc/motd",
                &with_long,
                "etc/out",
                "folder",
                "run-me"
            ]
        );
        assert!(list.lines().all(|line| line.contains(" 0/0 ")), "{list}");
        assert!(list.contains("-rwsr-xr-x"), "{list}");
        // Links are told, and nothing behind them.
        assert!(list.contains("etc/out -> ../../../secret"), "{list}");
        assert!(!bytes.windows(4).any(|window| window == b"mine"));
        assert_eq!(listed(&share, "layers/base.tar").1, bytes, "the same again");
    }

    #[test]
    fn a_download_of_a_tar_that_broke_goes_on() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("layers/base");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a"), "one").unwrap();
        let share = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        let tag = || {
            let folder = folder_of(&share, &at("layers/base.tar")).unwrap();
            packed(&share, &folder).unwrap().1.tag.unwrap()
        };
        let first = tag();
        assert_eq!(tag(), first);
        // Of the same length, and in the same second.
        fs::write(folder.join("a"), "two").unwrap();
        assert_ne!(tag(), first);
    }

    #[test]
    fn only_folders_of_layers_become_tars() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["layers/base", "10.0.2.15", "layers/out"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("layers/file"), "").unwrap();
        fs::write(root.path().join("layers/out.tar"), "somebody's own").unwrap();
        symlink("/etc", root.path().join("layers/etc")).unwrap();
        let share = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        let is = |path: &str| folder_of(&share, &at(path)).is_some();
        assert!(is("layers/base.tar"));
        for no in [
            "layers.tar",
            "10.0.2.15.tar",
            "layers/file.tar",
            "layers/out.tar",
            "layers/none.tar",
            "layers/base",
            "layers/etc.tar",
            "layers/.tar",
        ] {
            assert!(!is(no), "{no}");
        }
    }
}

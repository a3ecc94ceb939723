//! Trees of the server's own share: whether a job's tree is there, with what is laid over it.

use super::Conflict;
use anyhow::{Context, bail};
use pitstop_imaging::image::encrypted::is_named_encrypted;
use pitstop_imaging::image::members::{FOOTER, parse_footer};
use pitstop_protocol::digest::Digest;
use pitstop_protocol::job::{Action, Job};
use pitstop_protocol::tree::{self, TreeName};
use pitstop_transport::share::{DirectoryShare, Share, trees};
use std::path::Path;

/// Looks for what the job takes from the share of this root, or adds to it.
///
/// # Errors
/// [`Conflict`]: it is not there, or a version that would be added is.
pub(super) fn check(root: &Path, job: &Job) -> anyhow::Result<()> {
    let path = root.join("share");
    let there = |image: String| path.join(image).exists();
    if let Action::Capture(options) = &job.action
        && let Some(version) = &options.version
        && (there(tree::image(&options.name, version))
            || there(tree::encrypted_image(&options.name, version)))
    {
        return Err(Conflict(format!(
            "{} has a version {version} already, and versions are never replaced",
            options.name
        ))
        .into());
    }
    let Some(parts) = job.action.tree_parts() else {
        return Ok(());
    };
    let share = DirectoryShare::open(&path)?;
    if let TreeName::Named { .. } = parts.tree
        && let Err(error) = trees::find(&share, parts.tree)
    {
        return Err(Conflict(format!("{error:#}")).into());
    }
    let files = parts.overrides.iter().chain(parts.hooks);
    for file in files.map(String::as_str).chain(parts.secrets) {
        if !path.join(file).exists() {
            return Err(Conflict(format!("there is no {file} in {}", path.display())).into());
        }
    }
    Ok(())
}

/// What a signed job says of the tree: the BLAKE3 of its index, from the image's footer.
pub(super) fn digest(share: &DirectoryShare, name: &TreeName) -> anyhow::Result<String> {
    if let TreeName::Url(_) = name {
        bail!(
            "{name} is not on this server, and its digest cannot be read here: write the host file by hand, and sign it \
             with minisign -S"
        );
    }
    let found = trees::find(share, name)?;
    if is_named_encrypted(&found) {
        bail!(
            "{found} is encrypted, and its digest cannot be read here: pitstop tree inspect shows it to who has the key; \
             write the host file by hand, and sign it with minisign -S"
        );
    }
    let image = share.image(&found)?;
    let mut footer = [0; FOOTER];
    let at = image.size().checked_sub(FOOTER as u64);
    let at = at.with_context(|| format!("{found} is no image of a tree"))?;
    image
        .read_exact_at(&mut footer, at)
        .with_context(|| format!("reading the end of {found}"))?;
    let footer = parse_footer(&footer, image.size()).with_context(|| found.clone())?;
    Ok(Digest(footer.hash).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_protocol::job::preview;
    use std::fs;

    fn checked(root: &Path, keys: &str) -> Result<(), String> {
        let url = "http://srv:8080/hosts/0A00020F.toml".parse().unwrap();
        let text = format!("version = 1\nshare = \"http://srv:8080/share\"\n{keys}");
        let job = preview(text.as_bytes(), &url, "10.0.2.15".parse().ok()).unwrap();
        check(root, &job).map_err(|error| {
            assert!(error.is::<Conflict>(), "{error:#}");
            error.to_string()
        })
    }

    #[test]
    fn what_a_job_takes_from_the_share_is_looked_for_when_it_is_set() {
        let root = tempfile::tempdir().unwrap();
        let on = |path: &str| root.path().join("share").join(path);
        for folder in ["trees/web", "layers/base", "hooks"] {
            fs::create_dir_all(on(folder)).unwrap();
        }
        let told = |keys: &str| checked(root.path(), keys);
        let deploy = "action = \"deploy\"\ntree = \"web\"\n";
        let error = told(deploy).unwrap_err();
        assert!(error.starts_with("there is no tree web"), "{error}");
        fs::write(on("trees/web/1.tar.gz"), "").unwrap();
        fs::write(on("trees/web/current"), "1\n").unwrap();
        told(deploy).unwrap();
        told("action = \"run\"\ntree = \"web@1\"\n").unwrap();
        let error = told("action = \"update\"\ntree = \"web@2\"\n").unwrap_err();
        assert!(error.starts_with("web has no version 2"), "{error}");
        let with = |keys: &str| told(&format!("{deploy}{keys}"));
        with("overrides = [\"layers/base\"]").unwrap();
        let error = with("overrides = [\"layers/lab\"]").unwrap_err();
        assert!(error.starts_with("there is no layers/lab in"), "{error}");
        let error = with("hooks = [\"hooks/10-x.sh\"]").unwrap_err();
        assert!(error.starts_with("there is no hooks/10-x.sh in"), "{error}");
        // A capture needs no tree, and replaces none.
        told("action = \"capture\"\ntree = \"new\"\n").unwrap();
        let error = told("action = \"capture\"\ntree = \"web@1\"\n").unwrap_err();
        assert!(error.contains("never replaced"), "{error}");
        told("action = \"backup\"\n").unwrap();
    }
}

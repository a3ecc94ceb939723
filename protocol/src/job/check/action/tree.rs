//! The options of actions about trees.

use super::{layout, recipients, word};
use crate::job::check::{Wrong, at, general};
use crate::job::host_file_search::Placeholders;
use crate::job::hostfile::HostFile;
use crate::job::options::RECIPIENTS;
use crate::job::{CaptureOptions, DeployOptions, RunOptions, UpdateOptions, check_folder};
use crate::tree::{self, TreeName};
use pitstop_imaging::image::encrypted::{SUFFIX, is_named_encrypted};

/// RFC 1123 2.1, and what Linux has room for (`HOST_NAME_MAX`).
const LONGEST_NAME: usize = 64;

pub(super) fn capture(file: &HostFile) -> Result<CaptureOptions, Wrong> {
    let level = word(file.level.as_deref()).map_err(at("level"))?;
    let identity = word(file.identity.as_deref()).map_err(at("identity"))?;
    let exclude = patterns(file.exclude.as_deref()).map_err(at("exclude"))?;
    let recipients = recipients(file).map_err(at(RECIPIENTS))?;
    let TreeName::Named { name, version } = tree(file, "capture")? else {
        return Err(at("tree")(
            "a capture makes a version of a tree on the share: write its name, as in \"web\""
                .into(),
        ));
    };
    Ok(CaptureOptions {
        name,
        version,
        level,
        exclude,
        luks_key: luks_key(file).map_err(at("luks-key"))?,
        identity,
        recipients,
    })
}

pub(super) fn deploy(file: &HostFile, placeholders: &Placeholders) -> Result<DeployOptions, Wrong> {
    Ok(DeployOptions {
        layout: file.layout.is_some().then(|| layout(file)).transpose()?,
        luks_key: luks_key(file).map_err(at("luks-key"))?,
        new_ids: file.new_ids.unwrap_or_default(),
        identity: word(file.identity.as_deref()).map_err(at("identity"))?,
        hostname: hostname(file, placeholders).map_err(at("hostname"))?,
        overrides: paths(file.overrides.as_deref(), tree::LAYERS).map_err(at("overrides"))?,
        hooks: paths(file.hooks.as_deref(), tree::HOOKS).map_err(at("hooks"))?,
        secrets: secrets(file.secrets.as_deref()).map_err(at("secrets"))?,
        boot: word(file.boot.as_deref()).map_err(at("boot"))?,
        initrd: word(file.initrd.as_deref()).map_err(at("initrd"))?,
        // Last, so that what is wrong with others is told by their keys.
        tree: tree(file, "deploy")?,
    })
}

pub(super) fn update(file: &HostFile) -> Result<UpdateOptions, Wrong> {
    Ok(UpdateOptions {
        changes: word(file.changes.as_deref()).map_err(at("changes"))?,
        strangers: word(file.strangers.as_deref()).map_err(at("strangers"))?,
        check: word(file.check.as_deref()).map_err(at("check"))?,
        local: patterns(file.local.as_deref()).map_err(at("local"))?,
        exclude: patterns(file.exclude.as_deref()).map_err(at("exclude"))?,
        overrides: paths(file.overrides.as_deref(), tree::LAYERS).map_err(at("overrides"))?,
        hooks: paths(file.hooks.as_deref(), tree::HOOKS).map_err(at("hooks"))?,
        secrets: secrets(file.secrets.as_deref()).map_err(at("secrets"))?,
        initrd: word(file.initrd.as_deref()).map_err(at("initrd"))?,
        tree: tree(file, "update")?,
    })
}

pub(super) fn run(file: &HostFile, placeholders: &Placeholders) -> Result<RunOptions, Wrong> {
    Ok(RunOptions {
        writable: word(file.writable.as_deref()).map_err(at("writable"))?,
        identity: word(file.identity.as_deref()).map_err(at("identity"))?,
        hostname: hostname(file, placeholders).map_err(at("hostname"))?,
        overrides: paths(file.overrides.as_deref(), tree::LAYERS).map_err(at("overrides"))?,
        tree: tree(file, "run")?,
    })
}

fn tree(file: &HostFile, action: &str) -> Result<TreeName, Wrong> {
    let Some(text) = &file.tree else {
        return Err(general(format!(
            "{action} needs a tree in the host file: tree = \"web\", a name on the share"
        )));
    };
    text.parse().map_err(at("tree"))
}

/// A passphrase that who reads the share can read is none.
fn luks_key(file: &HostFile) -> Result<Option<String>, String> {
    let Some(path) = &file.luks_key else {
        return Ok(None);
    };
    check_folder(path)?;
    if !is_named_encrypted(path) {
        return Err(format!(
            "{path:?} is not called .age: who reads the share would have the passphrase. Encrypt it for the server's key, age -r \
             age1… -o luks.key.age (docs/encryption.md, \"Machines\")"
        ));
    }
    Ok(Some(path.clone()))
}

fn hostname(file: &HostFile, placeholders: &Placeholders) -> Result<Option<String>, String> {
    let Some(text) = &file.hostname else {
        return Ok(None);
    };
    let name = placeholders.fill(text)?;
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..64).contains(&label.len())
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > LONGEST_NAME || !name.split('.').all(label) {
        return Err(format!(
            "{name:?} is no host name: letters, digits and dashes, between dots, at most {LONGEST_NAME} in all"
        ));
    }
    Ok(Some(name))
}

/// What is in them the programs check that match with them.
fn patterns(written: Option<&[String]>) -> Result<Vec<String>, String> {
    let patterns = written.unwrap_or_default();
    for pattern in patterns {
        let bare = pattern.trim_start_matches("./").trim_matches('/');
        if bare.is_empty() || bare.chars().any(char::is_control) {
            return Err(format!(
                "{pattern:?} is no pattern: it begins at the root of the tree, as /srv/* and **/*.pyc do"
            ));
        }
    }
    Ok(patterns.to_vec())
}

/// Plain, everybody could read them who can read the share.
fn secrets(written: Option<&str>) -> Result<Option<String>, String> {
    let Some(path) = written else {
        return Ok(None);
    };
    below(path, tree::SECRETS)?;
    if !is_named_encrypted(path) {
        return Err(format!(
            "{path:?} must be encrypted by age, and its name end in {SUFFIX}: age -r age1… -o {path}{SUFFIX} FILE"
        ));
    }
    Ok(Some(path.to_owned()))
}

/// Of what else is on the share, machines can be kept out.
fn paths(written: Option<&[String]>, below: &str) -> Result<Vec<String>, String> {
    let paths = written.unwrap_or_default();
    for path in paths {
        self::below(path, below)?;
    }
    Ok(paths.to_vec())
}

fn below(path: &str, folder: &str) -> Result<(), String> {
    check_folder(path)?;
    let rest = path.strip_prefix(folder);
    if !rest.is_some_and(|rest| rest.starts_with('/')) {
        return Err(format!(
            "{path:?} must be below {folder}/ on the share: write \"{folder}/NAME\""
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::preview::placeholders;
    use pitstop_imaging::wishes::{Changes, Identity, Writable};

    fn file(text: &str) -> HostFile {
        HostFile::parse(format!("version = 1\n{text}\n").as_bytes(), "f").unwrap()
    }

    #[test]
    fn options_of_trees_are_read_with_their_defaults() {
        let deploy = super::deploy(&file("tree = \"web@1\""), &placeholders(None)).unwrap();
        assert_eq!(deploy.tree.to_string(), "web@1");
        assert_eq!(
            (deploy.identity, deploy.layout, deploy.hostname),
            (Identity::New, None, None)
        );
        let wishes = "tree = \"web\"\nchanges = \"replace\"\nlocal = [\"/srv/**\"]";
        let update = super::update(&file(wishes)).unwrap();
        assert_eq!(update.changes, Changes::Replace);
        assert_eq!(update.local, ["/srv/**"]);
        let wishes = "tree = \"web\"\nwritable = \"scratch\"\nhostname = \"n-{serial}\"";
        let run = super::run(&file(wishes), &placeholders(None)).unwrap();
        assert_eq!(run.writable, Writable::Scratch);
        assert_eq!(run.hostname.as_deref(), Some("n-SERIAL"));
    }

    #[test]
    fn what_makes_no_sense_is_told_by_its_key() {
        for (text, key, why) in [
            ("tree = \"../x\"", "tree", "no name of a tree"),
            ("hostname = \"a_b\"", "hostname", "no host name"),
            (
                "hostname = \"{nothing}\"",
                "hostname",
                "unknown placeholder",
            ),
            ("overrides = [\"10.0.2.15\"]", "overrides", "below layers/"),
            ("overrides = [\"layers/../x\"]", "overrides", ". or .."),
            ("hooks = [\"x.sh\"]", "hooks", "below hooks/"),
            ("luks-key = \"luks.key\"", "luks-key", "is not called .age"),
            ("luks-key = \"../x.age\"", "luks-key", ". or .."),
            ("secrets = \"x.age\"", "secrets", "below secrets/"),
            ("secrets = \"secrets/../x.age\"", "secrets", ". or .."),
            ("secrets = \"secrets/x\"", "secrets", "encrypted by age"),
            (
                "boot = \"grub\"",
                "boot",
                "there are auto, native, chroot and none",
            ),
        ] {
            let wrong = deploy(&file(text), &placeholders(None)).unwrap_err();
            assert_eq!(wrong.key, Some(key), "{text}");
            assert!(wrong.what.contains(why), "{text}: {}", wrong.what);
        }
        let wrong = update(&file("local = [\"/\"]")).unwrap_err();
        assert_eq!(wrong.key, Some("local"));
        let wrong = capture(&file("tree = \"http://srv/web.tar.gz\"")).unwrap_err();
        assert_eq!(wrong.key, Some("tree"));
        let wrong = capture(&file("")).unwrap_err();
        assert!(
            wrong.what.starts_with("capture needs a tree"),
            "{}",
            wrong.what
        );
    }
}

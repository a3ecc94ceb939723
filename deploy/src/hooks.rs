//! Scripts of an admin, run in the tree in their order.

mod interpreter;

use crate::boot::files;
use crate::boot::judge::runs_here;
use crate::chroot::{Call, Chroot, FILES, Given, secrets_of};
use crate::files::Files;
use crate::root::Root;
use anyhow::{Context, bail, ensure};
use interpreter::missing;
use pitstop_imaging::event::Reporter;
use pitstop_trees::TreeImage;
use std::ffi::OsString;
use std::time::Duration;

/// Where secrets lie while a hook runs, below [`FILES`].
const SECRETS: &str = "secrets";
/// The script itself.
const SCRIPT: &str = "hook";

/// A script. Its first line says who runs it (`#!`); without one `/bin/sh` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// For messages: `10-register.sh`.
    pub name: String,
    pub script: Vec<u8>,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Deploy,
    Update,
}

impl Stage {
    /// As hooks are told.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Update => "update",
        }
    }
}

/// What hooks are told. Empty values are not set.
#[derive(Clone, PartialEq, Eq)]
pub struct HookEnvironment {
    /// `PITSTOP_STAGE`: `deploy` or `update`.
    pub stage: Stage,
    /// `PITSTOP_DISK`: `/dev/sda`.
    pub disk: String,
    /// `PITSTOP_HOSTNAME`
    pub hostname: String,
    /// `PITSTOP_TREE`: the tree's name on the share.
    pub tree: String,
    /// `PITSTOP_VERSION`
    pub version: String,
    /// The file that `PITSTOP_SECRETS` names: in memory, for root alone, gone with the hook.
    pub secrets: Option<Vec<u8>>,
}

impl HookEnvironment {
    /// The variables, by the names that the docs have.
    fn variables(&self) -> Vec<(String, OsString)> {
        let secrets = self.secrets.as_ref().map(|_| format!("{FILES}/{SECRETS}"));
        let all = [
            ("PITSTOP_STAGE", self.stage.word()),
            ("PITSTOP_DISK", &self.disk),
            ("PITSTOP_HOSTNAME", &self.hostname),
            ("PITSTOP_TREE", &self.tree),
            ("PITSTOP_VERSION", &self.version),
            ("PITSTOP_SECRETS", secrets.as_deref().unwrap_or_default()),
        ];
        let set = all.iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, value)| ((*name).to_owned(), value.into()))
            .collect()
    }
}

/// Whether hooks can run in a tree for `architecture`, here.
///
/// # Errors
/// When programs for that do not run here.
pub fn check_runs_here(all: &[Hook], architecture: &str) -> anyhow::Result<()> {
    if !all.is_empty() && !architecture.is_empty() && !runs_here(architecture) {
        bail!("hooks run by the tree's own programs, and those for {architecture} do not run here");
    }
    Ok(())
}

/// Whether the system has what runs them, as far as it can be told before there is one: `has` tells whether it has a program at a
/// path. What is laid over it, or a hook before, may bring it. Returns what only may be missing, a sentence each.
///
/// # Errors
/// When there is none for the first one, and nothing is laid over the system.
pub fn check_programs(
    all: &[Hook],
    has_layers: bool,
    has: &dyn Fn(&str) -> bool,
) -> anyhow::Result<Vec<String>> {
    let mut wanted = Vec::new();
    for (number, hook) in all.iter().enumerate() {
        let Some(program) = missing(hook, has) else {
            continue;
        };
        let why = format!(
            "the hook {} is run by {program}, which the tree has not",
            hook.name
        );
        ensure!(
            number > 0 || has_layers,
            "{why}: begin it with a program that is there (#!/bin/sh), or add that to the tree (pitstop tree shell)"
        );
        wanted.push(format!(
            "{why}: a layer or a hook before it has to bring it"
        ));
    }
    Ok(wanted)
}

/// The same of a system that is brought up to date with `image`, and may have what no tree has.
///
/// # Errors
/// As [`check_programs`], or when the system cannot be looked at.
pub fn check_updated(
    all: &[Hook],
    has_layers: bool,
    image: &TreeImage,
    root: &Root,
) -> anyhow::Result<Vec<String>> {
    let own = Files::of(root)?;
    let has = |path: &str| files::has_program(image, path) || own.exists(path.trim_matches('/'));
    check_programs(all, has_layers, &has)
}

/// Why a hook cannot be run, as far as it can be told beforehand.
///
/// # Errors
/// A sentence.
pub fn check(hook: &Hook) -> anyhow::Result<()> {
    let first = hook.script.split(|byte| *byte == b'\n').next();
    let first = first.unwrap_or_default();
    if hook.script.iter().all(u8::is_ascii_whitespace) {
        bail!("the hook {} is empty", hook.name);
    }
    if first.starts_with(b"#!") && first.ends_with(b"\r") {
        bail!(
            "the hook {} has lines that end as on Windows (CR LF), and no program is named so: save it with Unix line ends",
            hook.name
        );
    }
    Ok(())
}

/// Runs them one after the other. Each may take `limit`.
///
/// # Errors
/// At the first one that fails.
pub fn run(
    chroot: &Chroot,
    hooks: &[Hook],
    environment: &HookEnvironment,
    limit: Duration,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    for hook in hooks {
        check(hook)?;
        reporter.info(format!("running the hook {}", hook.name));
        chroot
            .run(&call(hook, environment, limit), reporter)
            .with_context(|| format!("the hook {}", hook.name))?;
    }
    Ok(())
}

fn call(hook: &Hook, environment: &HookEnvironment, limit: Duration) -> Call {
    let script = format!("{FILES}/{SCRIPT}");
    // A program, or a script that names the one that runs it.
    let by_itself = hook.script.starts_with(b"#!") || hook.script.starts_with(b"\x7fELF");
    let mut files = vec![Given {
        name: SCRIPT.into(),
        mode: 0o700,
        bytes: hook.script.clone(),
    }];
    files.extend(environment.secrets.as_ref().map(|bytes| Given {
        name: SECRETS.into(),
        mode: 0o600,
        bytes: bytes.clone(),
    }));
    let secrets = environment.secrets.as_deref().map(secrets_of);
    Call {
        program: if by_itself { &script } else { "/bin/sh" }.into(),
        arguments: if by_itself {
            Vec::new()
        } else {
            vec![script.clone().into()]
        },
        environment: environment.variables(),
        files,
        secrets: secrets.unwrap_or_default(),
        limit,
        label: hook.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_tree::{Told, text, tree, with_shell};

    const SOON: Duration = Duration::from_secs(180);

    fn hook(name: &str, script: &str) -> Hook {
        Hook {
            name: name.into(),
            script: script.into(),
        }
    }

    fn environment() -> HookEnvironment {
        HookEnvironment {
            stage: Stage::Deploy,
            disk: "/dev/sda".into(),
            hostname: "web1".into(),
            tree: "web".into(),
            version: String::new(),
            secrets: Some(b"TOKEN=s3cret-token\n".to_vec()),
        }
    }

    #[test]
    fn hooks_run_in_order_with_what_they_are_told_and_secrets_in_no_log() {
        let (_folder, root) = tree(&[]);
        with_shell(&root);
        let chroot = Chroot::enter(&root, Some("web1")).unwrap();
        let hooks = [
            hook(
                "10-first.sh",
                "#!/bin/sh\nenv | grep PITSTOP_\nstat -c '%a %u' $PITSTOP_SECRETS\ncat $PITSTOP_SECRETS >/got\nset -x\n. $PITSTOP_SECRETS\necho $TOKEN\n",
            ),
            // No #!, and its name is no path.
            hook(
                "../20 second",
                "echo two >>/got; test -n \"$PITSTOP_VERSION\" || echo no version\n",
            ),
        ];
        let told = Told::default();
        run(&chroot, &hooks, &environment(), SOON, &told).unwrap();
        assert_eq!(text(&root, "got"), "TOKEN=s3cret-token\ntwo\n");
        for line in [
            "10-first.sh: PITSTOP_STAGE=deploy",
            "10-first.sh: PITSTOP_DISK=/dev/sda",
            "10-first.sh: PITSTOP_HOSTNAME=web1",
            "10-first.sh: PITSTOP_TREE=web",
            "10-first.sh: PITSTOP_SECRETS=/run/pitstop/secrets",
            "10-first.sh: 600 0",
            "10-first.sh: ***",
            "../20 second: no version",
        ] {
            assert!(told.has(line), "{line}: {:#?}", told.lines());
        }
        assert!(!told.has("s3cret"), "{:#?}", told.lines());
        assert!(!root.path().join("run/pitstop").exists());
    }

    #[test]
    fn a_hook_that_fails_ends_the_run_and_one_that_cannot_work_is_told() {
        let (_folder, root) = tree(&[]);
        with_shell(&root);
        let chroot = Chroot::enter(&root, None).unwrap();
        let hooks = [hook("a", "exit 3"), hook("b", "touch /ran")];
        let error = run(&chroot, &hooks, &environment(), SOON, &Told::default()).unwrap_err();
        assert_eq!(format!("{error:#}"), "the hook a: a ended with status 3");
        assert!(!root.path().join("ran").exists());
        let windows = check(&hook("w", "#!/bin/sh\r\nexit\r\n")).unwrap_err();
        assert!(windows.to_string().contains("CR LF"), "{windows}");
        assert_eq!(
            check(&hook("e", " \n")).unwrap_err().to_string(),
            "the hook e is empty"
        );
    }
}

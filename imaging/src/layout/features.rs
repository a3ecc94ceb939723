//! Features of filesystems: exactly those that are asked for, however new the tool is that makes it. A boot loader or a kernel
//! may be older than the tool, and know nothing of what it switches on by itself.

use crate::tools;
use anyhow::{Context, bail};
use std::process::{Command, Stdio};

/// Names of ext features that a superblock can have and `mkfs` does not take.
const EXT_OF_OTHERS: [&str; 1] = ["dir_prealloc"];

/// XFS features, and the option of `mkfs.xfs` that has them.
const XFS: [(&str, &str); 11] = [
    ("crc", "-m"),
    ("finobt", "-m"),
    ("rmapbt", "-m"),
    ("reflink", "-m"),
    ("inobtcount", "-m"),
    ("bigtime", "-m"),
    ("sparse", "-i"),
    ("nrext64", "-i"),
    ("exchange", "-i"),
    ("parent", "-n"),
    ("ftype", "-n"),
];

/// Btrfs features that some version of its tool switches on by itself.
const BTRFS_BY_ITSELF: [&str; 5] = [
    "extref",
    "skinny-metadata",
    "no-holes",
    "free-space-tree",
    "block-group-tree",
];

/// Whether a layout can ask for them.
pub(super) fn check(filesystem: &str, features: &[String]) -> anyhow::Result<()> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    for feature in features {
        let is_word = feature.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !is_word || !feature.chars().all(word) {
            bail!("{feature:?} is no name of a feature");
        }
        if filesystem == "xfs" && !XFS.iter().any(|(name, _)| name == feature) {
            bail!("mkfs.xfs is not told of a feature {feature:?}");
        }
    }
    let takes = filesystem.starts_with("ext") || matches!(filesystem, "xfs" | "btrfs");
    if !takes && !features.is_empty() {
        bail!("{filesystem} has no features to choose");
    }
    Ok(())
}

/// What its tool is told for `features`; nothing where there are none.
pub(super) fn arguments(
    filesystem: &str,
    program: &str,
    features: &[String],
) -> anyhow::Result<Vec<String>> {
    if features.is_empty() {
        return Ok(Vec::new());
    }
    Ok(match filesystem {
        "xfs" => xfs(features, &said(program, &[])?),
        "btrfs" => {
            let list = |option| said(program, &[option, "list-all"]);
            btrfs(features, &list("-O")?, &list("-R")?)
        }
        _ => ext(features),
    })
}

/// What a program prints for `arguments`. A tool that is called without a device prints its options and fails.
fn said(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(tools::find(program)?)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn ext(features: &[String]) -> Vec<String> {
    let known = features
        .iter()
        .map(String::as_str)
        .filter(|feature| !EXT_OF_OTHERS.contains(feature));
    let list: Vec<&str> = ["none"].into_iter().chain(known).collect();
    vec!["-O".into(), list.join(",")]
}

/// A feature that is not wanted is switched off where `usage` shows that the tool knows it: another tool has it off anyhow.
fn xfs(features: &[String], usage: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    for option in ["-m", "-i", "-n"] {
        let of_option = XFS.iter().filter(|(_, its)| *its == option);
        let words: Vec<String> = of_option
            .filter_map(|(name, _)| {
                let wanted = features.iter().any(|feature| feature == name);
                let knows = usage.contains(&format!("{name}=0|1"));
                (wanted || knows).then(|| format!("{name}={}", u8::from(wanted)))
            })
            .collect();
        if !words.is_empty() {
            arguments.extend([option.to_owned(), words.join(",")]);
        }
    }
    arguments
}

/// `main` and `runtime` are what the tool lists for `-O` and for `-R`, a feature a line, its name first. Later versions have all of them in `-O`.
fn btrfs(features: &[String], main: &str, runtime: &str) -> Vec<String> {
    let has = |list: &str, name: &str| {
        let mut names = list
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        names.any(|known| known == name)
    };
    let is_runtime = |name: &str| !has(main, name) && has(runtime, name);
    let off = BTRFS_BY_ITSELF.iter().filter(|name| {
        let wanted = features.iter().any(|feature| feature == *name);
        !wanted && (has(main, name) || has(runtime, name))
    });
    // What no list has the tool refuses itself.
    let wanted = features.iter().map(|name| (name.as_str(), ""));
    let words: Vec<(&str, &str)> = wanted.chain(off.map(|name| (*name, "^"))).collect();
    let mut arguments = Vec::new();
    for (option, of_runtime) in [("-O", false), ("-R", true)] {
        let of_option = words
            .iter()
            .filter(|(name, _)| is_runtime(name) == of_runtime);
        let list: Vec<String> = of_option
            .map(|(name, sign)| format!("{sign}{name}"))
            .collect();
        if !list.is_empty() {
            arguments.extend([option.to_owned(), list.join(",")]);
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn tools_are_told_what_is_wanted_and_what_is_not() {
        assert_eq!(
            ext(&words(&["has_journal", "dir_prealloc", "extent"])),
            ["-O", "none,has_journal,extent"]
        );
        let usage =
            "-m crc=0|1,finobt=0|1,uuid=xxx,reflink=0|1\n-i sparse=0|1,nrext64=0|1\n-n ftype=0|1";
        assert_eq!(
            xfs(&words(&["crc", "bigtime", "ftype"]), usage),
            [
                "-m",
                "crc=1,finobt=0,reflink=0,bigtime=1",
                "-i",
                "sparse=0,nrext64=0",
                "-n",
                "ftype=1"
            ]
        );
        let main = "mixed-bg            - mixed\nextref   - links\nno-holes - no";
        let runtime = "free-space-tree - v2\nblock-group-tree - groups";
        assert_eq!(
            btrfs(&words(&["extref", "free-space-tree"]), main, runtime),
            [
                "-O",
                "extref,^no-holes",
                "-R",
                "free-space-tree,^block-group-tree"
            ]
        );
    }

    #[test]
    fn what_a_tool_would_take_for_something_else_is_refused() {
        for (filesystem, feature, why) in [
            ("ext4", "^has_journal", "no name of a feature"),
            ("ext4", "a,b", "no name of a feature"),
            ("xfs", "uuid", "is not told of a feature"),
            ("vfat", "x", "has no features"),
        ] {
            let error = check(filesystem, &words(&[feature])).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}

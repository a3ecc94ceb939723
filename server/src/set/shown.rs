//! What a job will do, for the person who sets it.

use super::Wish;
use super::target::Target;
use pitstop_imaging::units;
use pitstop_protocol::job::{Action, After, Job};
use std::fmt::Write as _;

/// What will happen at the next boot, step by step.
pub fn describe(wish: &Wish, target: &Target, job: &Job) -> String {
    let mut text = format!("At its next network boot {target} does: {}\n", job.action);
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<11} {value}");
    };
    if job.action == Action::Rescue {
        line(
            "what",
            "a shell on every console, SSH with the keys of the initramfs; nothing is deleted",
        );
        return text;
    }
    let folder = wish
        .folder_known(target, job)
        .or_else(|| wish.image(target))
        .unwrap_or_else(|| "(its IP address)".into());
    if let Some(share) = &job.share {
        line("image", &format!("{share}/{folder}"));
    }
    tree_lines(&job.action, &mut line);
    if job.disks.is_empty() {
        line("disks", every_disk(&job.action));
    }
    for disk in &job.disks {
        line("disk", &disk.to_string());
    }
    if let Action::Wipe { method } = job.action {
        line(
            "method",
            &format!("{method}; everything on these disks is lost"),
        );
    }
    if job.action.name().is_repeated() {
        line("how long", "at every boot, until the job is cleared");
    }
    let then = |after: After| match after {
        After::Reboot => "it reboots",
        After::Poweroff => "it powers off",
        After::Rescue => "it holds in rescue",
    };
    let policy = &job.policy;
    if !job.action.name().is_repeated() {
        line(
            "on success",
            &format!("the job is deleted, {}", then(policy.on_success)),
        );
    }
    line(
        "on failure",
        &match policy.on_failure {
            After::Reboot => format!(
                "it reboots after {} and tries again; after {} failed tries it holds in rescue",
                units::duration(policy.failure_delay),
                policy.attempts
            ),
            after => then(after).to_owned(),
        },
    );
    text
}

/// What a job without disks means by that.
fn every_disk(action: &Action) -> &'static str {
    match action {
        Action::Capture(_) | Action::Update(_) => "the one that has the system",
        Action::Run(_) => "none but a partition labelled scratch, and swap",
        _ => "every fixed disk",
    }
}

/// Which tree, and what is laid over it.
fn tree_lines(action: &Action, line: &mut impl FnMut(&str, &str)) {
    match action {
        Action::Capture(options) => {
            let version = options.version.as_deref().unwrap_or("a new version");
            line("tree", &format!("{version} of {}", options.name));
        }
        Action::Deploy(options) => {
            line(
                "tree",
                &format!("{}; everything on the disk is lost", options.tree),
            );
        }
        Action::Update(options) => line("tree", &options.tree.to_string()),
        Action::Run(options) => line("tree", &options.tree.to_string()),
        _ => {}
    }
    if let Some(parts) = action.tree_parts() {
        for folder in parts.overrides {
            line("overrides", folder);
        }
        for hook in parts.hooks {
            line("hook", hook);
        }
        if let Some(secrets) = parts.secrets {
            line("secrets", secrets);
        }
    }
}

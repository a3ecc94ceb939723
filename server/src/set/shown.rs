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
    if job.disks.is_empty() {
        line("disks", "every fixed disk");
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
    let then = |after: After| match after {
        After::Reboot => "it reboots",
        After::Poweroff => "it powers off",
        After::Rescue => "it holds in rescue",
    };
    let policy = &job.policy;
    line(
        "on success",
        &format!("the job is deleted, {}", then(policy.on_success)),
    );
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

//! `pitstop host set`: a job becomes a host file, checked before a machine sees it.

use super::Root;
use super::batch::Batch;
use super::confirm;
use super::image::Images;
use super::many::Many;
use super::order::Order;
use super::target::{Need, Target, targets};
use crate::power;
use anyhow::{Context, anyhow, bail};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use pitstop_imaging::table::PartitionSelector;
use pitstop_imaging::units;
use pitstop_protocol::id::Id;
use pitstop_protocol::job::{Action, ActionName, After, DiskSelector, Job, is_of_action};
use pitstop_server::{list, read_server_file, valid_url};
use std::collections::HashMap;
use std::fmt::Write;
use toml::Value;

/// clap would write `<SELECTOR> <ACTION>...`.
const USAGE: &str = "pitstop host set [OPTIONS] <SELECTOR>... <ACTION>
       pitstop host set [OPTIONS] --all <ACTION>";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop host set 192.168.1.50 backup
  pitstop host set 192.168.1.50 restore --disk serial=S4EVNX0M123456 --verify
  pitstop host set 52:54:00:12:34:56 restore --image 192.168.1.50 --new-ids
  pitstop host set 192.168.1.50 wipe --disk sda --method discard
  pitstop host set 192.168.1.50 rescue
  pitstop host set @lab3 restore
  pitstop host set lab3-01 lab3-07 backup --image '{hostname}'
  pitstop host set --all rescue", override_usage = USAGE)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    root: Root,
    /// The share [default: the one of the server]
    #[arg(long, value_name = "URL")]
    share: Option<String>,
    /// The server, if it is not the one that serves the root now
    #[arg(long, value_name = "URL", value_parser = valid_url)]
    url: Option<String>,
    /// The folder on the share [default: the machine's IP address]
    #[arg(long, value_name = "FOLDER")]
    image: Option<String>,
    /// A disk: sda, serial=S4EVNX0M123456 or wwn=0x5000…; may be repeated [default: every fixed disk]
    #[arg(long = "disk", value_name = "DISK")]
    disks: Vec<String>,
    /// A configuration to delete when the job is done; may be repeated [default: the host file]
    #[arg(long, value_name = "URL")]
    delete: Vec<String>,
    /// Failed tries before the machine holds in rescue [default: 3]
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// The wait before the reboot that follows a failure: 30s, 5m [default: 5m]
    #[arg(long, value_name = "TIME")]
    failure_delay: Option<String>,
    /// How long a run may move nothing before it has failed: a disk or a driver hangs [default: 30m]
    #[arg(long, value_name = "TIME")]
    progress_timeout: Option<String>,
    /// What the machine does when the job is done [default: reboot]
    #[arg(long, value_parser = ["reboot", "poweroff", "rescue"])]
    on_success: Option<String>,
    /// What the machine does when the job fails [default: reboot]
    #[arg(long, value_parser = ["reboot", "poweroff", "rescue"])]
    on_failure: Option<String>,
    /// Keep every block, used by a filesystem or not
    #[arg(long)]
    exact: bool,
    /// Write and fetch only what differs [default: auto]
    #[arg(long, value_parser = ["true", "false", "auto"], num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    delta: Option<String>,
    /// Read a restored disk back and compare
    #[arg(long)]
    verify: bool,
    /// Give a restored disk and its partitions new GUIDs, or its MBR a new signature
    #[arg(long)]
    new_ids: bool,
    /// On a larger disk, let the last partition and its filesystem have the room
    #[arg(long, conflicts_with_all = ["keep", "partition"])]
    grow: bool,
    /// A partition of the disk that survives a restore, by number, GUID or GPT name; may be repeated
    #[arg(long, value_name = "PARTITION", conflicts_with = "partition")]
    keep: Vec<PartitionSelector>,
    /// Restore only this partition of the image, by number, GUID or GPT name; may be repeated
    #[arg(long, value_name = "PARTITION")]
    partition: Vec<PartitionSelector>,
    /// Compress fast, or smaller and slower [default: fast]
    #[arg(long, value_parser = ["fast", "small"])]
    level: Option<String>,
    /// What to do about sectors that cannot be read [default: fail]
    #[arg(long, value_parser = ["fail", "record"])]
    read_errors: Option<String>,
    /// How to wipe; a wipe has no default
    #[arg(long, value_parser = ["discard", "zero", "secure"])]
    method: Option<String>,
    /// How long a server that goes away is waited for [default: 1m]
    #[arg(long, value_name = "TIME")]
    retry_for: Option<String>,
    /// Move no more image bytes than this: 80MiB/s
    #[arg(long, value_name = "RATE")]
    rate_limit: Option<String>,
    /// The layout to make, a file in the image folder [default for partition: layout.toml]
    #[arg(long, value_name = "FILE")]
    layout: Option<String>,
    /// Switch the machines when their jobs are set, and have them boot from the network: see pitstop power
    #[arg(long, value_enum, value_name = "cycle|on|none", default_value = "none")]
    power: power::Order,
    /// Set the job even if it looks as if it will fail
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    many: Many,
}

/// A job that is checked, and not yet set.
struct Prepared<'a> {
    target: &'a Target,
    file: String,
    text: String,
    job: Job,
    warning: String,
}

/// Writes the host files. Returns what will happen, for people, and what is to be switched when they have been told.
pub fn run(args: &Args) -> anyhow::Result<(String, power::After)> {
    let hosts = args.root.hosts()?;
    let url = match &args.url {
        Some(url) => Some(url.clone()),
        None => read_server_file(&args.root.path)?,
    };
    let targets = targets(&args.root, &args.order.machines, Need::Settings)?;
    // Every job is checked before the first is set.
    let prepared: Vec<Prepared> = targets
        .iter()
        .map(|target| prepare(args, target, url.as_deref()))
        .collect::<anyhow::Result<_>>()?;
    check_folders(args, &prepared)?;
    let after = power::After::new(&args.root, &args.order.machines, args.power)?;
    let server = url.filter(|_| args.url.is_none());
    let batch = Batch::new(&args.root, &args.many, server, &targets)?;
    if batch.is_scheduled() && args.power != power::Order::None {
        bail!("--power switches machines at once: it does not go with --at and --every");
    }
    let rows: Vec<confirm::Row> = prepared.iter().map(|one| row(args, one)).collect();
    confirm::ask(&args.root, &args.many, args.order.action, &rows)?;
    let mut answer = batch.due();
    answer.push_str(&match &prepared[..] {
        [one] => set_one(args, &hosts, &batch, one)?,
        all => set_all(args, &hosts, &batch, all)?,
    });
    Ok((answer, after))
}

fn set_one(args: &Args, hosts: &Dir, batch: &Batch, one: &Prepared) -> anyhow::Result<String> {
    let (before, id) = write(args, hosts, batch, &list::jobs(hosts)?, one)?;
    let mut answer = describe(args, one.target, &one.job);
    answer.push_str(&one.warning);
    // Writing to a String cannot fail.
    if let Some(was) = before {
        let _ = writeln!(answer, "  replaces    the job it had: {was}");
    }
    if !batch.is_scheduled() {
        let path = args.root.path.join("hosts").join(&one.file);
        let _ = writeln!(answer, "  host file   {}", path.display());
    }
    let _ = writeln!(answer, "  job         {id}");
    Ok(answer)
}

fn set_all(args: &Args, hosts: &Dir, batch: &Batch, all: &[Prepared]) -> anyhow::Result<String> {
    let mut answer = format!(
        "At their next network boot {} machines do: {}\n",
        all.len(),
        args.order.action
    );
    let had = list::jobs(hosts)?;
    for one in all {
        let (before, _) = write(args, hosts, batch, &had, one)?;
        let folder = folder_known(args, one.target, &one.job);
        let folder = folder
            .or_else(|| image(args, one.target))
            .unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(answer, "  {}  {folder}", one.target);
        let _ = match before {
            Some(was) => writeln!(answer, ", in place of {was}"),
            None => writeln!(answer),
        };
        answer.push_str(&one.warning);
    }
    answer.push_str("pitstop job list shows how they go; pitstop job wait waits for them\n");
    Ok(answer)
}

fn prepare<'a>(args: &Args, target: &'a Target, url: Option<&str>) -> anyhow::Result<Prepared<'a>> {
    let file = target.machine.file();
    let text = host_file(args, target, &file, url)?;
    let job = list::preview(text.as_bytes(), &file, target.machine.address())
        .map_err(|error| anyhow!("the machine would refuse this job: {error}"))?;
    let ruins = matches!(job.action, Action::Wipe { .. } | Action::Partition { .. });
    if ruins && job.disks.is_empty() && !args.force {
        bail!(
            "this would be done to every fixed disk of {target}: name them with --disk, or say --force"
        );
    }
    let own_share = url.map(|url| format!("{url}/share"));
    let on_own_share = job.share.as_ref().map(ToString::to_string) == own_share;
    let mut warning = String::new();
    if on_own_share && let Some(folder) = folder_known(args, target, &job) {
        match check_images(args, &job, &folder) {
            Err(problem) if args.force => warning = format!("  warning     {problem:#}\n"),
            checked => {
                checked.map_err(|problem| anyhow!("{problem:#} (--force sets it anyway)"))?;
            }
        }
    }
    Ok(Prepared {
        target,
        file,
        text,
        job,
        warning,
    })
}

/// Refuses to back two machines up into one folder: the later one would fail, or take the place of the other's image.
fn check_folders(args: &Args, prepared: &[Prepared]) -> anyhow::Result<()> {
    let backups = prepared
        .iter()
        .filter(|one| matches!(one.job.action, Action::Backup(_) | Action::BackupAgain(_)));
    let mut taken = HashMap::new();
    for one in backups {
        let Some(folder) = folder_known(args, one.target, &one.job) else {
            continue;
        };
        let share = one.job.share.as_ref().map(ToString::to_string);
        if let Some(other) = taken.insert((share, folder.clone()), one.target) {
            bail!(
                "{other} and {} would both be backed up into {folder}: give each a folder of its own with \
                 --image '{{hostname}}', or name the one machine",
                one.target
            );
        }
    }
    Ok(())
}

/// What of a job the question before it is about.
fn row<'a>(args: &Args, one: &'a Prepared<'a>) -> confirm::Row<'a> {
    let folder = folder_known(args, one.target, &one.job).or_else(|| image(args, one.target));
    confirm::Row {
        target: one.target,
        disks: &one.job.disks,
        image: folder.unwrap_or_default(),
    }
}

/// Sets a job. Returns the action of the one that the machine had, and the new one's name.
fn write(
    args: &Args,
    hosts: &Dir,
    batch: &Batch,
    before: &[list::Job],
    one: &Prepared,
) -> anyhow::Result<(Option<String>, Id)> {
    let files = one.target.files();
    let before = before.iter().find(|job| files.contains(&job.file));
    let (job, written) = batch.set(hosts, one.target, args.order.action, &one.text)?;
    if batch.is_scheduled() {
        return Ok((None, job.id));
    }
    check_written(&args.root, &one.file, &written)?;
    let was = before.map(|job| {
        job.action
            .clone()
            .unwrap_or_else(|| "a file that could not be read".into())
    });
    Ok((was, job.id))
}

/// The folder that is asked for: by the command line, else by the fleet file.
fn image(args: &Args, target: &Target) -> Option<String> {
    let layer = target.settings.get("image").and_then(Value::as_str);
    let image = args.image.as_deref().or(layer);
    image.map(|image| target.filled(image))
}

/// Whether the file is where a server of the root will find it: the folder may have been replaced by another one.
fn check_written(root: &Root, file: &str, text: &str) -> anyhow::Result<()> {
    let path = root.path.join("hosts").join(file);
    let found = std::fs::read_to_string(&path);
    let found = found.with_context(|| format!("reading {} back", path.display()))?;
    if found != text {
        bail!(
            "{} holds something else than was written: somebody else sets jobs at the same time, or the folder was \
             replaced",
            path.display()
        );
    }
    Ok(())
}

/// The folder on the share, where it can be known before the machine has an address.
fn folder_known(args: &Args, target: &Target, job: &Job) -> Option<String> {
    let image = image(args, target);
    let by_address = target.machine.address().is_some() && image.is_none();
    let plain = image.is_some_and(|image| !image.contains('{'));
    (by_address || plain).then(|| job.image.clone())
}

/// Whether the image is there for a `restore`, and is not there for a `backup`.
fn check_images(args: &Args, job: &Job, folder: &str) -> anyhow::Result<()> {
    let path = args.root.path.join("share");
    let images = Dir::open_ambient_dir(&path, ambient_authority())
        .and_then(|share| Images::find(&share, folder))
        .with_context(|| format!("looking for images in {}/{folder}", path.display()))?;
    let mut names = Vec::new();
    for disk in &job.disks {
        match disk {
            DiskSelector::Name(name) => names.push(name.clone()),
            // Which name such a disk will have is known on the machine alone.
            DiskSelector::Serial(_) | DiskSelector::Wwn(_) => return Ok(()),
        }
    }
    let there = images.in_the_way(&names);
    match job.action {
        Action::Backup(_) if !there.is_empty() => bail!(
            "there is already {} in {}/{folder}: backup would refuse to replace it; backup-again keeps it as .old",
            there.join(", "),
            path.display()
        ),
        Action::Restore(_) => match images.lacks(&names) {
            Some(disk) => bail!("there is no image of {disk} in {}/{folder}", path.display()),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn host_file(
    args: &Args,
    target: &Target,
    file: &str,
    url: Option<&str>,
) -> anyhow::Result<String> {
    let layered = target.settings.get("share").and_then(Value::as_str);
    let share = match (args.share.as_deref().or(layered), url) {
        (Some(share), _) => Some(share.to_owned()),
        (None, Some(url)) => Some(format!("{url}/share")),
        (None, None) if args.order.action == ActionName::Rescue => None,
        (None, None) => bail!(
            "nothing says where the share is: start pitstop serve on {} once, or give --url or --share",
            args.root.path.display()
        ),
    };
    let mut delete = args.delete.clone();
    let layered = target.settings.contains_key("delete");
    if let (true, false, Some(url)) = (delete.is_empty(), layered, url) {
        delete.push(format!("{url}/hosts/{file}"));
    }
    let disks: Vec<Value> = args.disks.iter().map(|disk| selector(disk)).collect();
    let list = |values: Vec<Value>| (!values.is_empty()).then_some(Value::Array(values));
    let text = |value: &Option<String>| value.clone().map(Value::String);
    let flag = |value: bool| value.then_some(Value::Boolean(true));
    let needs_layout =
        args.order.action == ActionName::Partition && !target.settings.contains_key("layout");
    let keys = [
        ("version", Some(Value::Integer(1))),
        ("action", Some(args.order.action.as_str().into())),
        ("share", text(&share)),
        (
            "image",
            text(&args.image.as_ref().map(|image| target.filled(image))),
        ),
        ("disks", list(disks)),
        (
            "delete",
            list(delete.into_iter().map(Value::String).collect()),
        ),
        ("attempts", args.attempts.map(|n| Value::Integer(n.into()))),
        ("failure-delay", text(&args.failure_delay)),
        ("progress-timeout", text(&args.progress_timeout)),
        ("on-success", text(&args.on_success)),
        ("on-failure", text(&args.on_failure)),
        ("exact", flag(args.exact)),
        (
            "delta",
            args.delta.as_deref().map(|word| match word {
                "auto" => word.into(),
                flag => Value::Boolean(flag == "true"),
            }),
        ),
        ("verify", flag(args.verify)),
        ("new-ids", flag(args.new_ids)),
        ("grow", flag(args.grow)),
        ("keep", list(args.keep.iter().map(partition).collect())),
        (
            "partitions",
            list(args.partition.iter().map(partition).collect()),
        ),
        ("level", text(&args.level)),
        ("read-errors", text(&args.read_errors)),
        ("method", text(&args.method)),
        ("retry-for", text(&args.retry_for)),
        ("rate-limit", text(&args.rate_limit)),
        (
            "layout",
            text(&args.layout).or_else(|| needs_layout.then(|| "layout.toml".into())),
        ),
    ];
    let mut file = format!("# Written by pitstop host set, for {target}.\n");
    let mut said = Vec::new();
    for (key, value) in keys {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(file, "{key} = {value}");
            said.push(key);
        }
    }
    // What the command line does not say, the fleet file may; of it what this action has no use for is left out.
    for (key, value) in &target.settings {
        if !said.contains(&key.as_str()) && is_of_action(key, value, args.order.action) {
            let _ = writeln!(file, "{key} = {value}");
        }
    }
    Ok(file)
}

fn partition(selector: &PartitionSelector) -> Value {
    match selector {
        PartitionSelector::Number(number) => Value::Integer((*number).into()),
        PartitionSelector::Id(text) | PartitionSelector::Name(text) => text.as_str().into(),
    }
}

fn selector(text: &str) -> Value {
    match text.split_once('=') {
        Some((key, value)) => {
            let mut table = toml::Table::new();
            table.insert(key.into(), value.into());
            Value::Table(table)
        }
        None => text.into(),
    }
}

/// What will happen at the next boot, step by step.
fn describe(args: &Args, target: &Target, job: &Job) -> String {
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
    let folder = folder_known(args, target, job)
        .or_else(|| image(args, target))
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

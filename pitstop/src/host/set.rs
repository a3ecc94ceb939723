//! `pitstop host set`: a job becomes a host file, checked before a machine sees it.

mod host_file;
mod refusals;
mod shown;
mod sign;

use super::Root;
use super::batch::Batch;
use super::confirm;
use super::many::Many;
use super::order::Order;
use super::target::{Need, Target, targets};
use crate::job_options::{JobOptions, Which};
use crate::power;
use anyhow::{Context, anyhow, bail};
use cap_std::fs::Dir;
use pitstop_protocol::id::Id;
use pitstop_protocol::job::{Action, Job, JobOption};
use pitstop_server::{list, read_server_file, valid_url};
use sign::{Sign, Signing};
use std::fmt::Write as _;
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
pub struct Args {
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    root: Root,
    #[command(flatten)]
    job: JobOptions<OfJob>,
    /// The server, if it is not the one that serves the root now
    #[arg(long, value_name = "URL", value_parser = valid_url)]
    url: Option<String>,
    /// Switch the machines when their jobs are set, and have them boot from the network: see pitstop power
    #[arg(long, value_enum, value_name = "cycle|on|none", default_value = "none")]
    power: power::Order,
    /// Set the job even if it looks as if it will fail
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    many: Many,
    #[command(flatten)]
    sign: Sign,
}

/// Every option of a job.
struct OfJob;

impl Which for OfJob {
    fn has(_option: &JobOption) -> bool {
        true
    }

    fn preset(option: &JobOption) -> Option<&'static str> {
        match option.key {
            "share" => Some("the one of the server"),
            "layout" => Some(host_file::LAYOUT),
            _ => None,
        }
    }
}

/// A job that is checked, and not yet set.
struct Prepared<'a> {
    target: &'a Target,
    file: String,
    text: String,
    job: Job,
    warning: String,
    signature: Option<String>,
}

/// Writes the host files. Returns what will happen, for people, and what is to be switched when they have been told.
pub fn run(args: &Args) -> anyhow::Result<(String, power::After)> {
    let hosts = args.root.hosts()?;
    let url = match &args.url {
        Some(url) => Some(url.clone()),
        None => read_server_file(&args.root.path)?,
    };
    let targets = targets(&args.root, &args.order.machines, Need::Settings)?;
    let signing = args.sign.open(args.many.every.as_deref(), args.many.at)?;
    // Every job is checked before the first is set.
    let mut prepared: Vec<Prepared> = targets
        .iter()
        .map(|target| prepare(args, target, url.as_deref(), signing.as_ref()))
        .collect::<anyhow::Result<_>>()?;
    refusals::check_folders(args, &prepared)?;
    let after = power::After::new(&args.root, &args.order.machines, args.power)?;
    let server = url.filter(|_| args.url.is_none());
    let batch = Batch::new(
        &args.root,
        &args.many,
        server,
        &targets,
        args.power.of_job(),
    )?;
    // Of jobs for later the server switches the machines, when they are due.
    let after = if batch.is_scheduled() {
        power::After::nothing()
    } else {
        after
    };
    let rows: Vec<confirm::Row> = prepared.iter().map(|one| row(args, one)).collect();
    if signing.is_some() {
        sign::show(&prepared)?;
    }
    confirm::ask(&args.root, &args.many, args.order.action, &rows)?;
    if let Some(signing) = &signing {
        for one in &mut prepared {
            one.signature = Some(signing.sign(one)?);
        }
    }
    let mut answer = batch.due();
    answer.push_str(&match &prepared[..] {
        [one] => set_one(args, &hosts, &batch, one)?,
        all => set_all(args, &hosts, &batch, all)?,
    });
    Ok((answer, after))
}

fn set_one(args: &Args, hosts: &Dir, batch: &Batch, one: &Prepared) -> anyhow::Result<String> {
    let (before, id) = write(args, hosts, batch, &list::jobs(hosts)?, one)?;
    let mut answer = shown::describe(args, one.target, &one.job);
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

fn prepare<'a>(
    args: &Args,
    target: &'a Target,
    url: Option<&str>,
    signing: Option<&Signing>,
) -> anyhow::Result<Prepared<'a>> {
    let file = target.machine.file();
    let mut text = host_file::text(args, target, &file, url)?;
    let mut job = list::preview(text.as_bytes(), &file, target.machine.address())
        .map_err(|error| anyhow!("the machine would refuse this job: {error}"))?;
    if let Some(signing) = signing {
        text = args.sign.complete(args, signing, target, &text, &job)?;
        job = sign::check(&file, &text, target)?;
    }
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
        match refusals::check_images(args, &job, &folder) {
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
        signature: None,
    })
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
    let (job, written) = batch.set(
        hosts,
        one.target,
        args.order.action,
        &one.text,
        one.signature.clone(),
    )?;
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
    let image = args.job.text("image").or(layer);
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

#[cfg(test)]
mod tests;

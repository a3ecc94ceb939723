//! `pitstop image prune`: earlier images leave the share, as many as nobody wants to keep.
//!
//! The last image of a disk always stays: it is what a restore takes. So does what somebody may be at just now.

mod aside;
mod in_store;
mod judge;
mod shelf;

use super::{At, made, when};
use crate::host::say;
use anyhow::{Context, bail};
use jiff::tz::TimeZone;
use judge::{Fate, Judged, Keep, judge};
use pitstop_api::Image;
use pitstop_imaging::units;
use pitstop_jobs::Job;
use pitstop_protocol::host_name::printable;
use pitstop_protocol::image_version::split;
use pitstop_protocol::job::hostfile::HostFile;
use pitstop_server::given::last_given;
use pitstop_server::jobs::Store;
use pitstop_server::set::{Need, Who, columns, image_folders, targets};
use pitstop_server::view::images_below;
use shelf::Shelf;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// A new image that was written to since then is being written.
const BEING_WRITTEN: Duration = Duration::from_secs(3600);
/// Whoever read an image since then may be restoring it.
const BEING_READ: Duration = Duration::from_secs(15 * 60);
/// What a new image is called until it is whole.
const UNFINISHED: [&str; 3] = [".new", ".new.part", ".part"];

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop image prune --keep-last 3 --keep-monthly 6 --dry-run
  pitstop image prune @lab3 golden --keep-last 2
  pitstop image prune --keep-last 3 --share 's3://lab/room?endpoint=https://store.lab.example:9000' --dry-run

The last image of a disk stays, whatever is said. Images before the one before are kept where jobs say versions = true.")]
pub struct Args {
    /// Machines, as everywhere, or folders of the share; none is all
    #[arg(value_name = "SELECTOR")]
    names: Vec<String>,
    #[command(flatten)]
    keep: Keep,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: At,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let root = &args.at.root.path;
    let store = args.at.store()?;
    let images = images_below(root, store.as_ref())?;
    let shelf = Shelf::of(root, store.as_ref())?;
    let jobs = Store::at(root);
    if store.is_some() && !jobs.path().is_dir() {
        eprintln!(
            "pitstop: warning: there are no jobs in {}: whether machines are at work in this store is known where their server is",
            root.display()
        );
    }
    let jobs = jobs.all().context("reading the jobs")?.jobs;
    let mut chosen = chosen(root, &images, &jobs, &args.names)?;
    let busy = at_work(&jobs);
    let mut judged = Vec::new();
    for (disk, images) in by_disk(&images, &chosen) {
        let busy = in_use(root, &shelf, &disk, &images, &busy)?;
        // What is cut short stands for no image: else the last one that is whole would go for it.
        let alone = images.len() == 1;
        let (cut, whole): (Vec<&Image>, Vec<&Image>) = images
            .into_iter()
            .partition(|image| !alone && shelf.is_cut(image));
        judged.extend(cut.into_iter().map(|image| Judged {
            image,
            fate: Fate::Kept("not whole, as pitstop verify tells; remove it by hand".into()),
        }));
        judged.extend(judge(
            whole,
            &args.keep,
            busy.as_deref(),
            &TimeZone::system(),
        ));
    }
    chosen.retain(|folder| busy.at(folder).is_none());
    for left in shelf.leftovers(&chosen, !args.dry_run) {
        eprintln!("pitstop: warning: {left}");
    }
    let mut failed = Vec::new();
    if !args.dry_run {
        judged.retain(|judged| {
            let removes = judged.fate == Fate::Removed;
            let done = if removes {
                shelf.remove(judged.image)
            } else {
                Ok(())
            };
            done.map_err(|error| failed.push(error)).is_ok()
        });
    }
    let removed: Vec<&Image> = judged
        .iter()
        .filter(|judged| judged.fate == Fate::Removed)
        .map(|judged| judged.image)
        .collect();
    say(&told(&judged, args.dry_run))?;
    for error in &failed {
        eprintln!("pitstop: error: {error:#}");
    }
    let bytes = units::bytes(removed.iter().map(|image| image.file_size).sum());
    let would = if args.dry_run { "would be" } else { "are" };
    say(&format!(
        "{} of {} images {would} removed, {bytes}\n",
        removed.len(),
        judged.len() + failed.len()
    ))?;
    if !failed.is_empty() {
        bail!(
            "{} of the images could not be removed, each as told above",
            failed.len()
        );
    }
    Ok(())
}

/// The folders that are meant.
fn chosen(
    root: &Path,
    images: &[Image],
    jobs: &[Job],
    names: &[String],
) -> anyhow::Result<BTreeSet<String>> {
    let folders: BTreeSet<&str> = images.iter().map(|image| image.folder.as_str()).collect();
    if names.is_empty() {
        return Ok(folders.into_iter().map(str::to_owned).collect());
    }
    let mut chosen = BTreeSet::new();
    for name in names {
        let wanted = name.trim_matches('/');
        let below = |folder: &&&str| {
            let rest = folder.strip_prefix(wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found: Vec<&&str> = folders.iter().filter(below).collect();
        if !found.is_empty() && !wanted.is_empty() {
            chosen.extend(found.into_iter().map(|folder| (*folder).to_owned()));
            continue;
        }
        let who: Who = name.parse().map_err(|why: String| {
            anyhow::anyhow!("{name} is no folder with images on the share, and no machine: {why}")
        })?;
        for target in targets(root, &[who], Need::Names)? {
            let folders = image_folders(&target, jobs);
            if folders.is_empty() {
                bail!(
                    "which folder on the share is that of {target} is not known: name the folder"
                );
            }
            chosen.extend(folders);
        }
    }
    Ok(chosen)
}

/// Images of one disk in one folder, by the path of the last one.
fn by_disk<'a>(
    images: &'a [Image],
    folders: &BTreeSet<String>,
) -> BTreeMap<String, Vec<&'a Image>> {
    let mut disks: BTreeMap<String, Vec<&Image>> = BTreeMap::new();
    for image in images
        .iter()
        .filter(|image| folders.contains(&image.folder))
    {
        let (last, _) = split(&image.path);
        disks.entry(last.to_owned()).or_default().push(image);
    }
    disks
}

/// What jobs at work read and write.
#[derive(Debug, Default)]
struct AtWork {
    /// Folders, each with the job's machine.
    folders: BTreeMap<String, String>,
    /// A machine whose folder only it knows, by its address or its card: it may be any.
    somewhere: Option<String>,
}

fn at_work(jobs: &[Job]) -> AtWork {
    let mut work = AtWork::default();
    for job in jobs.iter().filter(|job| job.may_be_at_work()) {
        let own = job.folder.clone();
        if own.is_none() {
            work.somewhere = Some(job.shown().to_owned());
        }
        let file = HostFile::parse(job.text.as_bytes(), &job.host_file).ok();
        let image = file.and_then(|file| file.image);
        let image = image.map(|image| match &own {
            Some(own) => image.replace("{ip}", own),
            None => image,
        });
        if image.as_ref().is_some_and(|image| image.contains('{')) {
            work.somewhere = Some(job.shown().to_owned());
        }
        for folder in own.into_iter().chain(image) {
            let folder = folder.trim_matches('/').to_owned();
            work.folders.insert(folder, job.shown().to_owned());
        }
    }
    work
}

impl AtWork {
    /// Who is at work in this folder, or may be.
    fn at(&self, folder: &str) -> Option<String> {
        if let Some(machine) = self.folders.get(folder) {
            return Some(format!("{machine} is at work"));
        }
        let machine = self.somewhere.as_ref()?;
        Some(format!(
            "{machine} is at work, in a folder that is not known"
        ))
    }
}

/// Who may be at these images.
fn in_use(
    root: &Path,
    shelf: &Shelf,
    last: &str,
    images: &[&Image],
    busy: &AtWork,
) -> anyhow::Result<Option<String>> {
    let folder = images.first().map_or("", |image| image.folder.as_str());
    if let Some(machine) = busy.at(folder) {
        return Ok(Some(machine));
    }
    // A disk with one image loses none.
    if images.len() > 1 && shelf.is_being_written(last)? {
        return Ok(Some("a backup is being written".to_owned()));
    }
    Ok(images.iter().find_map(|image| {
        let age = last_given(root, &image.path).filter(|age| *age < BEING_READ)?;
        let (name, age) = (printable(&image.path), units::duration(age));
        Some(format!("the server gave {name} to somebody {age} ago"))
    }))
}

fn told(judged: &[Judged], dry_run: bool) -> String {
    if judged.is_empty() {
        return "There is no image there\n".into();
    }
    let what = |fate: &Fate| match fate {
        Fate::Kept(why) => format!("kept: {why}"),
        Fate::Removed if dry_run => "would be removed".into(),
        Fate::Removed => "removed".into(),
    };
    let rows: Vec<[String; 4]> = judged
        .iter()
        .map(|Judged { image, fate }| {
            [
                printable(&image.path),
                when(made(image)),
                units::bytes(image.file_size),
                what(fate),
            ]
        })
        .collect();
    columns(&["IMAGE", "MADE", "SIZE", "WHAT"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_only_the_machine_knows_may_be_any() {
        let at_work_on = |image: &str| {
            let file = format!(
                r#"version = 1
id = "20261128-213000-aaaa"
machine = "10.0.2.15"
action = "restore"
host-file = "0A00020F.toml"
state = "running"
set = "2026-11-28T21:30:00Z"
set-by = "root@server"
changed = "2026-11-28T21:30:00Z"
batch = "20261128-213000-aaaa"
folder = "10.0.2.15"
text = "version = 1\nimage = \"{image}\"\n"
"#
            );
            at_work(&[Job::parse(&file, "x.toml").unwrap()])
        };
        let known = at_work_on("{ip}/main");
        assert_eq!(known.somewhere, None);
        assert!(known.folders.contains_key("10.0.2.15/main"), "{known:?}");
        let by_card = at_work_on("{mac}");
        assert_eq!(by_card.somewhere.as_deref(), Some("10.0.2.15"));
    }
}

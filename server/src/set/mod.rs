//! Setting jobs: what is wished becomes host files, all checked before the first is written. For the command, which works on
//! the files, and for the API.

mod after;
mod at_work;
mod batch;
mod clear;
mod host_file;
mod image;
mod in_the_way;
mod machines;
mod origin;
mod plan;
mod refusals;
mod shown;
mod target;
mod terms;
mod tree;

pub use after::{After, switches};
pub use at_work::refuse_act;
pub use clear::{Cleared, clear, host_files};
pub use host_file::{LAYOUT, text as host_file};
pub use machines::Machines;
pub use origin::{Follows, Origin, image_folders};
pub use plan::{columns, loses_data, table};
pub(crate) use plan::{disk, record};
pub use target::{Lab, Meant, Need, Target, Who, meant, targets};
pub use terms::{Terms, ToSign};

use crate::jobs::Store;
use crate::{list, url};
use anyhow::{anyhow, bail};
use batch::{Batch, Checked};
use cap_std::fs::Dir;
use jiff::Timestamp;
use pitstop_api as api;
use pitstop_jobs::Order;
use pitstop_protocol::job::{Action, ActionName, Job};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use toml::{Table, Value};

/// A job that is wished for machines.
#[derive(Debug, Clone)]
pub struct Wish {
    pub machines: Vec<Who>,
    pub action: ActionName,
    /// By the host file's keys.
    pub given: Table,
    /// The server, if it is not the one that serves the root.
    pub url: Option<String>,
    /// How the machines are brought to the network boot that begins it.
    pub power: Option<api::JobPower>,
    /// Set it though it looks as if it would fail.
    pub force: bool,
    pub many: Many,
    /// Who wishes it.
    pub by: String,
    /// Of a job that is to be signed.
    pub terms: Option<Terms>,
    /// Whose images are restored, where that is said: see [`Wish::with_origin`].
    pub from: Option<Origin>,
    /// The backup that is waited for.
    pub follows: Option<Follows>,
}

/// When jobs begin, and how many at once.
#[derive(Debug, Clone, Default)]
pub struct Many {
    pub at: Option<Timestamp>,
    /// A cron expression.
    pub every: Option<String>,
    pub slots: Option<u32>,
    pub order: Order,
}

/// A job that could be set, and would fail or lose something as things are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Conflict(pub String);

impl Wish {
    /// The folder that is asked for: by the wish, else by the fleet file.
    fn image(&self, target: &Target) -> Option<String> {
        let layer = target.settings.get("image").and_then(Value::as_str);
        let image = self.given.get("image").and_then(Value::as_str).or(layer);
        image.map(|image| target.filled(image))
    }

    /// The folder on the share, where it can be known before the machine has an address.
    fn folder_known(&self, target: &Target, job: &Job) -> Option<String> {
        let image = self.image(target);
        let by_address = target.machine.address().is_some() && image.is_none();
        let plain = image.is_some_and(|image| !image.contains('{'));
        (by_address || plain).then(|| job.image.clone())
    }

    fn folder_shown(&self, one: &One) -> String {
        self.folder_known(&one.target, &one.job)
            .or_else(|| self.image(&one.target))
            .unwrap_or_default()
    }
}

/// A job that is checked, and not yet set.
struct One {
    target: Target,
    file: String,
    text: String,
    job: Job,
    warning: Option<String>,
    signature: Option<String>,
}

/// Jobs that are checked, and not yet set.
pub struct Prepared<'a> {
    root: &'a Path,
    hosts: &'a Dir,
    wish: &'a Wish,
    jobs: Vec<One>,
    batch: Batch<'a>,
    after: After,
}

/// Jobs that are set.
pub struct Set {
    pub jobs: Vec<pitstop_jobs::Job>,
    /// What will happen, for people.
    pub text: String,
    /// What is to be switched when they have been told.
    pub after: After,
}

/// Checks what is wished: of each machine, as the machine would.
///
/// # Errors
/// What is wrong with it. [`Conflict`] where it could be set and would fail.
pub fn prepare<'a>(root: &'a Path, hosts: &'a Dir, wish: &'a Wish) -> anyhow::Result<Prepared<'a>> {
    let url = match &wish.url {
        Some(url) => Some(url.clone()),
        None => url::read_server_file(root)?.map(|served| served.url),
    };
    let mut targets = targets(root, &wish.machines, Need::Settings)?;
    if let Some(follows) = &wish.follows {
        leave_out(&mut targets, follows, url.is_some() && wish.url.is_none())?;
    }
    let jobs: Vec<One> = targets
        .into_iter()
        .map(|target| prepare_one(root, wish, target, url.as_deref()))
        .collect::<anyhow::Result<_>>()?;
    refusals::check_folders(wish, &jobs)?;
    let but = wish.follows.as_ref().map(|follows| follows.name.as_str());
    let after = After::new(root, &wish.machines, but, wish.power)?;
    let server = url.filter(|_| wish.url.is_none());
    let targets: Vec<&Target> = jobs.iter().map(|one| &one.target).collect();
    let batch = Batch::new(root, wish, server, &targets)?;
    // Of jobs for later the server switches the machines, when they are due.
    let after = if batch.is_scheduled() {
        After::nothing()
    } else {
        if wish.power == Some(api::JobPower::Cycle) && !wish.force {
            at_work::refuse(root, &targets)?;
        }
        after
    };
    Ok(Prepared {
        root,
        hosts,
        wish,
        jobs,
        batch,
        after,
    })
}

/// The machine that is backed up does not follow itself. A server has to tell the others to wait.
fn leave_out(targets: &mut Vec<Target>, follows: &Follows, is_tracked: bool) -> anyhow::Result<()> {
    if !is_tracked {
        bail!(
            "--follow needs the server that tells machines to wait: start pitstop serve on the root, and give no --url"
        );
    }
    targets.retain(|target| !follows.is_of(target));
    if targets.is_empty() {
        bail!(
            "{} is the machine that is backed up: name those that get its image",
            follows.name
        );
    }
    Ok(())
}

fn prepare_one(root: &Path, wish: &Wish, target: Target, url: Option<&str>) -> anyhow::Result<One> {
    let file = target.machine.file();
    let mut text = host_file::text(root, wish, &target, &file, url)?;
    let draft = match &wish.terms {
        Some(_) => terms::draft(&text),
        None => text.clone(),
    };
    let mut job = list::preview(draft.as_bytes(), &file, target.machine.address())
        .map_err(|error| anyhow!("the machine would refuse this job: {error}"))?;
    if let Some(terms) = &wish.terms {
        text = terms.complete(root, wish, &target, &text, &job)?;
        job = terms::check(&file, &text, &target)?;
    }
    let ruins = matches!(
        job.action,
        Action::Wipe { .. } | Action::Partition { .. } | Action::Deploy(_)
    );
    if ruins && job.disks.is_empty() && !wish.force {
        bail!(
            "this would be done to every fixed disk of {target}: name them with --disk, or say --force"
        );
    }
    let own_share = url.map(|url| format!("{url}/share"));
    let on_own_share =
        job.share.as_ref().map(ToString::to_string) == own_share && url::store_of(root)?.is_none();
    let mut warning = None;
    let mut may_lack = false;
    if let Some(follows) = &wish.follows {
        follows.check_share(&text)?;
        may_lack = !follows.is_whole;
    }
    if on_own_share && let Err(problem) = tree::check(root, &job) {
        match problem.downcast::<Conflict>() {
            Ok(problem) if wish.force => warning = Some(problem.to_string()),
            Ok(problem) => {
                return Err(Conflict(format!("{problem} (--force sets it anyway)")).into());
            }
            Err(problem) => return Err(problem),
        }
    }
    if on_own_share
        && !may_lack
        && let Some(folder) = wish.folder_known(&target, &job)
    {
        match refusals::check_images(root, &job, &folder) {
            Err(problem) if wish.force => warning = Some(format!("{problem:#}")),
            Err(problem) if problem.is::<Conflict>() => {
                return Err(Conflict(format!("{problem:#} (--force sets it anyway)")).into());
            }
            checked => checked?,
        }
    }
    Ok(One {
        target,
        file,
        text,
        job,
        warning,
        signature: None,
    })
}

impl Prepared<'_> {
    /// What each machine would do, with the disks that it is about.
    ///
    /// # Errors
    /// The jobs that are there cannot be read.
    pub fn plan(&self) -> anyhow::Result<Vec<api::Planned>> {
        let share = plan::share(self.root);
        let open = Store::at(self.root).all()?.jobs;
        let rows = self.jobs.iter();
        Ok(rows
            .map(|one| plan::row(self.wish, one, share.as_ref(), &open))
            .collect())
    }

    /// Writes the host files.
    ///
    /// # Errors
    /// One cannot be written; those before it are.
    pub fn set(self) -> anyhow::Result<Set> {
        let mut text = self.batch.due();
        if let Some(follows) = &self.wish.follows {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", follows.told());
        }
        let ends = if self.batch.is_scheduled() {
            String::new()
        } else {
            in_the_way::told(self.root, &self.jobs)?
        };
        let mut jobs = Vec::new();
        match &self.jobs[..] {
            [one] => text.push_str(&self.set_one(one, &mut jobs)?),
            _ => text.push_str(&self.set_all(&mut jobs)?),
        }
        text.push_str(&ends);
        Ok(Set {
            jobs,
            text,
            after: self.after,
        })
    }

    fn set_one(&self, one: &One, set: &mut Vec<pitstop_jobs::Job>) -> anyhow::Result<String> {
        let at_work = at_work::jobs_of(self.root, &[&one.target])?;
        let had = self.write(set)?;
        let mut answer = shown::describe(self.wish, &one.target, &one.job);
        // Writing to a String cannot fail.
        if let Some(warning) = &one.warning {
            let _ = writeln!(answer, "  warning     {warning}");
        }
        if let Some(job) = at_work.last() {
            let then = if self.cuts_off() {
                "it is cut off"
            } else {
                "it goes on to its end, and this one comes after it"
            };
            let _ = writeln!(
                answer,
                "  at work     {}, job {}: {then}",
                job.action, job.id
            );
        } else if let Some(was) = had.of(one) {
            let _ = writeln!(answer, "  replaces    the job it had: {was}");
        }
        if !self.batch.is_scheduled() {
            let path = self.root.join("hosts").join(&one.file);
            let _ = writeln!(answer, "  host file   {}", path.display());
        }
        for job in set {
            let _ = writeln!(answer, "  job         {}", job.id);
        }
        Ok(answer)
    }

    fn set_all(&self, set: &mut Vec<pitstop_jobs::Job>) -> anyhow::Result<String> {
        let mut answer = format!(
            "At their next network boot {} machines do: {}\n",
            self.jobs.len(),
            self.wish.action
        );
        let targets: Vec<&Target> = self.jobs.iter().map(|one| &one.target).collect();
        let at_work = at_work::jobs_of(self.root, &targets)?;
        let had = self.write(set)?;
        for one in &self.jobs {
            // Writing to a String cannot fail.
            let _ = write!(answer, "  {}  {}", one.target, self.wish.folder_shown(one));
            let its = Machines::new([&one.target]);
            let _ = match (
                at_work.iter().rfind(|job| its.whose(job).is_some()),
                had.of(one),
            ) {
                (Some(job), _) => {
                    let (action, id) = (job.action, &job.id);
                    let word = if self.cuts_off() {
                        "cutting off"
                    } else {
                        "after"
                    };
                    writeln!(answer, ", {word} the {action} that it is at (job {id})")
                }
                (None, Some(was)) => writeln!(answer, ", in place of {was}"),
                (None, None) => writeln!(answer),
            };
            if let Some(warning) = &one.warning {
                let _ = writeln!(answer, "  warning     {warning}");
            }
        }
        answer.push_str("pitstop job list shows how they go; pitstop job wait waits for them\n");
        Ok(answer)
    }

    /// Whether machines that are at work are switched off.
    fn cuts_off(&self) -> bool {
        self.wish.power == Some(api::JobPower::Cycle) && !self.batch.is_scheduled()
    }

    /// Sets the jobs. Returns what the machines had.
    fn write(&self, set: &mut Vec<pitstop_jobs::Job>) -> anyhow::Result<Had> {
        if self.wish.terms.is_some()
            && let Some(one) = self.jobs.iter().find(|one| one.signature.is_none())
        {
            bail!(
                "the job of {} was to be signed, and nobody has signed it",
                one.target
            );
        }
        if self.batch.is_scheduled() {
            self.set_jobs(set)?;
            return Ok(Had::default());
        }
        let had = Had::now(self.hosts)?;
        self.set_jobs(set)?;
        Ok(had)
    }

    fn set_jobs(&self, set: &mut Vec<pitstop_jobs::Job>) -> anyhow::Result<()> {
        let checked = self.jobs.iter().map(|one| Checked {
            target: &one.target,
            text: &one.text,
            signature: one.signature.as_deref(),
        });
        let checked: Vec<Checked> = checked.collect();
        set.extend(self.batch.set(self.hosts, self.wish.action, &checked)?);
        Ok(())
    }
}

/// The actions of the jobs that machines had, by their host files.
#[derive(Default)]
struct Had(HashMap<String, String>);

impl Had {
    fn now(hosts: &Dir) -> anyhow::Result<Self> {
        let there = list::jobs(hosts)?.into_iter().map(|job| {
            let unread = || "a file that could not be read".into();
            (job.file, job.action.unwrap_or_else(unread))
        });
        Ok(Self(there.collect()))
    }

    fn of(&self, one: &One) -> Option<&str> {
        let files = one.target.files();
        let mut had = files.iter().filter_map(|file| self.0.get(file));
        had.next().map(String::as_str)
    }
}

//! What a stick has for this machine: its own job, and jobs to choose from. Nothing is done here, and nothing written.

use crate::execute::ledger::{self, Known, Once};
use crate::execute::record;
use anyhow::{Context, bail};
use pitstop_imaging::image::MachineIdentity;
use pitstop_imaging::inventory::{self, Machine};
use pitstop_protocol::host_name::{HostName, Mac, Meaning, SUFFIX};
use pitstop_protocol::job::ActionName;
use pitstop_protocol::job::host_file_search::Placeholders;
use pitstop_protocol::job::hostfile::HostFile;
use pitstop_protocol::machine::Lease;
use pitstop_protocol::stick::{self, HOSTS, JOBS, everyone, title};
use pitstop_transport::share::DirectoryShare;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use url::Url;

/// No host file is larger.
const MOST_BYTES: u64 = 1 << 20;

/// All that a stick has for one machine.
#[derive(Debug, Default)]
pub struct Offer {
    /// The host file that is found for this machine.
    pub own: Option<Entry>,
    /// That this machine was through with the round of its own job, if it was.
    pub through: Option<Through>,
    /// Where its host file was looked for, without folder and suffix.
    pub names: Vec<String>,
    /// What anybody can choose, by title.
    pub jobs: Vec<Entry>,
}

/// That a machine has done its part of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Through {
    /// When.
    pub at: String,
    /// Whether it was this one for sure, and not another one with its UUID.
    pub is_sure: bool,
}

/// A host file on the stick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: PathBuf,
    pub title: String,
    pub what: What,
}

/// What a host file says, as far as a menu shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Job {
        action: ActionName,
        image: Option<String>,
    },
    /// Why it is none.
    Wrong(String),
}

impl Entry {
    /// What has the machine do it: a parameter of the kernel's command line. Whatever is in the name is written so that it is
    /// one word, without placeholders.
    pub fn parameter(&self) -> String {
        let url = Url::from_file_path(&self.path).map(String::from);
        format!("pitstop.host={}", url.unwrap_or_default())
    }

    /// Whether it writes to the machine's disks. Of what cannot be read nobody knows.
    pub fn writes_disks(&self) -> bool {
        match &self.what {
            What::Job { action, .. } => action.writes_disks(),
            What::Wrong(_) => true,
        }
    }
}

/// Looks at the stick that is mounted at `root`.
///
/// # Errors
/// It cannot be read, or a file is called as no machine looks for it: a host file that was not seen must not pass for one
/// that is not there.
pub fn look(root: &Path, machine: &Machine, lease: &Lease) -> anyhow::Result<Offer> {
    let inventory = inventory::read(machine)?;
    let this = record::identity(lease, &inventory);
    let names = names(machine, lease, &this);
    let of_everyone = HostName::Default.stem();
    let mut offer = Offer {
        names: names.clone(),
        jobs: jobs(&root.join(JOBS))?,
        ..Offer::default()
    };
    for name in names {
        if name == of_everyone {
            check_spelling(&root.join(HOSTS), &offer.names)?;
        }
        let path = root.join(HOSTS).join(format!("{name}{SUFFIX}"));
        let Some(file) = read(&path)? else {
            continue;
        };
        let host = parsed(&file, &path);
        if let Ok(host) = &host {
            if name != of_everyone {
                check_next(root, host).with_context(|| path.display().to_string())?;
            }
            offer.through = through(root, host, &this)?;
        }
        offer.own = Some(entry(path, name, host));
        break;
    }
    Ok(offer)
}

/// No file is meant for a machine with these `names` and called otherwise: it would do everybody's job in place of its own.
fn check_spelling(folder: &Path, names: &[String]) -> anyhow::Result<()> {
    for name in files(folder)? {
        if let Meaning::Misspelled(host) = Meaning::of_file(&name)
            && !host.is_shared()
            && names.contains(&host.stem())
        {
            bail!(
                "{} is meant for this machine, and no machine looks for that name: call it {}",
                folder.join(&name).display(),
                host.file()
            );
        }
    }
    Ok(())
}

/// A job that is this machine's alone is not followed by everybody's. What is wrong with that file is told when it is read.
fn check_next(root: &Path, own: &HostFile) -> anyhow::Result<()> {
    let path = root.join(HOSTS).join(everyone());
    let Some(file) = read(&path)? else {
        return Ok(());
    };
    let Ok(everyones) = parsed(&file, &path) else {
        return Ok(());
    };
    stick::check_next(own, &everyones).map_err(anyhow::Error::msg)
}

/// The names of what is in a folder; of one that is not there none. Names that are no text are nobody's.
fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let doing = || format!("reading {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(doing)?,
    };
    let mut names = Vec::new();
    for found in entries {
        names.extend(found.with_context(doing)?.file_name().into_string());
    }
    Ok(names)
}

/// Under which names this machine's host file may be, best first. A card that drove no boot counts as well as another.
fn names(machine: &Machine, lease: &Lease, this: &MachineIdentity) -> Vec<String> {
    let known = Placeholders::new(machine, lease);
    let everyone = HostName::Default.stem();
    let mut names: Vec<String> = known
        .names
        .into_iter()
        .filter(|name| *name != everyone)
        .collect();
    let cards = this.macs.iter().filter_map(|mac| mac.parse::<Mac>().ok());
    names.extend(cards.map(|mac| HostName::Mac(mac).stem()));
    names.extend(known.serial);
    names.push(everyone);
    let mut seen = Vec::new();
    names.retain(|name| {
        let is_new = !seen.contains(name);
        seen.push(name.clone());
        is_new
    });
    names
}

fn jobs(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut jobs = Vec::new();
    for name in files(folder)? {
        let Some(title) = title(&name) else {
            continue;
        };
        let path = folder.join(&name);
        if let Some(file) = read(&path)? {
            let host = parsed(&file, &path);
            jobs.push(entry(path, title.to_owned(), host));
        }
    }
    jobs.sort_by(|a, b| a.title.cmp(&b.title));
    Ok(jobs)
}

/// The bytes of a file; `None` where there is none of this name.
fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let doing = || format!("reading {}", path.display());
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.with_context(doing)?,
    };
    if file.metadata().with_context(doing)?.is_dir() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .with_context(doing)?;
    Ok(Some(bytes))
}

fn parsed(bytes: &[u8], path: &Path) -> Result<HostFile, String> {
    HostFile::parse(bytes, &path.display().to_string()).map_err(|error| error.to_string())
}

fn entry(path: PathBuf, title: String, host: Result<HostFile, String>) -> Entry {
    let what = host.and_then(|host| {
        let action = host.action.ok_or("it names no action")?;
        let action = action.parse().map_err(|error| format!("{error}"))?;
        Ok(What::Job {
            action,
            image: host.image.or(host.tree),
        })
    });
    Entry {
        path,
        title,
        what: what.unwrap_or_else(What::Wrong),
    }
}

/// Whether this machine was through with the round, if the host file is of one.
fn through(
    root: &Path,
    host: &HostFile,
    this: &MachineIdentity,
) -> anyhow::Result<Option<Through>> {
    let Some(round) = &host.round else {
        return Ok(None);
    };
    let share = DirectoryShare::open(root)?;
    // What is wrong with the round's name or with this machine is told when the job is begun.
    let Ok(once) = Once::in_round(round, this) else {
        return Ok(None);
    };
    Ok(match ledger::look(&share, &once, this)? {
        Known::Finished(at) => Some(Through { at, is_sure: true }),
        Known::Doubtful(at) => Some(Through { at, is_sure: false }),
        Known::Nothing | Known::Begun => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::inventory::fake::FakeMachine;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    struct Stick {
        root: tempfile::TempDir,
        fake: FakeMachine,
    }

    impl Stick {
        fn new() -> Self {
            let fake = FakeMachine::new();
            fake.write_sys("class/dmi/id/product_serial", "PF/12\n");
            fake.write_sys("class/net/eth1/address", "52:54:00:00:00:02\n");
            fake.write_sys("class/net/eth1/device/vendor", "0x1af4\n");
            Self {
                root: tempfile::tempdir().unwrap(),
                fake,
            }
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn offers(&self) -> Offer {
            look(self.root.path(), &self.fake.machine(), &Lease::offline(MAC)).unwrap()
        }

        fn own(&self) -> String {
            self.offers().own.map_or_else(String::new, |own| own.title)
        }
    }

    #[test]
    fn a_machine_finds_its_job_by_any_of_its_names_and_the_one_for_everybody_last() {
        let stick = Stick::new();
        assert_eq!(stick.own(), "");
        for name in [
            "default",
            "PF-12",
            "01-52-54-00-00-00-02",
            "01-52-54-00-12-34-56",
        ] {
            stick.put(
                &format!("hosts/{name}.toml"),
                "version = 1\naction = \"rescue\"\n",
            );
            assert_eq!(stick.own(), name);
        }
        stick.put("hosts/01-52-54-00-00-00-03.toml", "");
        assert_eq!(stick.own(), "01-52-54-00-12-34-56");
    }

    #[test]
    fn a_machine_whose_file_has_another_name_does_not_get_everybodys_job() {
        let stick = Stick::new();
        let job = "version = 1\naction = \"rescue\"\n";
        stick.put("hosts/default.toml", job);
        stick.put("hosts/52-54-00-12-34-57.toml", job);
        assert_eq!(stick.own(), "default");
        stick.put("hosts/52-54-00-12-34-56.toml", job);
        let looked = look(
            stick.root.path(),
            &stick.fake.machine(),
            &Lease::offline(MAC),
        );
        let error = looked.unwrap_err().to_string();
        assert!(
            error.ends_with("call it 01-52-54-00-12-34-56.toml"),
            "{error}"
        );
        stick.put("hosts/01-52-54-00-12-34-56.toml", job);
        assert_eq!(stick.own(), "01-52-54-00-12-34-56");
    }

    #[test]
    fn a_machine_with_a_job_of_its_own_is_not_restored_by_everybodys_after_it() {
        let stick = Stick::new();
        let everyones = "version = 1\naction = \"restore\"\nround = \"one\"\n";
        stick.put("hosts/default.toml", everyones);
        let own = "hosts/01-52-54-00-12-34-56.toml";
        stick.put(own, "version = 1\naction = \"backup\"\n");
        let (root, machine) = (stick.root.path(), stick.fake.machine());
        let error = format!(
            "{:#}",
            look(root, &machine, &Lease::offline(MAC)).unwrap_err()
        );
        assert!(
            error.contains("01-52-54-00-12-34-56.toml: the file goes when its job is done"),
            "{error}"
        );
        let stays = "version = 1\naction = \"backup\"\nround = \"one\"\n";
        stick.put(own, stays);
        assert_eq!(stick.own(), "01-52-54-00-12-34-56");
    }

    #[test]
    fn the_menu_has_what_can_be_chosen_and_says_what_is_wrong() {
        let stick = Stick::new();
        stick.put("jobs/b wipe.toml", "version = 1\naction = \"wipe\"\n");
        stick.put(
            "jobs/a.toml",
            "version = 1\naction = \"backup\"\nimage = \"x\"\n",
        );
        stick.put("jobs/c.toml", "version = 1\nacton = \"backup\"\n");
        stick.put("jobs/._a.toml", "");
        stick.put("jobs/folder.toml/file", "");
        let jobs = stick.offers().jobs;
        let titles: Vec<&str> = jobs.iter().map(|job| job.title.as_str()).collect();
        assert_eq!(titles, ["a", "b wipe", "c"]);
        let writes: Vec<bool> = jobs.iter().map(Entry::writes_disks).collect();
        assert_eq!(writes, [false, true, true]);
        assert!(matches!(&jobs[2].what, What::Wrong(why) if why.contains("acton")));
    }

    #[test]
    fn who_is_through_with_a_round_is_told() {
        let stick = Stick::new();
        stick.put(
            "hosts/default.toml",
            "version = 1\naction = \"restore\"\nround = \"one\"\n",
        );
        assert_eq!(stick.offers().through, None);
        stick.put(
            "rounds/one/52-54-00-00-00-02.toml",
            "version = 1\nid = \"one\"\naction = \"restore\"\nbegun = \"t\"\nfinished = \"noon\"\n\
             [machine]\nuuid = \"\"\nserial = \"PF/12\"\nmacs = [\"52:54:00:00:00:02\"]\n",
        );
        let through = Through {
            at: "noon".into(),
            is_sure: true,
        };
        assert_eq!(stick.offers().through, Some(through));
    }
}

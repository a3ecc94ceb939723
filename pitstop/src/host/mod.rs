//! Machines' jobs: plain host files under the server's root.

mod image;
mod set;

use anyhow::{Context, bail};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use clap::Subcommand;
use pitstop_server::list::{self, jobs};
use pitstop_server::machine::MachineName;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  pitstop host set 192.168.1.50 backup
  pitstop host set 52:54:00:12:34:56 restore --image 192.168.1.50 --disk serial=S4EVNX0M123456
  pitstop host list
  pitstop host clear 192.168.1.50";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Give a machine a job for its next network boot
    Set(Box<set::Args>),
    /// List machines with jobs
    List {
        #[command(flatten)]
        root: Root,
        /// An array of objects, for programs
        #[arg(long)]
        json: bool,
    },
    /// Drop a machine's job: it boots from its disk again
    Clear {
        /// The machine's IPv4 or MAC address
        #[arg(value_name = "IP|MAC")]
        machine: MachineName,
        #[command(flatten)]
        root: Root,
    },
}

/// Where the server's folders are.
#[derive(clap::Args)]
pub struct Root {
    /// The folder that `pitstop serve` serves
    #[arg(
        long = "root",
        env = "PITSTOP_ROOT",
        value_name = "DIR",
        default_value = "/srv/pitstop"
    )]
    path: PathBuf,
}

impl Root {
    /// The folder of host files. The root must be there: one that is not is a mistyped name.
    fn hosts(&self) -> anyhow::Result<Dir> {
        const NAME: &str = "hosts";
        let root = Dir::open_ambient_dir(&self.path, ambient_authority()).with_context(|| {
            format!(
                "opening {}: is it what pitstop serve serves? (--root, PITSTOP_ROOT)",
                self.path.display()
            )
        })?;
        if root.symlink_metadata(NAME).is_err() {
            root.create_dir(NAME)
                .with_context(|| format!("making {}/{NAME}", self.path.display()))?;
        }
        // Opened by its whole path: the admin may have made it a symlink to elsewhere.
        let path = self.path.join(NAME);
        Dir::open_ambient_dir(&path, ambient_authority())
            .with_context(|| format!("opening {}", path.display()))
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Set(args) => say(&set::run(args)?),
        Command::List { root, json } => {
            let jobs = jobs(&root.hosts()?)?;
            say(&if *json {
                list::json(&jobs)?
            } else {
                list::table(&jobs)
            })
        }
        Command::Clear { machine, root } => clear(*machine, &root.path, &root.hosts()?),
    }
}

fn clear(machine: MachineName, root: &Path, hosts: &Dir) -> anyhow::Result<()> {
    let file = machine.file();
    let path = root.join("hosts").join(&file);
    match hosts.remove_file(&file) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{machine} has no job: there is no {}", path.display())
        }
        Err(error) => return Err(error).with_context(|| format!("removing {}", path.display())),
    }
    say(&format!(
        "{machine} has no job any more: it boots from its own disk\n"
    ))
}

/// Says it on standard output, where a closed pipe is an error like any other.
fn say(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing to standard output")
}

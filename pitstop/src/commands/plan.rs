//! `pitstop plan`: what a job would do to the disks of this machine, by the code that would do it.

use super::place::reporter;
use super::place::signed::SignedBy;
use anyhow::{Context, anyhow};
use pitstop_imaging::inventory::Machine;
use pitstop_payload::execute::dry_run;
use pitstop_protocol::job::{ActionName, Job, check, preview};
use pitstop_transport::share::{Carriers, connect};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use url::Url;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop plan --host-file /srv/pitstop/hosts/C0A80132.toml
  pitstop plan --action restore --image /srv/pitstop/share/192.168.1.50 --json

Nothing is written, neither to a disk nor to the share.")]
pub struct Args {
    /// The job's host file
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "action",
        required_unless_present = "action"
    )]
    host_file: Option<PathBuf>,
    /// An action, where there is no host file
    #[arg(long, requires = "image")]
    action: Option<ActionName>,
    /// The folder with the images, on this machine
    #[arg(long, value_name = "DIR", conflicts_with = "host_file")]
    image: Option<PathBuf>,
    /// A line of the host file beside action and image: 'method = "zero"'; may be repeated
    #[arg(long = "key", value_name = "LINE", conflicts_with = "host_file")]
    keys: Vec<String>,
    /// The address of the machine, which names its folder on the share [default: this machine's]
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// For programs: as plan.json on the share
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    signed: SignedBy,
    /// Where the kernel's view of the devices is
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    sysfs: PathBuf,
    /// Where the kernel tells what is mounted
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    procfs: PathBuf,
    /// Where the device nodes are
    #[arg(long, value_name = "DIR", default_value = "/dev")]
    dev: PathBuf,
}

/// Exports are mounted under here, as in a run.
const MOUNTS: &str = "/run/pitstop/shares";

pub fn run(args: &Args) -> anyhow::Result<()> {
    let address = args.address.unwrap_or_else(own_address);
    let mut job = job(args, address)?;
    let asked = std::mem::take(&mut job.terms.images);
    job.terms.images = asked.on_machine(args.signed.keys()?.as_ref(), None)?;
    check::vouched(&job)?;
    let url = job
        .share
        .as_ref()
        .with_context(|| format!("there is nothing to plan for {}", job.action))?;
    let share = connect(url, &Carriers::new(address, Path::new(MOUNTS))?)?;
    let machine = Machine {
        sysfs: args.sysfs.clone(),
        procfs: args.procfs.clone(),
        dev: args.dev.clone(),
        command_line: String::new(),
    };
    let plan = dry_run(&machine, address, &job, &*share, Arc::new(reporter()))?;
    let text = if args.json {
        format!("{:#}\n", plan.to_json())
    } else {
        format!("{plan}\n")
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing to standard output")
}

fn job(args: &Args, address: IpAddr) -> anyhow::Result<Job> {
    let (bytes, file) = match (&args.host_file, args.action, &args.image) {
        (Some(path), _, _) => {
            let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            (bytes, std::path::absolute(path)?)
        }
        (None, Some(action), Some(image)) => {
            let file = PathBuf::from("/pitstop-plan.toml");
            (written(action, image, &args.keys)?.into_bytes(), file)
        }
        // The command line's own rules leave nothing else.
        _ => return Err(anyhow!("give --host-file, or --action and --image")),
    };
    let url = Url::from_file_path(&file)
        .map_err(|()| anyhow!("{} is no absolute path", file.display()))?;
    preview(&bytes, &url, Some(address)).map_err(|error| anyhow!(error))
}

/// A host file of what the command line says.
fn written(action: ActionName, image: &Path, keys: &[String]) -> anyhow::Result<String> {
    let image =
        fs::canonicalize(image).with_context(|| format!("looking at {}", image.display()))?;
    let (share, folder) = image
        .parent()
        .zip(image.file_name())
        .with_context(|| format!("{} is no folder on a share", image.display()))?;
    let value = |text: &str| toml::Value::String(text.to_owned());
    let mut text = format!(
        "version = 1\naction = {}\nshare = {}\nimage = {}\n",
        value(action.as_str()),
        value(&share.to_string_lossy()),
        value(&folder.to_string_lossy())
    );
    for key in keys {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key}");
    }
    Ok(text)
}

/// The address from which this machine would reach others; no packet is sent to find it.
fn own_address() -> IpAddr {
    let far = (Ipv4Addr::new(192, 0, 2, 1), 9);
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| {
            socket.connect(far)?;
            socket.local_addr()
        })
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

//! `pitstop mount IMAGE DIR`: the disk in an image and its partitions as files, through FUSE.

mod files;

use super::place::{shown, source};
use anyhow::{Context, bail};
use files::{File, Files, Owner};
use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{major, minor};
use pitstop_imaging::image::ImageReader;
use pitstop_imaging::table;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop mount sda.raw.gz /mnt/image
  mount -o loop,ro /mnt/image/p2.raw /mnt/root
  mount -o loop,ro,norecovery /mnt/image/p3.raw /mnt/xfs
  pitstop mount http://192.168.1.10:8080/share/192.168.1.50/sda.raw.gz /mnt/image

DIR gets disk.raw and a file for each partition: p1.raw, p2.raw, ... Only the chunks that are read are fetched, and
each is checked first: a damaged one is an input/output error. Runs until Ctrl-C, or `umount DIR`
(`fusermount3 -u DIR` for other users than root).")]
pub struct Args {
    /// A path or an `http(s)://` URL of an image with an index
    image: String,
    /// A folder that is there; what is in it is hidden meanwhile
    dir: PathBuf,
    /// Let all users read, not only the one who mounts; others than root need `user_allow_other` in /etc/fuse.conf
    #[arg(long)]
    allow_other: bool,
}

/// Why a wait is over.
pub enum Event {
    /// Somebody unmounted it.
    Ended,
    Asked,
}

/// Requests that are answered side by side: the network may be slow.
const THREADS: usize = 4;
/// How long the end of what is unmounted may take. Signals that come together, as systemd sends two, mean one.
const MOMENT: Duration = Duration::from_secs(5);

pub fn run(args: &Args) -> anyhow::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    // Before the first thread, so that no thread but the one that waits takes them.
    signals.thread_block().context("blocking signals")?;
    if !args.dir.is_dir() {
        bail!("{} is no folder: make it first", args.dir.display());
    }
    let reader = ImageReader::open(source(&args.image)?)?;
    let files = list(&reader);
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let (tell, events) = channel();
    await_signals(signals, tell.clone())?;
    let owner = Owner::this(args.allow_other);
    let files = Files::new(reader, files, owner, tell);
    let session = mount(files, args)?;
    let looking = || format!("looking at {}", args.dir.display());
    let device = fs::metadata(&args.dir).with_context(looking)?.dev();
    let line = format!(
        "pitstop: mounted {} on {}: {}\n",
        shown(&args.image),
        args.dir.display(),
        names.join(", ")
    );
    // Nobody may be listening; the files are there all the same.
    let _ = std::io::stdout().write_all(line.as_bytes());
    if let Err(error) = wait(&events, &args.dir, device) {
        // Dropped, it would unmount whatever is there by now.
        std::mem::forget(session);
        return Err(error);
    }
    session
        .join()
        .with_context(|| format!("serving {}", args.dir.display()))
}

/// The whole disk, and each partition of its table.
fn list(reader: &ImageReader) -> Vec<File> {
    let mut files = vec![File {
        name: "disk.raw".into(),
        start: 0,
        size: reader.disk_size(),
    }];
    let sector = reader.meta().disk.logical_sector_size;
    match table::read(reader, sector) {
        Ok(table) => files.extend(table.partitions.iter().map(|partition| File {
            name: format!("p{}.raw", partition.number),
            start: partition.start,
            size: partition.size,
        })),
        Err(error) => eprintln!("pitstop: warning: only the whole disk is shown: {error}"),
    }
    files
}

fn mount(files: Files, args: &Args) -> anyhow::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        // Every user sees it.
        MountOption::FSName(shown(&args.image).replace(',', "_")),
        MountOption::Subtype("pitstop".into()),
        MountOption::DefaultPermissions,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoExec,
    ];
    if args.allow_other {
        config.acl = SessionACL::All;
    }
    config.n_threads = Some(THREADS);
    fuser::spawn_mount(files, &args.dir, &config).with_context(|| {
        format!(
            "mounting on {} (others than root need fusermount3, of the package fuse3)",
            args.dir.display()
        )
    })
}

fn await_signals(signals: SigSet, tell: Sender<Event>) -> anyhow::Result<()> {
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || while signals.wait().is_ok() && tell.send(Event::Asked).is_ok() {})
        .context("starting a thread for signals")?;
    Ok(())
}

/// Until nobody has it any more. A signal unmounts; where that does not end it, a second one leaves all the same.
fn wait(events: &Receiver<Event>, dir: &Path, device: u64) -> anyhow::Result<()> {
    let (mut tried, mut gone) = (false, false);
    loop {
        match events.recv() {
            Ok(Event::Ended) | Err(_) => return Ok(()),
            // Its end comes by itself, unless somebody has it still.
            Ok(Event::Asked) if gone => {
                if ends(events) {
                    return Ok(());
                }
                bail!(
                    "{} is unmounted, and somebody had it still: by an open file, or mounted elsewhere as well; nobody \
                     reads for them now",
                    dir.display()
                );
            }
            Ok(Event::Asked) => match unmount(dir, device) {
                Ok(()) => gone = true,
                Err(why) if tried => {
                    bail!(
                        "{} stays mounted, with nobody to read for it: {why}",
                        dir.display()
                    )
                }
                Err(why) => {
                    tried = true;
                    eprintln!(
                        "pitstop: {} cannot be unmounted: {why}; unmount what is mounted from it first",
                        dir.display()
                    );
                }
            },
        }
    }
}

/// Whether it ends in a moment, however many signals come meanwhile.
fn ends(events: &Receiver<Event>) -> bool {
    let late = Instant::now() + MOMENT;
    loop {
        match events.recv_timeout(late.saturating_duration_since(Instant::now())) {
            Ok(Event::Ended) | Err(RecvTimeoutError::Disconnected) => return true,
            Ok(Event::Asked) => {}
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}

/// Unmounts what has this device number from `dir`, and nothing else.
fn unmount(dir: &Path, device: u64) -> Result<(), String> {
    if fs::metadata(dir).is_ok_and(|found| found.dev() != device) {
        if is_mounted(device) {
            return Err("something else is there now, and the image is mounted still".into());
        }
        return Ok(());
    }
    match umount2(dir, MntFlags::empty()) {
        // EINVAL: somebody else was faster.
        Ok(()) | Err(Errno::EINVAL) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(error) => return Err(error.desc().to_lowercase()),
    }
    // Debian has one of them under either name.
    let mut why = String::from("there is no fusermount3");
    for program in ["fusermount3", "fusermount"] {
        match Command::new(program).args(["-u", "--"]).arg(dir).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                why.clear();
                why.push_str(String::from_utf8_lossy(&output.stderr).trim());
            }
            Err(_) => {}
        }
    }
    Err(why)
}

/// Whether it is, anywhere in this view of the mounts (`proc_pid_mountinfo(5)`).
fn is_mounted(device: u64) -> bool {
    let number = format!("{}:{}", major(device), minor(device));
    fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| {
        let mut numbers = mounts.lines().filter_map(|line| line.split(' ').nth(2));
        numbers.any(|one| one == number)
    })
}

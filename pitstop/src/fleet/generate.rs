//! `pitstop fleet generate`: other servers' configurations, to look at or to install.

use super::file::{FleetFile, replace};
use super::install::{self, Daemon};
use crate::commands::place::is_stream;
use crate::host::Root;
use anyhow::{Context, anyhow, bail};
use pitstop_fleet::generate::{Around, Format, Made, generate, merge_hosts};
use pitstop_server::{Served, assumed_url, boot_chain, read_server_file, valid_url};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  pitstop fleet generate dnsmasq
  pitstop fleet generate dnsmasq --install --reload
  pitstop fleet generate kea -o kea-dhcp4.conf
  pitstop fleet generate pxelinux -o /srv/tftp/pxelinux.cfg

Installed without -o: /etc/dnsmasq.d/pitstop.conf, /etc/dhcp/dhcpd.conf, /etc/kea/kea-dhcp4.conf,
/etc/kea/kea-dhcp6.conf, /etc/exports.d/pitstop.exports, and lines between marks in /etc/hosts. The file before stays beside as .old
(in /etc/dnsmasq.d: .pitstop.conf.old), and one that is not of pitstop also as .before-pitstop.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Whose configuration
    #[arg(value_name = "SERVER", value_parser = formats())]
    format: String,
    /// Write it to a file, of pxelinux into a folder [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Put it in place: checked by the server's own checker, the old file kept as .old
    #[arg(long)]
    install: bool,
    /// Let the server read it once it is in place, and put the old file back if the server does not live
    #[arg(long, requires = "install")]
    reload: bool,
    /// The server that machines boot from [default: url of [server], else the one that serves the root]
    #[arg(long, value_name = "URL", value_parser = valid_url)]
    url: Option<String>,
    #[command(flatten)]
    root: Root,
}

fn formats() -> Vec<&'static str> {
    Format::ALL.map(Format::name).to_vec()
}

pub fn run(args: &Args) -> anyhow::Result<String> {
    let format = Format::ALL
        .into_iter()
        .find(|format| format.name() == args.format)
        .ok_or_else(|| anyhow!("there is no format {}", args.format))?;
    let made = make(args, format)?;
    for note in &made.notes {
        eprintln!("pitstop: {note}");
    }
    if args.install {
        return install(args, format, &made);
    }
    match (&args.output, format) {
        (None, Format::Pxelinux) => Ok(made
            .files
            .iter()
            .map(|(name, text)| format!("# pxelinux.cfg/{name}\n{text}\n"))
            .collect::<Vec<_>>()
            .concat()),
        (None, _) => Ok(made.files.into_iter().map(|(_, text)| text).collect()),
        (Some(folder), Format::Pxelinux) => into_folder(folder, &made),
        (Some(file), _) => {
            for (_, text) in &made.files {
                replace(file, text.as_bytes())?;
            }
            // Nothing else belongs there.
            if is_stream(file) {
                return Ok(String::new());
            }
            Ok(format!("{} is written\n", file.display()))
        }
    }
}

fn make(args: &Args, format: Format) -> anyhow::Result<Made> {
    let root = &args.root.path;
    let fleet = FleetFile::at(&args.root).read()?;
    // What the command line says wins over the file, which wins over who serves now.
    let mut fleet = fleet;
    if args.url.is_some() {
        fleet.server.url.clone_from(&args.url);
    }
    let share = std::path::absolute(root.join("share")).unwrap_or_else(|_| root.join("share"));
    let share = share.to_string_lossy();
    let served = read_server_file(root)?;
    let networks: Vec<_> = fleet.networks.iter().map(|network| network.net).collect();
    let unknown = fleet.server.url.is_none() && served.is_none();
    let served = served.unwrap_or_else(|| {
        let url = assumed_url(&networks);
        Served {
            boot_url: url.clone(),
            url,
        }
    });
    if unknown && format.names_server() {
        eprintln!(
            "pitstop: machines are sent to {}, as no server has served {} yet: if that is wrong, write url into \
             [server] of fleet.toml, or give --url",
            served.url,
            root.display()
        );
    }
    let around = Around {
        url: &served.boot_url,
        machines: &served.url,
        share: &share,
        jobs: jobs(root)?,
        chain: boot_chain(&root.join("boot")),
    };
    generate(&fleet, format, &around).map_err(|what| anyhow!(what))
}

/// The names of the host files that are there; a root that has never been served has none.
fn jobs(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let path = root.join("hosts");
    let entries = match std::fs::read_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.with_context(|| format!("listing {}", path.display()))?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", path.display()))?;
        names.insert(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn into_folder(folder: &Path, made: &Made) -> anyhow::Result<String> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut written = 0;
    for (name, text) in &made.files {
        let path = folder.join(name);
        if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            continue;
        }
        replace(&path, text.as_bytes())?;
        written += 1;
    }
    Ok(format!(
        "{} of {} files in {} are written, the others were so already\n",
        written,
        made.files.len(),
        folder.display()
    ))
}

fn install(args: &Args, format: Format, made: &Made) -> anyhow::Result<String> {
    let daemon = Daemon::of(format);
    let path = match (&args.output, daemon.file) {
        (Some(path), _) => path.clone(),
        (None, Some(path)) => path.into(),
        (None, None) => {
            bail!("nothing says where it goes: give -o FOLDER, the pxelinux.cfg of the TFTP server")
        }
    };
    if format == Format::Pxelinux {
        if args.reload {
            bail!("nothing has to be reloaded: PXELINUX reads its files at every boot");
        }
        return into_folder(&path, made);
    }
    let text: String = made.files.iter().map(|(_, text)| text.as_str()).collect();
    let text = match format {
        // The admin's own lines stay.
        Format::Hosts => match std::fs::read_to_string(&path) {
            Ok(there) => merge_hosts(&there, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => text,
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        },
        _ => text,
    };
    install::install(&daemon, &path, &text, args.reload)
}

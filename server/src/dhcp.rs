//! DHCP as `pitstop serve` runs it: what the command line says of it, and whether what it names to machines is there.

use crate::boot;
use crate::fleet;
use crate::path::RelPath;
use crate::site::{Site, Sites};
use anyhow::bail;
use pitstop_dhcp::{Dhcp, FleetNow, Journal, Mode, Settings};
use pitstop_fleet::Fleet;
use pitstop_fleet::boot::{Firmware, loader};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// Answer machines that boot: `proxy` beside the DHCP server that is there, `server` as the only one, with addresses
    /// from fleet.toml
    #[arg(
        long,
        value_name = "off|proxy|server",
        default_value = "off",
        hide_possible_values = true
    )]
    dhcp: Choice,
    /// Answer DHCP on this interface alone; may be repeated [default: those of --listen]
    #[arg(long, value_name = "NAME")]
    dhcp_interface: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Choice {
    Off,
    Proxy,
    Server,
}

impl Choice {
    fn mode(self) -> Option<Mode> {
        match self {
            Choice::Off => None,
            Choice::Proxy => Some(Mode::Proxy),
            Choice::Server => Some(Mode::Server),
        }
    }
}

/// Opens the ports, unless DHCP is off. `http` is where HTTP listens.
pub async fn start(
    args: &Options,
    root: &Path,
    sites: &Sites,
    http: SocketAddr,
) -> anyhow::Result<Option<Dhcp>> {
    let Some(mode) = args.dhcp.mode() else {
        return Ok(None);
    };
    let site = sites.now()?;
    if let (Mode::Server, Some(wrong)) = (mode, site.fleet.wrong()) {
        bail!(
            "--dhcp server gives addresses from a file that is wrong: {}",
            wrong.why
        );
    }
    let settings = Settings {
        mode,
        listen: http.ip(),
        port: http.port(),
        url: site.url_given.then(|| site.boot_url.clone()),
        interfaces: args.dhcp_interface.clone(),
        root: root.to_path_buf(),
    };
    let journal = Arc::clone(&sites.journal);
    let journal: Journal = Arc::new(move |line| journal.note(&line));
    Dhcp::start(settings, fleet_now(&sites.fleet), journal)
        .await
        .map(Some)
}

/// A root without the file has no fleet.
fn fleet_now(watched: &Arc<fleet::Watched>) -> FleetNow {
    let watched = Arc::clone(watched);
    Arc::new(move || {
        let fleet = watched.current();
        (!fleet.file.is_empty()).then_some(fleet)
    })
}

/// What to say at the start: where DHCP is answered, and which machines will find no loader.
pub fn lines(dhcp: &Dhcp, site: &Site, boot_folder: &Path) -> Vec<String> {
    let fleet = site.fleet.current();
    let mut lines = dhcp.lines().to_vec();
    // What loads over HTTP loads the same files.
    let over_tftp = [Firmware::Bios, Firmware::EfiX64, Firmware::EfiArm64];
    lines.extend(over_tftp.into_iter().filter_map(|firmware| {
        let missing = missing(site, &fleet, firmware)?;
        Some(format!(
            "{} machines cannot boot: {missing} is not in {}{}",
            pitstop_dhcp::boot::title(firmware),
            boot_folder.display(),
            source(missing)
        ))
    }));
    lines
}

/// The first of the files below the boot folder that this firmware needs and that is not there.
fn missing(site: &Site, fleet: &Fleet, firmware: Firmware) -> Option<&'static str> {
    // Others' loaders are others' business.
    let usual = loader(&pitstop_fleet::Server::default(), "", firmware);
    if loader(&fleet.server, "", firmware) != usual {
        return None;
    }
    let needed: &[&str] = match firmware {
        Firmware::Bios => &["pxelinux.0", "ldlinux.c32"],
        Firmware::EfiX64 => &["ipxe.efi"],
        Firmware::EfiArm64 => &["ipxe-arm64.efi"],
        Firmware::HttpX64 | Firmware::HttpArm64 | Firmware::Ipxe => &[],
    };
    let is_there = |name: &str| {
        let path = RelPath::from_text(name);
        path.is_ok_and(|path| boot::open(site, &path).is_ok())
    };
    needed.iter().find(|name| !is_there(name)).copied()
}

/// Where a file comes from.
fn source(file: &str) -> &'static str {
    match file {
        "pxelinux.0" => "; apt install pxelinux",
        "ldlinux.c32" => "; apt install syslinux-common",
        "ipxe.efi" => "; apt install ipxe",
        _ => "; Debian 12 has no package with it: build iPXE's bin-arm64-efi/ipxe.efi",
    }
}

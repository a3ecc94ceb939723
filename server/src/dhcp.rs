//! DHCP as `pitstop serve` runs it: what the command line says of it, and whether what it names to machines is there.

use crate::boot;
use crate::fleet;
use crate::host_search::Asker;
use crate::path::RelPath;
use crate::site::{Site, Sites};
use anyhow::bail;
use pitstop_dhcp::{Dhcp, FleetNow, Heard, Journal, Mode, Settings};
use pitstop_fleet::Fleet;
use pitstop_fleet::boot::{Chain, Firmware, GRUB, IPXE, SHIM, loader};
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
    boot_folder: &Path,
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
        chain: chain(mode, boot_folder),
    };
    let journal = Arc::clone(&sites.journal);
    let journal: Journal = Arc::new(move |line| journal.note(&line));
    let strangers = Arc::clone(&site.strangers);
    let heard: Heard = Arc::new(move |ip, mac, uuid| {
        let asker = Asker {
            ip: Some(ip.into()),
            mac: Some(mac),
            uuid,
        };
        strangers.heard(ip.into(), &asker);
    });
    Dhcp::start(settings, fleet_now(&sites.fleet), journal, heard)
        .await
        .map(Some)
}

/// GRUB takes its server from who gave the address: beside another DHCP server it would find nothing.
fn chain(mode: Mode, boot_folder: &Path) -> Chain {
    match mode {
        Mode::Server => boot::chain(boot_folder),
        Mode::Proxy => Chain::Plain,
    }
}

/// A root without the file has no fleet.
fn fleet_now(watched: &Arc<fleet::Watched>) -> FleetNow {
    let watched = Arc::clone(watched);
    Arc::new(move || {
        let fleet = watched.current();
        (!fleet.file.is_empty()).then_some(fleet)
    })
}

impl Options {
    /// What to say at the start: where DHCP is answered, and which machines will find no loader.
    pub fn lines(&self, dhcp: &Dhcp, site: &Site, boot_folder: &Path) -> Vec<String> {
        let fleet = site.fleet.current();
        let mut lines = dhcp.lines().to_vec();
        let chain = self
            .dhcp
            .mode()
            .map_or(Chain::Plain, |mode| chain(mode, boot_folder));
        // What loads over HTTP loads the same files.
        let over_tftp = [Firmware::Bios, Firmware::EfiX64, Firmware::EfiArm64];
        lines.extend(over_tftp.into_iter().filter_map(|firmware| {
            let missing = missing(site, &fleet, firmware, chain)?;
            Some(format!(
                "{} machines cannot boot: {missing} is not in {}{}",
                pitstop_dhcp::boot::title(firmware),
                boot_folder.display(),
                source(missing)
            ))
        }));
        let loader = loader(&fleet.server, "", Firmware::EfiX64, chain);
        if loader == IPXE {
            lines.push(
                "UEFI machines with Secure Boot on do not start iPXE: docs/secure-boot.md has how they boot"
                    .into(),
            );
        }
        lines
    }
}

/// The first of the files below the boot folder that this firmware needs and that is not there.
fn missing(site: &Site, fleet: &Fleet, firmware: Firmware, chain: Chain) -> Option<&'static str> {
    // Others' loaders are others' business.
    let usual = loader(&pitstop_fleet::Server::default(), "", firmware, chain);
    if loader(&fleet.server, "", firmware, chain) != usual {
        return None;
    }
    let needed: &[&str] = match firmware {
        Firmware::Bios => &["pxelinux.0", "ldlinux.c32"],
        Firmware::EfiX64 if chain == Chain::Signed => &[SHIM, GRUB],
        Firmware::EfiX64 => &[IPXE],
        Firmware::EfiArm64 => &["arm64/vmlinuz", "arm64/initramfs.img", "ipxe-arm64.efi"],
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
        IPXE => "; apt install ipxe",
        SHIM => "; apt install shim-signed",
        GRUB => "; apt install grub-efi-amd64-signed",
        "arm64/vmlinuz" | "arm64/initramfs.img" => "; make image ARCH=arm64",
        _ => "; Debian 12 has no package with it: docs/arm64.md has what to do",
    }
}

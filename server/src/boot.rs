//! Boot files: the admin's, or the boot loaders that the distribution has installed.

use crate::arch::Architecture;
use crate::bootconf;
use crate::file;
use crate::grubconf::{self, Wanted};
use crate::host_search::{self, Asker};
use crate::http::{Caller, Here, Whole, only_read};
use crate::path::RelPath;
use crate::reached::{Asked, Reached};
use crate::refusal::{Refusal, blocking};
use crate::site::{Site, Sites};
use crate::unknown;
use axum::Router;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use pitstop_fleet::Identity;
use pitstop_fleet::boot::{Chain, GRUB, SHIM};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// Where Debian's packages pxelinux, syslinux-common and ipxe put what network boot needs.
const INSTALLED: [(&str, &[&str]); 3] = [
    ("/usr/lib/PXELINUX", &["pxelinux.0", "lpxelinux.0"]),
    ("/usr/lib/syslinux/modules/bios", &[".c32"]),
    (
        "/usr/lib/ipxe",
        &["undionly.kpxe", "ipxe.pxe", "ipxe.efi", "snponly.efi"],
    ),
];

/// The same of Debian's packages shim-signed and grub-efi-amd64-signed, where they have other names.
const SIGNED: [(&str, &str); 2] = [
    (SHIM, "/usr/lib/shim/shimx64.efi.signed"),
    (
        GRUB,
        "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
    ),
];

/// What UEFI machines can begin with, by the files that are in the boot folder or installed.
pub fn chain(folder: &Path) -> Chain {
    let there = |(name, installed): &(&str, &str)| {
        folder.join(name).is_file() || Path::new(installed).is_file()
    };
    if SIGNED.iter().all(there) {
        Chain::Signed
    } else {
        Chain::Plain
    }
}

pub fn routes() -> Router<Arc<Sites>> {
    Router::new()
        .route("/ipxe", get(ipxe).fallback(only_read))
        .fallback(any(boot_file))
}

/// iPXE asks what this machine is to do.
async fn ipxe(Here(site): Here, uri: Uri, asked: Asked) -> Result<Response, Refusal> {
    let reached = site.reached(&asked);
    let machine = bootconf::asker(uri.query().unwrap_or_default());
    blocking(move || {
        let found = machine.job(&site.hosts);
        let job = unknown::job(&site, &machine, found, &reached.machines);
        let append = append(&site, &machine.identity());
        Ok(text(bootconf::ipxe(&reached, job.as_deref(), &append)))
    })
    .await
}

/// Everything else is a boot file, as loaders ask for theirs beside themselves, or nothing.
async fn boot_file(
    Here(site): Here,
    Whole(path): Whole,
    Caller(peer): Caller,
    method: Method,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if !matches!(method, Method::GET | Method::HEAD) {
        return Err(Refusal::method("GET, HEAD"));
    }
    let (reached, wanted) = (site.reached(&asked), path.clone());
    let found = blocking(move || {
        if let Some(text) = generated(&site, &wanted, peer, &reached) {
            return Ok(Err(text));
        }
        if wanted.below("boot").is_none() && wanted.below("pxelinux.cfg").is_none() {
            return Err(Refusal::not_found(&wanted));
        }
        let failed = |error| Refusal::io(&format!("opening {wanted}"), &error);
        let file = open(&site, &wanted).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        Ok(Ok((file, metadata)))
    });
    match found.await? {
        Err(generated) => Ok(text(generated)),
        Ok((file, metadata)) => file::send(file, metadata, &path, &method, &headers).await,
    }
}

fn text(text: String) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], text).into_response()
}

/// Opens a boot file: below the boot folder under its path, or without a leading `boot/`, or, for a
/// loader that looks beside itself, by its last name alone; else one that the distribution installed. In the folder of an
/// architecture only what is there counts.
pub fn open(site: &Site, path: &RelPath) -> io::Result<cap_std::fs::File> {
    let name = path
        .split()
        .map(|(_, name)| name)
        .ok_or(ErrorKind::NotFound)?;
    let below = path.below("boot");
    // A machine of another architecture would get a kernel that is not for it.
    let of_one = Architecture::owns(path);
    let by_name = RelPath::from_text(name).ok().filter(|_| !of_one);
    for wanted in [Some(path), below.as_ref(), by_name.as_ref()]
        .into_iter()
        .flatten()
    {
        if site.boot.is_file(wanted.as_path()) {
            return site.boot.open(wanted.as_path());
        }
    }
    for (folder, names) in INSTALLED {
        // The distribution's own folders may have symlinks to anywhere; the name is one of a few.
        let installed = Path::new(folder).join(name);
        if !of_one && names.iter().any(|end| name.ends_with(end)) && installed.is_file() {
            return std::fs::File::open(installed).map(cap_std::fs::File::from_std);
        }
    }
    for (own, installed) in SIGNED {
        if name == own && Path::new(installed).is_file() {
            return std::fs::File::open(installed).map(cap_std::fs::File::from_std);
        }
    }
    // Told apart from a symlink that leads out, which is there but is not served.
    match site.boot.symlink_metadata(path.as_path()) {
        Ok(metadata) if metadata.is_symlink() => site.boot.open(path.as_path()),
        _ => Err(io::Error::from(ErrorKind::NotFound)),
    }
}

/// The text that is made for `path`, where there is one: boot loader configurations, for who asks at `peer`.
///
/// The admin's own `pxelinux.cfg/NAME` gives way to a job, and wins over the generated `default`.
pub fn generated(site: &Site, path: &RelPath, peer: IpAddr, reached: &Reached) -> Option<String> {
    let (folder, name) = path.split()?;
    if folder.as_str() == "pxelinux.cfg" || folder.as_str().ends_with("/pxelinux.cfg") {
        let (job, who) = pxelinux_job(site, name, peer, &reached.machines);
        if job.is_none() && open(site, path).is_ok() {
            return None;
        }
        let append = append(site, &who);
        return bootconf::pxelinux(name, job.as_deref(), &reached.machines, &append);
    }
    if let Some(wanted) = Wanted::of(path) {
        return grub(site, path, wanted, peer, reached);
    }
    // iPXE looks for autoexec.ipxe by itself.
    if matches!(name, "boot.ipxe" | "autoexec.ipxe") && open(site, path).is_err() {
        return Some(bootconf::ipxe_entry(&reached.loaders));
    }
    None
}

/// The admin's own `grub/grub.cfg` wins over the one that is made.
fn grub(
    site: &Site,
    path: &RelPath,
    wanted: Wanted,
    peer: IpAddr,
    reached: &Reached,
) -> Option<String> {
    let asker = match wanted {
        Wanted::Entry => return open(site, path).is_err().then(grubconf::entry),
        Wanted::Machine(asker) => asker,
    };
    let asker = Asker {
        ip: asker.ip.or(Some(peer)),
        ..asker
    };
    let found = asker.job(&site.hosts);
    let Some(job) = unknown::job(site, &asker, found, &reached.machines) else {
        return Some(grubconf::local());
    };
    let append = append(site, &asker.identity());
    let parameters = bootconf::parameters(&reached.machines, &job, &append);
    Some(grubconf::payload(&job, &parameters, asker.mac))
}

/// Whether the machine at `peer` is known, by its address or by what it said to DHCP, and has nothing to do. Then it hears
/// that there is no loader, and its firmware goes on to its own disk: GRUB, once it runs, has only a list of names to send it
/// there by.
pub fn has_no_job(site: &Site, path: &RelPath, peer: IpAddr, reached: &Reached) -> bool {
    let is_shim = path.split().is_some_and(|(_, name)| name == SHIM);
    // Whoever has GRUB configured by hand has other things in mind for it.
    let entry = RelPath::from_text(grubconf::PATH);
    if !is_shim || entry.is_ok_and(|entry| open(site, &entry).is_ok()) {
        return false;
    }
    let asker = Asker {
        ip: Some(peer),
        ..site.strangers.heard(peer, &Asker::default())
    };
    let known = asker.mac.is_some() || site.fleet.current().find(&asker.identity()).is_some();
    known && unknown::job(site, &asker, asker.job(&site.hosts), &reached.machines).is_none()
}

/// The host file that PXELINUX means who asks for a configuration of this name, and who it is. It asks by one name after the
/// other: only for the last one has it said all of itself.
fn pxelinux_job(site: &Site, name: &str, peer: IpAddr, url: &str) -> (Option<String>, Identity) {
    let mut asker = site
        .strangers
        .heard(peer, &host_search::asker_of_name(name));
    let found = host_search::of_name(&site.hosts, name);
    // Its address it has said in hexadecimal, or the packet did.
    asker.ip = asker.ip.or(Some(peer));
    let job = match name {
        "default" => unknown::job(site, &asker, found, url),
        _ => found.filter(|file| unknown::is_for(site, &asker, file)),
    };
    (job, asker.identity())
}

/// The kernel parameters of a machine beside Pitstop's own: the server's, then those of the fleet file, so that they win.
pub fn append(site: &Site, who: &Identity) -> String {
    let fleet = site.fleet.current();
    let args = fleet.find(who).map(|machine| fleet.kernel_args(machine));
    format!("{} {}", site.append, args.unwrap_or_default())
        .trim()
        .to_owned()
}

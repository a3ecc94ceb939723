//! Mounting NFS exports with the kernel's own client, without helper programs: the options that `mount.nfs` would
//! work out are put into the mount data here.

use super::Carriers;
use anyhow::{Context as _, anyhow, bail};
use pitstop_protocol::share_url::{NfsUrl, Protocol};
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use sys_mount::{Mount, MountFlags, UnmountFlags, unmount};

/// A server that is gone is an error after about a minute and a half, not a hang: 10 s, doubled twice
/// (nfs(5): timeo counts tenths of seconds).
const PATIENCE: &str = "softerr,timeo=100,retrans=3";

/// Numbers the mount points of this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// An export that is mounted; dropping it unmounts it.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
}

impl Mounted {
    /// Where the export's files are.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, so that a server that is gone does not hold up the end of the run. What was written
        // is safe by then: every file was synced before it got its name.
        let _ = unmount(&self.path, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Mounts an export, by the newest version that both sides speak where none is named.
///
/// # Errors
/// A server without an address, and whatever the kernel says, in words where it is known what it means.
pub fn mount(url: &NfsUrl, carriers: &Carriers) -> anyhow::Result<Mounted> {
    let server = address_of(url)?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let path = carriers.mounts.join(format!("nfs{number}"));
    std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    let source = match server {
        IpAddr::V4(address) => format!("{address}:{}", url.path),
        IpAddr::V6(address) => format!("[{address}]:{}", url.path),
    };
    let mut last = None;
    for version in url.version.candidates() {
        let data = data(url, version, server, carriers.address);
        let outcome = Mount::builder()
            .fstype("nfs")
            .data(&data)
            .flags(
                MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID,
            )
            .mount(&source, &path);
        match outcome {
            Ok(_mount) => return Ok(Mounted { path }),
            Err(error) if speaks_another_version(&error) => last = Some(error),
            Err(error) => {
                last = Some(error);
                break;
            }
        }
    }
    let _ = std::fs::remove_dir(&path);
    match last {
        Some(error) => bail!("mounting {url}: {}", explain(url, &error)),
        None => bail!("mounting {url}: no version of NFS to try"),
    }
}

fn address_of(url: &NfsUrl) -> anyhow::Result<IpAddr> {
    let unknown = |why: String| {
        anyhow!(
            "mounting {url}: there is no host {}: is the name right, and does the DNS server know it? ({why})",
            url.host
        )
    };
    let mut found = (url.host.as_str(), 0)
        .to_socket_addrs()
        .map_err(|error| unknown(error.to_string()))?;
    let address = found
        .next()
        .ok_or_else(|| unknown("it has no address".into()))?;
    Ok(address.ip())
}

/// The mount data, as Documentation/admin-guide/nfs and nfs(5) have it.
fn data(url: &NfsUrl, version: &str, server: IpAddr, client: IpAddr) -> String {
    let suffix = if server.is_ipv6() { "6" } else { "" };
    let protocol = match url.protocol {
        Protocol::Tcp => format!("tcp{suffix}"),
        Protocol::Udp => format!("udp{suffix}"),
    };
    let mut options = vec![format!("vers={version}"), format!("proto={protocol}")];
    options.extend(url.port.map(|port| format!("port={port}")));
    if version == "3" {
        options.extend(url.mount_port.map(|port| format!("mountport={port}")));
        options.push(format!("mountproto={protocol}"));
        // There is no lock daemon here; nothing on the share is locked.
        options.push("nolock".into());
    } else {
        options.push(format!("clientaddr={client}"));
    }
    options.push(PATIENCE.into());
    options.push(format!("addr={server}"));
    options.join(",")
}

/// What the kernel says of a version that the server, or the kernel itself, does not have.
fn speaks_another_version(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(nix::errno::Errno::from_raw),
        Some(nix::errno::Errno::EPROTONOSUPPORT | nix::errno::Errno::EINVAL)
    )
}

fn explain(url: &NfsUrl, error: &io::Error) -> String {
    use nix::errno::Errno;
    let meaning = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENODEV) => "this kernel has no NFS client: the module nfs is missing".into(),
        // A server of NFS 3 says this of a path that it does not export, too.
        Some(Errno::EACCES) => format!(
            "the server does not allow this machine to mount it: is {} exported, and to this address?",
            url.path
        ),
        Some(Errno::ENOENT | Errno::ENOTDIR) => format!(
            "the server has no export {}: compare the path with what it exports (NFS 4 counts from its root export)",
            url.path
        ),
        Some(Errno::ESTALE) => {
            "the server's handle of the export is stale: export it again (exportfs -r)".into()
        }
        Some(Errno::ECONNREFUSED) => {
            "nothing answers on the NFS port: is the server running, and is this its port?".into()
        }
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH) => format!(
            "there is no way to {}: check the address, the netmask and the gateway",
            url.host
        ),
        Some(Errno::ETIMEDOUT) => {
            "the server does not answer: is it up, and does a firewall drop NFS?".into()
        }
        Some(Errno::EPROTONOSUPPORT) => {
            "the server does not speak this version of NFS: give another vers, or none".into()
        }
        Some(Errno::EPERM) => {
            String::from("not allowed: mounting needs root, and the server may refuse too")
        }
        _ => return error.to_string(),
    };
    format!("{meaning} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_protocol::share_url::{NfsVersion, ShareUrl};

    fn nfs(text: &str) -> NfsUrl {
        let Ok(ShareUrl::Nfs(url)) = text.parse() else {
            panic!("{text} is not NFS")
        };
        url
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_data_is_what_the_kernels_client_takes() {
        let server = address("10.0.2.2");
        let client = address("10.0.2.15");
        assert_eq!(
            data(
                &nfs("nfs://s/x?vers=3&port=12049&mountport=12050"),
                "3",
                server,
                client
            ),
            "vers=3,proto=tcp,port=12049,mountport=12050,mountproto=tcp,nolock,\
             softerr,timeo=100,retrans=3,addr=10.0.2.2"
        );
        assert_eq!(
            data(&nfs("nfs://s/x?vers=4.1"), "4.1", server, client),
            "vers=4.1,proto=tcp,clientaddr=10.0.2.15,softerr,timeo=100,retrans=3,addr=10.0.2.2"
        );
        let six = data(
            &nfs("nfs://[fd00::2]/x"),
            "4.2",
            address("fd00::2"),
            address("fd00::15"),
        );
        assert!(
            six.contains("proto=tcp6") && six.ends_with("addr=fd00::2"),
            "{six}"
        );
    }

    #[test]
    fn each_refusal_is_a_sentence_that_says_what_to_do() {
        use nix::errno::Errno;
        let url = nfs("nfs://s/export/x");
        for (errno, part) in [
            (Errno::ENODEV, "the module nfs is missing"),
            (Errno::EACCES, "is /export/x exported, and to this address?"),
            (Errno::ENOENT, "the server has no export /export/x: compare"),
            (Errno::ESTALE, "export it again"),
            (Errno::ECONNREFUSED, "is this its port?"),
            (Errno::EHOSTUNREACH, "there is no way to s: check"),
            (Errno::ETIMEDOUT, "does a firewall drop NFS?"),
            (Errno::EPROTONOSUPPORT, "give another vers"),
            (Errno::EPERM, "needs root"),
        ] {
            let error = io::Error::from(errno);
            let text = explain(&url, &error);
            assert!(text.contains(part), "{text}");
            assert!(text.ends_with(&format!("({error})")), "{text}");
        }
    }

    #[test]
    fn a_host_that_nobody_knows_is_named() {
        let error = address_of(&nfs("nfs://no-such-host.invalid/x")).unwrap_err();
        let text = error.to_string();
        let start = "mounting nfs://no-such-host.invalid/x: there is no host no-such-host.invalid: is the name right";
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn without_a_version_the_newest_comes_first() {
        assert_eq!(nfs("nfs://s/x").version.candidates().first(), Some(&"4.2"));
        assert_eq!(nfs("nfs://s/x?vers=4").version, NfsVersion::V4);
        assert_eq!(nfs("nfs://s/x?vers=4.1").version.candidates(), ["4.1"]);
    }
}

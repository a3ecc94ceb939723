//! A cable between a machine's card and a network that leads through this process, which may change frames on their
//! way, or lose them. No kernel here needs to know how.

use crate::arch::Architecture;
use crate::network::Network;
use anyhow::{Context, Result};
use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;

/// The longest frame, and more.
const FRAME: usize = 65536;

/// What QEMU calls the machine's end.
const WIRE: &str = "wire";

/// A cable. Frames go through it, one in each datagram, until it is dropped.
pub struct Wire {
    /// A QEMU without a machine, which is the network's end.
    network: Child,
    /// The backend of the machine's card.
    backend: String,
    mac: Option<String>,
    ends: [UnixDatagram; 2],
    /// Holds the sockets.
    _folder: tempfile::TempDir,
}

impl Wire {
    /// Lays a cable to a network. `outwards` makes of a frame what goes on to the network, `inwards` what goes on to
    /// the machine; where they return `None` it ends here.
    pub fn lay(
        network: &Network,
        outwards: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
        inwards: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Wire> {
        let folder = tempfile::tempdir()?;
        let machine = End::new(folder.path(), "machine")?;
        let far = End::new(folder.path(), "network")?;
        let mut command = network.qemu(Architecture::X86_64)?;
        command.args(["-nodefaults", "-display", "none", "-machine", "none"]);
        let backend = network.backend("far").context("there is no network")?;
        for (name, netdev) in [("far", backend), ("wire", far.backend("wire"))] {
            let port = format!("hubport,id=port-{name},hubid=0,netdev={name}");
            command.args(["-netdev", &netdev, "-netdev", &port]);
        }
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let wire = Wire {
            network: child,
            backend: machine.backend(WIRE),
            mac: network.mac().map(ToOwned::to_owned),
            ends: [machine.ours.try_clone()?, far.ours.try_clone()?],
            _folder: folder,
        };
        forward(&machine, &far, outwards)?;
        forward(&far, &machine, inwards)?;
        Ok(wire)
    }

    /// The backend of the machine's end, and its `id`.
    pub fn backend(&self) -> (&str, &'static str) {
        (&self.backend, WIRE)
    }

    /// The arguments that plug a machine in.
    pub fn card(&self) -> Vec<String> {
        let mac = self.mac.as_ref().map(|mac| format!(",mac={mac}"));
        let card = format!(
            "virtio-net-pci,netdev={WIRE},romfile={}",
            mac.unwrap_or_default()
        );
        ["-netdev", &self.backend, "-device", &card]
            .map(ToOwned::to_owned)
            .to_vec()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // These fail only when QEMU has ended already, or the forwarding.
        let _ = self.network.kill();
        let _ = self.network.wait();
        for end in &self.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// A socket of ours, and the one that QEMU makes for its end of it.
struct End {
    ours: UnixDatagram,
    path: PathBuf,
    theirs: PathBuf,
}

impl End {
    fn new(folder: &Path, name: &str) -> Result<End> {
        let path = folder.join(name);
        Ok(End {
            ours: UnixDatagram::bind(&path)
                .with_context(|| format!("binding {}", path.display()))?,
            path,
            theirs: folder.join(format!("{name}-qemu")),
        })
    }

    fn backend(&self, id: &str) -> String {
        format!(
            "dgram,id={id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
            self.theirs.display(),
            self.path.display()
        )
    }
}

/// Passes frames on until the cable is dropped. A side that is not there yet, or no longer, loses them; one that is
/// slow is waited for.
fn forward(
    from: &End,
    to: &End,
    mut change: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static,
) -> Result<()> {
    let (source, target) = (from.ours.try_clone()?, to.ours.try_clone()?);
    let theirs = to.theirs.clone();
    thread::Builder::new().name("wire".into()).spawn(move || {
        let mut buffer = vec![0; FRAME];
        loop {
            let length = match source.recv(&mut buffer) {
                Ok(0) => return,
                Ok(length) => length,
                // What the other side did not get.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            if let Some(frame) = buffer.get(..length).and_then(&mut change) {
                let _ = target.send_to(&frame, &theirs);
            }
        }
    })?;
    Ok(())
}

//! A trunk port: a machine on one side that has to tag its frames (IEEE 802.1Q), QEMU's user network on the other.
//!
//! The frames go through this process, one in each UDP datagram, so that no kernel here needs to know of tags.

use crate::tools;
use anyhow::{Context, Result};
use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::thread;

/// Where the tag is in a frame: behind the two addresses.
const TAG: usize = 12;
/// What says that a tag follows (IEEE 802.1Q 9.6).
const TAGGED: [u8; 2] = [0x81, 0x00];
/// The lower bits are the network's number; those above are the priority.
const NUMBER: u16 = 0x0fff;

/// The switch: frames without the right tag end here.
pub struct Trunk {
    /// A QEMU without a machine, which is the user network.
    network: Child,
    /// The backend of the machine's card.
    backend: String,
}

impl Trunk {
    /// A port on which this VLAN reaches the user network, and nothing else reaches anything.
    pub fn start(id: u16) -> Result<Trunk> {
        let [machine, user] = [endpoint()?, endpoint()?];
        let backend = |id: &str, ours: &UdpSocket, theirs: u16| -> Result<String> {
            let port = ours.local_addr()?.port();
            Ok(format!(
                "dgram,id={id},local.type=inet,local.host=127.0.0.1,local.port={theirs},\
                 remote.type=inet,remote.host=127.0.0.1,remote.port={port}"
            ))
        };
        let mut command = tools::command("qemu-system-x86_64")?;
        command.args(["-nodefaults", "-display", "none", "-machine", "none"]);
        for (name, netdev) in [
            ("user", "user,id=user".to_owned()),
            ("wire", backend("wire", &user.0, user.1)?),
        ] {
            let port = format!("hubport,id=port-{name},hubid=0,netdev={name}");
            command.args(["-netdev", &netdev, "-netdev", &port]);
        }
        let network = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let trunk = Trunk {
            network,
            backend: backend("trunk", &machine.0, machine.1)?,
        };
        forward(&machine, &user, move |frame| without_tag(frame, id))?;
        forward(&user, &machine, move |frame| Some(with_tag(frame, id)))?;
        Ok(trunk)
    }

    /// The arguments that plug a machine in.
    pub fn card(&self) -> [&str; 4] {
        [
            "-netdev",
            &self.backend,
            "-device",
            "virtio-net-pci,netdev=trunk",
        ]
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        // Both fail only when QEMU has ended already.
        let _ = self.network.kill();
        let _ = self.network.wait();
    }
}

/// A socket of ours, and a port that is free for QEMU's end of it.
fn endpoint() -> Result<(UdpSocket, u16)> {
    let ours = UdpSocket::bind(("127.0.0.1", 0))?;
    let theirs = UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?.port();
    Ok((ours, theirs))
}

/// Passes frames on for as long as the test lives. A side that is not there yet, or no longer, loses them.
fn forward(
    from: &(UdpSocket, u16),
    to: &(UdpSocket, u16),
    change: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
) -> Result<()> {
    let source = from.0.try_clone()?;
    let (target, port) = (to.0.try_clone()?, to.1);
    thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(length) = source.recv(&mut buffer) {
            if let Some(frame) = buffer.get(..length).and_then(&change) {
                let _ = target.send_to(&frame, ("127.0.0.1", port));
            }
        }
    });
    Ok(())
}

/// The frame without its tag, if it has the right one.
fn without_tag(frame: &[u8], id: u16) -> Option<Vec<u8>> {
    let tag = frame.get(TAG..TAG + 4)?;
    let number = u16::from_be_bytes([tag[2], tag[3]]) & NUMBER;
    (tag[..2] == TAGGED && number == id).then(|| [&frame[..TAG], &frame[TAG + 4..]].concat())
}

fn with_tag(frame: &[u8], id: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(TAG.min(frame.len()));
    [addresses, &TAGGED, &id.to_be_bytes(), rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_and_go_and_others_do_not_pass() {
        let frame: Vec<u8> = (0..64).collect();
        let tagged = with_tag(&frame, 5);
        assert_eq!(tagged[12..18], [0x81, 0, 0, 5, 12, 13]);
        assert_eq!(without_tag(&tagged, 5), Some(frame.clone()));
        assert_eq!(without_tag(&tagged, 6), None);
        assert_eq!(without_tag(&frame, 5), None);
        assert_eq!(without_tag(&frame[..13], 5), None);
    }
}

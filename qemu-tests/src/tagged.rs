//! A trunk port: a machine on one side that has to tag its frames (IEEE 802.1Q), QEMU's user network on the other.

use crate::network::Network;
use crate::wire::Wire;
use anyhow::Result;

/// Where the tag is in a frame: behind the two addresses.
const TAG: usize = 12;
/// What says that a tag follows (IEEE 802.1Q 9.6).
const TAGGED: [u8; 2] = [0x81, 0x00];
/// The lower bits are the network's number; those above are the priority.
const NUMBER: u16 = 0x0fff;

/// A cable to a port on which this VLAN reaches the user network, and nothing else reaches anything.
pub fn trunk(id: u16) -> Result<Wire> {
    Wire::lay(
        &Network::user(),
        move |frame| without_tag(frame, id),
        move |frame| Some(with_tag(frame, id)),
    )
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

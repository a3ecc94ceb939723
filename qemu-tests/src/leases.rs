//! A cable on which what DHCP grants is shorter than its server thinks: dnsmasq grants no less than two minutes.

use crate::network::Network;
use crate::wire::Wire;
use anyhow::Result;

/// What begins a frame with an IPv4 packet that has no options of its own (RFC 894, RFC 791 3.1).
const TYPE: usize = 12;
const IPV4: [u8; 3] = [0x08, 0x00, 0x45];
const PROTOCOL: usize = 23;
const UDP: u8 = 17;
/// Of the datagram (RFC 768).
const SOURCE_PORT: usize = 34;
const CHECKSUM: usize = 40;
/// Whom a DHCP server speaks as.
const SERVER_PORT: u16 = 67;
/// Behind the fields of BOOTP and the cookie (RFC 2131 3).
const OPTIONS: usize = 282;

/// Lays a cable to a network whose leases end after so many seconds, and are to be renewed at half time.
pub fn short_leases(network: &Network, seconds: u32) -> Result<Wire> {
    Wire::lay(
        network,
        |frame| Some(frame.to_vec()),
        move |frame| Some(shortened(frame, seconds)),
    )
}

/// The frame; if it is of a DHCP server, with other times (RFC 2132 9.2, 9.11, 9.12).
fn shortened(frame: &[u8], seconds: u32) -> Vec<u8> {
    let mut changed = frame.to_vec();
    if !is_of_server(frame) {
        return changed;
    }
    // None is given (RFC 768).
    changed[CHECKSUM..CHECKSUM + 2].fill(0);
    let mut at = OPTIONS;
    while let Some(&[code, length]) = frame.get(at..at + 2) {
        let time = match code {
            51 => Some(seconds),
            58 => Some(seconds / 2),
            59 => Some(seconds / 8 * 7),
            _ => None,
        };
        let value = at + 2..at + 2 + usize::from(length);
        if let (Some(time), Some(value)) = (time, changed.get_mut(value.clone()))
            && value.len() == 4
        {
            value.copy_from_slice(&time.to_be_bytes());
        }
        // A pad has no length.
        at = if code == 0 { at + 1 } else { value.end };
    }
    changed
}

fn is_of_server(frame: &[u8]) -> bool {
    frame.get(TYPE..TYPE + 3) == Some(&IPV4)
        && frame.get(PROTOCOL) == Some(&UDP)
        && frame.get(SOURCE_PORT..SOURCE_PORT + 2) == Some(&SERVER_PORT.to_be_bytes())
        && frame.len() > OPTIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xaa; OPTIONS];
        frame[TYPE..TYPE + 3].copy_from_slice(&IPV4);
        frame[PROTOCOL] = UDP;
        frame[SOURCE_PORT..SOURCE_PORT + 2].copy_from_slice(&SERVER_PORT.to_be_bytes());
        [&frame, options].concat()
    }

    #[test]
    fn times_become_shorter_and_nothing_else_changes() {
        let long = [0, 53, 1, 5, 51, 4, 0, 1, 0, 0, 58, 4, 9, 9, 9, 9, 255];
        let short = [0, 53, 1, 5, 51, 4, 0, 0, 0, 60, 58, 4, 0, 0, 0, 30, 255];
        let mut wanted = answer(&short);
        wanted[CHECKSUM..CHECKSUM + 2].fill(0);
        assert_eq!(shortened(&answer(&long), 60), wanted);
    }

    #[test]
    fn other_frames_and_broken_ones_pass() {
        let mut question = answer(&[51, 4, 0, 1, 0, 0]);
        question[SOURCE_PORT + 1] = 68;
        assert_eq!(shortened(&question, 60), question);
        assert_eq!(shortened(&[8; 20], 60), [8; 20]);
        let cut = answer(&[51, 4, 0, 1]);
        assert_eq!(shortened(&cut, 60)[OPTIONS..], [51, 4, 0, 1]);
    }
}

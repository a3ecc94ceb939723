//! Any datagram is a packet or none, and a packet that was read is written as one that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_transport::fetch::tftp::packet::Packet;

fuzz_target!(|datagram: &[u8]| {
    if let Ok(packet) = Packet::parse(datagram) {
        let again = packet.encode();
        assert_eq!(Packet::parse(&again).map(|packet| packet.encode()), Ok(again));
    }
});

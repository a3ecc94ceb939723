//! Any datagram is a question or none, and a proxy's answer to a question is a message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_dhcp::boot::Here;
use pitstop_dhcp::proxy::{self, Port, Told};
use pitstop_dhcp::question::Question;
use pitstop_fleet::boot::Chain;

fuzz_target!(|datagram: &[u8]| {
    let Ok(question) = Question::read(datagram) else {
        return;
    };
    let here = Here {
        interface: "eth0".into(),
        address: [10, 0, 0, 1].into(),
        files: [10, 0, 0, 1].into(),
        url: "http://10.0.0.1:8080".into(),
        chain: Chain::Plain,
    };
    for port in [Port::Dhcp, Port::Pxe] {
        if let Told::Answer(answer, _) = proxy::answer(None, &question, &here, port) {
            let bytes = answer.bytes().expect("an answer that cannot be written");
            assert_eq!(bytes.first(), Some(&2), "an answer that is none");
        }
    }
});

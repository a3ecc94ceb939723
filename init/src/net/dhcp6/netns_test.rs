//! The client against a real server: dnsmasq, which is the router too, behind a virtual cable.

use super::*;
use crate::net::netns::{Cable, MAC};
use crate::net::slaac;
use pitstop_imaging::event::Silent;
use std::path::Path;
use std::thread;

/// A cable at whose far end is a network of IPv6 alone.
fn network(name: &str, options: &[&str]) -> Cable {
    let mut cable = Cable::lay(name);
    cable.ip_at_server("addr add 2001:db8::1/64 dev s0 nodad");
    cable.serve(&[&["--enable-ra", "--ra-param=s0,4"], options].concat());
    cable
}

/// What the routers say, once one is heard.
fn routers(nic: &Nic) -> slaac::Routers {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if let Some(routers) = slaac::routers(nic.index).unwrap() {
            return routers;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("no router was heard");
}

#[test]
fn a_managed_network_gives_an_address_and_keeps_it() {
    let cable = network(
        "managed",
        &[
            "--dhcp-range=2001:db8::50,2001:db8::60,64,2h",
            "--dhcp-host=52:54:00:77:88:99,[2001:db8::55]",
            "--dhcp-option=option6:dns-server,[2001:db8::53]",
            "--dhcp-option=option6:ntp-server,[2001:db8::123]",
            "--dhcp-option=option6:bootfile-url,http://[2001:db8::1]/hosts/",
        ],
    );
    let (routers, granted, renewed) = cable.at_client(|nic| {
        let routers = routers(&nic);
        let identity = Identity::new(MAC, None);
        let client = Client::open(&nic, &identity).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let granted = client.acquire(until, &Silent).unwrap().expect("an address");
        let renewed =
            [Whom::Granter, Whom::Anybody].map(|whom| client.renew(&granted, whom).unwrap());
        (routers, granted, renewed)
    });
    assert!(routers.managed);
    assert_eq!(granted.address.to_string(), "2001:db8::55");
    assert_eq!(granted.times.lease, Duration::from_secs(7200));
    assert_eq!(granted.told.dns[0].to_string(), "2001:db8::53");
    assert_eq!(granted.told.ntp[0].to_string(), "2001:db8::123");
    let url = granted.told.boot_file.as_deref();
    assert_eq!(url, Some("http://[2001:db8::1]/hosts/"));
    for reply in renewed {
        let Reply::Granted(renewed) = reply else {
            panic!("not renewed: {reply:?}");
        };
        assert_eq!(renewed.address, granted.address);
    }
}

#[test]
fn a_network_that_announces_its_prefix_tells_the_rest_when_asked() {
    let cable = network(
        "stateless",
        &[
            "--dhcp-range=2001:db8::,ra-stateless",
            "--dhcp-option=option6:dns-server,[2001:db8::53]",
        ],
    );
    let (routers, told, announced) = cable.at_client(|nic| {
        let routers = routers(&nic);
        let identity = Identity::new(MAC, None);
        let client = Client::open(&nic, &identity).unwrap();
        let told = client
            .inform(Instant::now() + Duration::from_secs(60))
            .unwrap();
        let until = Instant::now() + Duration::from_secs(120);
        let mut announced = None;
        while announced.is_none() && Instant::now() < until {
            thread::sleep(Duration::from_millis(100));
            announced = slaac::address(Path::new("/proc/thread-self"), nic.index);
        }
        (routers, told, announced)
    });
    assert!(routers.other && !routers.managed);
    assert_eq!(told.unwrap().dns[0].to_string(), "2001:db8::53");
    let address = announced.expect("an address by SLAAC").address;
    assert_eq!(address.to_string(), "2001:db8::5054:ff:fe77:8899");
}

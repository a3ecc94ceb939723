//! The client against a real server: dnsmasq at the other end of a cable.

use super::renew;
use super::*;
use crate::net::netns::Cable;
use pitstop_imaging::event::Silent;

pub fn ask(nic: &Nic, patience: Duration) -> Option<Granted> {
    let began = Instant::now();
    let mut backoff = Backoff::default();
    acquire(nic, began, began + patience, &mut backoff, &Silent)
        .unwrap()
        .ok()
}

#[test]
fn dnsmasq_grants_what_it_was_told_and_renews_it() {
    let mut cable = Cable::lay("grant");
    cable.serve(&[
        "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2h",
        "--dhcp-host=52:54:00:77:88:99,10.77.0.55,box7",
        "--dhcp-option=option:router,10.77.0.1",
        "--dhcp-option=option:dns-server,10.77.0.1,10.77.0.2",
        "--dhcp-option=option:mtu,1400",
        "--dhcp-option=121,192.0.2.0/24,10.77.0.9",
        "--dhcp-boot=pxelinux.0,,10.77.0.1",
    ]);
    let (settings, renewed) = cable.at_client(|nic| {
        let granted = ask(&nic, Duration::from_secs(60)).expect("an address");
        let mut netlink = crate::net::netlink::Netlink::open().unwrap();
        let settings = granted.settings;
        netlink
            .add_address(nic.index, settings.address.into(), settings.prefix)
            .unwrap();
        for route in &settings.routes {
            netlink.add_route(nic.index, route).unwrap();
        }
        netlink.set_mtu(nic.index, 1400).unwrap();
        let renewed = renew::ask(&nic, settings.address, settings.server).unwrap();
        (settings, renewed)
    });
    assert_eq!(settings.address, Ipv4Addr::new(10, 77, 0, 55));
    assert_eq!((settings.prefix, settings.mtu), (24, Some(1400)));
    assert_eq!(settings.hostname.as_deref(), Some("box7"));
    assert_eq!(settings.dns.len(), 2);
    assert_eq!(settings.routes.len(), 1, "option 121 replaces option 3");
    assert_eq!(
        settings.routes[0].gateway,
        Some(Ipv4Addr::new(10, 77, 0, 9).into())
    );
    assert_eq!(settings.boot.file.as_deref(), Some("pxelinux.0"));
    assert_eq!(settings.times.lease, Duration::from_secs(7200));
    let renew::Reply::Granted(renewed) = renewed else {
        panic!("not renewed");
    };
    assert_eq!(renewed.settings.address, settings.address);
    let link = cable.ip_at_client("link show c0");
    assert!(link.contains("mtu 1400"), "{link}");
}

#[test]
fn what_names_a_host_file_and_the_time_is_read() {
    let mut cable = Cable::lay("boot");
    cable.serve(&[
        "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2h",
        "--dhcp-option=66,boot.lab.example",
        "--dhcp-option=67,http://boot.lab.example/pxe/pitstop.efi",
        "--dhcp-option=209,hosts/{mac}.toml",
        "--dhcp-option=210,http://boot.lab.example/site/",
        "--dhcp-option=option:ntp-server,10.77.0.1,10.77.0.3",
        "--dhcp-option=option:domain-name,lab.example",
    ]);
    let granted = cable.at_client(|nic| ask(&nic, Duration::from_secs(60)).expect("an address"));
    let Settings {
        boot, ntp, domain, ..
    } = granted.settings;
    assert_eq!(boot.server_name.as_deref(), Some("boot.lab.example"));
    assert_eq!(
        boot.file.as_deref(),
        Some("http://boot.lab.example/pxe/pitstop.efi")
    );
    assert_eq!(boot.config_file.as_deref(), Some("hosts/{mac}.toml"));
    assert_eq!(
        boot.path_prefix.as_deref(),
        Some("http://boot.lab.example/site/")
    );
    assert_eq!(ntp, [[10, 77, 0, 1], [10, 77, 0, 3]].map(Ipv4Addr::from));
    assert_eq!(domain.as_deref(), Some("lab.example"));
}

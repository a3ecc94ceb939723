//! What a client says to DHCPv6 servers (RFC 8415 16, 18.2), and what it reads of their answers.

use crate::net::dhcp::settings::Times;
use anyhow::Context;
use dhcproto::v6::{
    DhcpOption, IAAddr, IANA, Message, MessageType, NtpSuboption, ORO, OptionCode, Status,
    StatusCode,
};
use dhcproto::{Decodable, Decoder, Encodable};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// RFC 5970 3.1, `OPT_BOOTFILE_URL`.
const BOOT_FILE: u16 = 59;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    duid: Vec<u8>,
    /// Tells this card from others of the machine.
    iaid: u32,
}

/// One question of an exchange.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    pub kind: MessageType,
    /// Ties answers to questions.
    pub id: [u8; 3],
    /// Since the exchange began.
    pub elapsed: Duration,
    /// The only server that is meant.
    pub server: Option<&'a [u8]>,
    /// The address that is wanted or kept.
    pub address: Option<Ipv6Addr>,
}

/// What servers configure besides the address: name servers, time servers, the boot file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    pub dns: Vec<IpAddr>,
    pub ntp: Vec<IpAddr>,
    /// The boot file's URL.
    pub boot_file: Option<String>,
}

/// What matters of a server's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub kind: MessageType,
    /// The server's identity.
    pub server: Vec<u8>,
    pub address: Option<(Ipv6Addr, Times)>,
    /// Why there is no address.
    pub refusal: Option<String>,
    pub told: Told,
}

impl Identity {
    /// The machine's UUID (RFC 6355), as boot ROMs give it, else the card's address (RFC 8415 11.4).
    pub fn new(mac: [u8; 6], uuid: Option<u128>) -> Self {
        const LINK_LAYER: [u8; 2] = [0, 3];
        const UUID: [u8; 2] = [0, 4];
        const ETHERNET: [u8; 2] = [0, 1];
        let [_, _, tail @ ..] = mac;
        Self {
            duid: match uuid {
                Some(uuid) => [&UUID[..], &uuid.to_be_bytes()].concat(),
                None => [&LINK_LAYER[..], &ETHERNET, &mac].concat(),
            },
            iaid: u32::from_be_bytes(tail),
        }
    }

    /// The bytes of a question.
    pub fn ask(&self, question: &Question) -> anyhow::Result<Vec<u8>> {
        let mut message = Message::new_with_id(question.kind, question.id);
        let hundredths = question.elapsed.as_millis() / 10;
        let elapsed = u16::try_from(hundredths).unwrap_or(u16::MAX);
        let options = message.opts_mut();
        options.insert(DhcpOption::ClientId(self.duid.clone()));
        options.insert(DhcpOption::ElapsedTime(elapsed));
        options.insert(DhcpOption::ORO(ORO {
            opts: vec![
                OptionCode::DomainNameServers,
                OptionCode::NtpServer,
                OptionCode::from(BOOT_FILE),
            ],
        }));
        if let Some(server) = question.server {
            options.insert(DhcpOption::ServerId(server.to_vec()));
        }
        if question.kind != MessageType::InformationRequest {
            let address = question.address.map(|addr| {
                DhcpOption::IAAddr(IAAddr {
                    addr,
                    preferred_life: 0,
                    valid_life: 0,
                    opts: [].into_iter().collect(),
                })
            });
            options.insert(DhcpOption::IANA(IANA {
                id: self.iaid,
                t1: 0,
                t2: 0,
                opts: address.into_iter().collect(),
            }));
        }
        message.to_vec().context("writing a DHCPv6 message")
    }

    /// The answer in a UDP payload, where it is one to this question.
    pub fn answer(&self, question: &Question, payload: &[u8]) -> Option<Answer> {
        let message = Message::decode(&mut Decoder::new(payload)).ok()?;
        if message.xid() != question.id {
            return None;
        }
        let (mut ours, mut server) = (false, None);
        let (mut address, mut refusal, mut told) = (None, None, Told::default());
        for option in message.opts().iter() {
            match option {
                DhcpOption::ClientId(duid) => ours = *duid == self.duid,
                DhcpOption::ServerId(duid) => server = Some(duid.clone()),
                DhcpOption::StatusCode(status) => refusal = refusal.or(no(status)),
                DhcpOption::IANA(ia) if ia.id == self.iaid => {
                    address = address.or(granted(ia));
                    let status = ia.opts.iter().find_map(|option| match option {
                        DhcpOption::StatusCode(status) => no(status),
                        _ => None,
                    });
                    refusal = refusal.or(status);
                }
                DhcpOption::DomainNameServers(servers) => told.dns = usable(servers),
                DhcpOption::NtpServer(servers) => {
                    let addresses = servers.iter().filter_map(|server| match server {
                        NtpSuboption::ServerAddress(address) => Some(address),
                        _ => None,
                    });
                    told.ntp = usable(addresses);
                }
                DhcpOption::Unknown(option) if u16::from(option.code()) == BOOT_FILE => {
                    told.boot_file = String::from_utf8(option.data().to_vec()).ok();
                }
                _ => {}
            }
        }
        let server = server.filter(|_| ours)?;
        Some(Answer {
            kind: message.msg_type(),
            server,
            address,
            refusal,
            told,
        })
    }
}

/// One on the link alone would need the link's name with it.
fn usable<'a>(addresses: impl IntoIterator<Item = &'a Ipv6Addr>) -> Vec<IpAddr> {
    let good = |address: &&Ipv6Addr| !address.is_unicast_link_local() && !address.is_multicast();
    addresses
        .into_iter()
        .filter(good)
        .map(|&address| address.into())
        .collect()
}

fn no(status: &StatusCode) -> Option<String> {
    if status.status == Status::Success {
        return None;
    }
    Some(format!("{:?} {:?}", status.status, status.msg))
}

/// The first address that lives, and when it is to be renewed: where the server leaves it open, when half and four
/// fifths of the time are over for which it is preferred (RFC 8415 21.4).
fn granted(ia: &IANA) -> Option<(Ipv6Addr, Times)> {
    let address = ia.opts.iter().find_map(|option| match option {
        DhcpOption::IAAddr(address) if address.valid_life > 0 => Some(address),
        _ => None,
    })?;
    let preferred = if address.preferred_life == 0 {
        address.valid_life
    } else {
        address.preferred_life.min(address.valid_life)
    };
    let seconds = |given: u32, usual: u32| {
        let seconds = if given == 0 { usual } else { given };
        Duration::from_secs(seconds.min(address.valid_life).into())
    };
    let rebind = seconds(ia.t2, preferred - preferred / 5);
    let times = Times {
        renew: seconds(ia.t1, preferred / 2).min(rebind),
        rebind,
        lease: Duration::from_secs(address.valid_life.into()),
    };
    Some((address.addr, times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    fn question(kind: MessageType) -> Question<'static> {
        Question {
            kind,
            id: [1, 2, 3],
            elapsed: Duration::from_millis(1500),
            server: None,
            address: None,
        }
    }

    fn reply(options: Vec<DhcpOption>) -> Vec<u8> {
        let mut message = Message::new_with_id(MessageType::Reply, [1, 2, 3]);
        message.set_opts(options.into_iter().collect());
        message.to_vec().unwrap()
    }

    fn lease(t1: u32, preferred_life: u32, valid_life: u32) -> DhcpOption {
        let address = DhcpOption::IAAddr(IAAddr {
            addr: "2001:db8::7".parse().unwrap(),
            preferred_life,
            valid_life,
            opts: [].into_iter().collect(),
        });
        DhcpOption::IANA(IANA {
            id: 0x0012_3456,
            t1,
            t2: 0,
            opts: [address].into_iter().collect(),
        })
    }

    #[test]
    fn a_machine_is_known_by_its_uuid_or_its_card() {
        let by_card = Identity::new(MAC, None);
        assert_eq!(by_card.duid, [0, 3, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(by_card.iaid, 0x0012_3456);
        let by_uuid = Identity::new(MAC, Some(1));
        assert_eq!(by_uuid.duid[..3], [0, 4, 0]);
        assert_eq!((by_uuid.duid.len(), by_uuid.duid[17]), (18, 1));
    }

    #[test]
    fn a_grant_is_read_with_its_times() {
        let us = Identity::new(MAC, None);
        let asked = question(MessageType::Request);
        let client = DhcpOption::ClientId(us.duid.clone());
        let server = DhcpOption::ServerId(vec![9]);
        let dns = ["2001:db8::53", "fe80::1"].map(|text| text.parse().unwrap());
        let all = vec![
            client.clone(),
            server.clone(),
            lease(0, 1000, 2000),
            DhcpOption::DomainNameServers(dns.to_vec()),
        ];
        let answer = us.answer(&asked, &reply(all)).unwrap();
        let (address, times) = answer.address.unwrap();
        assert_eq!(address.to_string(), "2001:db8::7");
        let seconds = [times.renew, times.rebind, times.lease].map(|time| time.as_secs());
        assert_eq!(seconds, [500, 800, 2000]);
        assert_eq!((answer.server, answer.refusal), (vec![9], None));
        assert_eq!(answer.told.dns, [dns[0]].map(IpAddr::from));
        let endless = vec![client.clone(), server.clone(), lease(u32::MAX, 100, 100)];
        let answer = us.answer(&asked, &reply(endless)).unwrap();
        let (_, times) = answer.address.unwrap();
        assert!(times.renew <= times.rebind && times.rebind <= times.lease);
        assert_eq!(
            us.answer(&asked, &reply(vec![server])),
            None,
            "for somebody else"
        );
        assert_eq!(us.answer(&asked, &reply(vec![client])), None, "from nobody");
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let us = Identity::new(MAC, None);
        let status = DhcpOption::StatusCode(StatusCode {
            status: Status::NoAddrsAvail,
            msg: "full".into(),
        });
        let ia = DhcpOption::IANA(IANA {
            id: us.iaid,
            t1: 0,
            t2: 0,
            opts: [status].into_iter().collect(),
        });
        let all = vec![
            DhcpOption::ClientId(us.duid.clone()),
            DhcpOption::ServerId(vec![9]),
            ia,
        ];
        let answer = us
            .answer(&question(MessageType::Solicit), &reply(all))
            .unwrap();
        assert_eq!(answer.refusal.as_deref(), Some("NoAddrsAvail \"full\""));
        assert_eq!(answer.address, None);
    }

    proptest! {
        #[test]
        fn anything_is_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let us = Identity::new(MAC, None);
            let asked = question(MessageType::Solicit);
            let _ = us.answer(&asked, &bytes);
            let ours = reply(vec![
                DhcpOption::ClientId(us.duid.clone()),
                DhcpOption::ServerId(vec![9]),
            ]);
            if let Some(answer) = us.answer(&asked, &[ours, bytes].concat())
                && let Some((_, times)) = answer.address
            {
                prop_assert!(times.renew <= times.rebind && times.rebind <= times.lease);
            }
        }
    }
}

//! Names: `resolv.conf`, and the machine's own by reverse DNS.

use super::dhcp::random;
use super::dhcp::settings::host_name;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// The resolver reads no more (resolv.conf(5), `MAXNS`).
const SERVERS: usize = 3;

/// A name is nice to have; the boot does not wait longer for it.
const PATIENCE: Duration = Duration::from_millis(700);
const TRY: Duration = Duration::from_millis(350);

/// The text of `/etc/resolv.conf`.
pub fn resolv_conf(servers: &[IpAddr], domain: Option<&str>) -> String {
    let search = domain.map(|domain| format!("search {domain}\n"));
    let servers = servers
        .iter()
        .take(SERVERS)
        .map(|server| format!("nameserver {server}\n"));
    search.into_iter().chain(servers).collect()
}

/// The name that the network has for `address`; `None` when it has none or says nothing in time.
pub fn reverse(address: IpAddr, servers: &[IpAddr]) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    for server in servers.iter().take(SERVERS).cycle() {
        if Instant::now() >= deadline {
            break;
        }
        // Refused, unreachable, silent: the next one, until there is no time left.
        if let Ok(Some(answer)) = ask(address, SocketAddr::new(*server, 53), deadline) {
            return answer.name;
        }
    }
    None
}

/// A server's word: a name, or that there is none.
struct Answer {
    name: Option<String>,
}

fn ask(address: IpAddr, server: SocketAddr, deadline: Instant) -> io::Result<Option<Answer>> {
    // Not `Message::query`: its random number may be a wait of seconds this early.
    let id = random().to_le_bytes();
    let id = u16::from_le_bytes([id[0], id[1]]);
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    let name = Name::from(address);
    question.add_query(Query::query(name, RecordType::PTR));
    question.metadata.recursion_desired = true;
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(&bytes)?;
    let deadline = deadline.min(Instant::now() + TRY);
    let mut buffer = [0; 1500];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        let answer = buffer.get(..length).unwrap_or_default();
        if let Some(answer) = understand(answer, question.metadata.id) {
            return Ok(Some(answer));
        }
    }
}

/// `None` for what is no answer to the question.
fn understand(bytes: &[u8], id: u16) -> Option<Answer> {
    let message = Message::from_vec(bytes).ok()?;
    if message.metadata.id != id {
        return None;
    }
    let name = message
        .answers
        .iter()
        .find_map(|record| match &record.data {
            RData::PTR(name) => host_name(&name.0.to_ascii()),
            _ => None,
        });
    let known = message.metadata.response_code == ResponseCode::NoError;
    Some(Answer {
        name: name.filter(|_| known),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{Record, rdata::PTR};
    use proptest::prelude::*;
    use std::str::FromStr;

    #[test]
    fn servers_and_domain_become_a_resolv_conf() {
        let servers: Vec<IpAddr> = (1..6).map(|last| [10, 0, 2, last].into()).collect();
        assert_eq!(
            resolv_conf(&servers, Some("lab.example")),
            "search lab.example\nnameserver 10.0.2.1\nnameserver 10.0.2.2\nnameserver 10.0.2.3\n"
        );
        assert_eq!(resolv_conf(&[], None), "");
    }

    #[test]
    fn a_server_is_asked_for_the_pointer_and_its_answer_is_the_name() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let answering = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            // Who gave it up asks from another port, and its old one refuses the answer.
            while let Ok((length, from)) = server.recv_from(&mut buffer) {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let name = question.queries[0].name().clone();
                assert_eq!(name.to_ascii(), "15.2.0.10.in-addr.arpa.");
                let mut answer = Message::response(question.metadata.id, OpCode::Query);
                let target = Name::from_str("box7.lab.example.").unwrap();
                answer.add_answer(Record::from_rdata(name, 60, RData::PTR(PTR(target))));
                let _ = server.send_to(&answer.to_vec().unwrap(), from);
            }
        });
        // A question is waited for by a third of a second, which a busy computer may take.
        let deadline = Instant::now() + Duration::from_secs(120);
        let answer = loop {
            assert!(!answering.is_finished() && Instant::now() < deadline);
            let asked = ask(
                [10, 0, 2, 15].into(),
                ([127, 0, 0, 1], port).into(),
                deadline,
            );
            if let Ok(Some(answer)) = asked {
                break answer;
            }
        };
        assert_eq!(answer.name.unwrap(), "box7.lab.example");
    }

    #[test]
    fn nobody_answering_is_no_name() {
        assert_eq!(
            reverse([192, 0, 2, 1].into(), &[Ipv4Addr::LOCALHOST.into()]),
            None
        );
        assert_eq!(reverse([192, 0, 2, 1].into(), &[]), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read(bytes in prop::collection::vec(any::<u8>(), 0..300), id: u16) {
            let _ = understand(&bytes, id);
        }
    }
}

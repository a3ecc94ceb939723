//! Ports for servers that cannot be told to take any and say which.

use std::mem;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the kernel gives to whoever asks for any (`net.ipv4.ip_local_port_range`).
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

/// A port that nobody listens on, and that no other test gets while this program runs: a port that was merely free a
/// moment ago may be another test's when the server comes to it. The claim is a name of the kernel's, one for all programs
/// of this network, which goes with the program however that ends.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Programs begin at different places, so that few of them meet.
        let number = process::id()
            .wrapping_mul(97)
            .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + number % COUNT).unwrap();
        if claim(port) && is_free(port) {
            return port;
        }
    }
    panic!("no port from {FIRST} on is free");
}

fn claim(port: u16) -> bool {
    let name = SocketAddr::from_abstract_name(format!("pitstop-test-port-{port}")).unwrap();
    let claim = UnixListener::bind_addr(&name);
    // It is kept: a server that is started again has its port still.
    claim.map(mem::forget).is_ok()
}

/// Whoever listens may be no test.
fn is_free(port: u16) -> bool {
    let at = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{claim, free_port};
    use std::collections::BTreeSet;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn no_two_tests_get_one_port_and_it_can_be_listened_on() {
        let threads: Vec<_> = (0..4)
            .map(|_| thread::spawn(|| (0..50).map(|_| free_port()).collect::<Vec<_>>()))
            .collect();
        let ports: Vec<u16> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        let different: BTreeSet<&u16> = ports.iter().collect();
        assert_eq!(different.len(), 200);
        for port in ports {
            assert!(!claim(port), "{port} could be claimed again");
            assert!((10_000..30_000).contains(&port));
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }
}

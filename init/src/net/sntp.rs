//! What time it is: SNTP (RFC 4330), asked once.
//!
//! `rsntp` and `sntpc` were looked at: one brings a clock library and a runtime of its own, the other leaves the
//! checks of an answer to its caller, which are most of the work.

use super::dhcp::random;
use crate::clock;
use pitstop_imaging::event::Reporter;
use pitstop_protocol::boot_parameters::NtpServer;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// For all servers, and for the names of them. A boot does not wait longer for the time.
const PATIENCE: Duration = Duration::from_secs(2);

/// After which the next one is asked, or the only one again: packets get lost.
const TRY: Duration = Duration::from_millis(650);

/// Differences that are not worth a word.
const SMALL: Duration = Duration::from_secs(1);

/// Seconds from 1900 to 1970, and the length of an era (RFC 4330 3).
const UNIX: u64 = 2_208_988_800;
const ERA: u64 = 1 << 32;

/// Asks what time it is and sets the clock. What goes wrong is told, and the boot goes on.
pub fn set_clock(servers: Vec<NtpServer>, reporter: &dyn Reporter) {
    if servers.is_empty() {
        return;
    }
    let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let (answer, answered) = channel();
    // A name server may take longer than there is time: it is left behind with its thread.
    thread::spawn(move || {
        let reading = ask_all(&servers, Instant::now() + PATIENCE);
        // Nobody listens any more when it is too late.
        let _ = answer.send(reading);
    });
    let outcome = match answered.recv_timeout(PATIENCE) {
        Ok(Ok(reading)) => set(&reading, reporter),
        Ok(Err(why)) => Err(why),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(Trouble::Silence.to_string())
        }
    };
    if let Err(why) = outcome {
        reporter.warn(format!(
            "no time from {}: {why}; the clock stays at {:.0}",
            names.join(", "),
            clock::now()
        ));
    }
}

fn set(reading: &Reading, reporter: &dyn Reporter) -> Result<(), String> {
    let time = reading.now();
    if clock::before_build_time(time) {
        return Err(format!(
            "{} says {} s after 1970, which is before this initramfs was made",
            reading.server,
            time.as_secs()
        ));
    }
    let before = clock::now();
    clock::set(time)
        .and_then(|()| clock::is_right())
        .map_err(|error| format!("{error:#}"))?;
    let after = clock::now();
    let apart = after.duration_since(before).unsigned_abs();
    if apart > SMALL {
        reporter.info(format!(
            "the clock is set to {after:.0} by {}: it said {before:.0}",
            reading.server
        ));
    } else {
        reporter.debug(format!("the clock is right by {}", reading.server));
    }
    Ok(())
}

/// A time, and when it was.
#[derive(Debug)]
struct Reading {
    /// Since 1970.
    time: Duration,
    at: Instant,
    server: NtpServer,
}

impl Reading {
    fn now(&self) -> Duration {
        self.time + self.at.elapsed()
    }
}

/// Why a server's answer is no time.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// Not an answer to the question: another may follow.
    Unrelated,
    /// RFC 4330 8: it is not to be asked again.
    KissOfDeath(String),
    Unsynchronised,
    Silence,
    Network(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unrelated | Trouble::Silence => f.write_str("no answer in time"),
            Trouble::KissOfDeath(code) => write!(f, "it refuses to be asked ({code})"),
            Trouble::Unsynchronised => f.write_str("it does not know the time itself"),
            Trouble::Network(why) => f.write_str(why),
        }
    }
}

/// Asks one server after the other until one has an answer.
fn ask_all(servers: &[NtpServer], deadline: Instant) -> Result<Reading, String> {
    let mut refused = HashSet::new();
    let mut why = Trouble::Silence.to_string();
    while refused.len() < servers.len() && Instant::now() < deadline {
        for (number, server) in servers.iter().enumerate() {
            if refused.contains(&number) {
                continue;
            }
            match ask(server, deadline.min(Instant::now() + TRY)) {
                Ok(reading) => return Ok(reading),
                Err(trouble) => {
                    if !matches!(trouble, Trouble::Silence) {
                        refused.insert(number);
                    }
                    why = format!("{server}: {trouble}");
                }
            }
        }
    }
    Err(why)
}

fn ask(server: &NtpServer, deadline: Instant) -> Result<Reading, Trouble> {
    let network = |error: io::Error| Trouble::Network(error.to_string());
    let socket = connect(server).map_err(network)?;
    // RFC 4330 5: any number will do that nobody else knows; it comes back.
    let nonce = u64::from(random()) << 32 | u64::from(random());
    let asked = Instant::now();
    socket.send(&question(nonce)).map_err(network)?;
    let mut buffer = [0; 512];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Trouble::Silence);
        }
        socket.set_read_timeout(Some(left)).map_err(network)?;
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(network(error)),
        };
        let at = Instant::now();
        let answer = buffer.get(..length).unwrap_or_default();
        match understand(answer, nonce) {
            Err(Trouble::Unrelated) => {}
            Err(trouble) => return Err(trouble),
            Ok(Times { received, sent }) => {
                let travel = (at - asked).saturating_sub(sent.saturating_sub(received)) / 2;
                return Ok(Reading {
                    time: sent + travel,
                    at,
                    server: server.clone(),
                });
            }
        }
    }
}

/// A socket that hears this server alone.
fn connect(server: &NtpServer) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in (server.host.as_str(), server.port).to_socket_addrs()? {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        match UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Version 4, mode 3, a client; all else is zero but the time of sending (RFC 4330 5).
fn question(nonce: u64) -> [u8; 48] {
    let mut packet = [0; 48];
    packet[0] = 4 << 3 | 3;
    packet[40..].copy_from_slice(&nonce.to_be_bytes());
    packet
}

/// A server's clock when it got the question and when it answered, since 1970.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    received: Duration,
    sent: Duration,
}

/// The checks of RFC 4330 5 and 8.
fn understand(packet: &[u8], nonce: u64) -> Result<Times, Trouble> {
    let Some((&header, rest)) = packet.get(..48).and_then(<[u8]>::split_first) else {
        return Err(Trouble::Unrelated);
    };
    let word = |offset: usize| {
        let bytes = packet
            .get(offset..offset + 8)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_be_bytes)
    };
    let (leap, version, mode) = (header >> 6, header >> 3 & 7, header & 7);
    if mode != 4 || !(1..=4).contains(&version) || word(24) != nonce {
        return Err(Trouble::Unrelated);
    }
    let sent = word(40);
    match rest[0] {
        0 => {
            let code = packet.get(12..16).unwrap_or_default();
            Err(Trouble::KissOfDeath(code.escape_ascii().to_string()))
        }
        1..=15 if leap != 3 && sent != 0 => Ok(Times {
            received: since_1970(word(32)),
            sent: since_1970(sent),
        }),
        _ => Err(Trouble::Unsynchronised),
    }
}

/// RFC 4330 3: with the first bit, the time is from 1968 to 2036; without it, from 2036 to 2104.
fn since_1970(stamp: u64) -> Duration {
    let (seconds, fraction) = (stamp >> 32, stamp & (ERA - 1));
    let era = if seconds < ERA / 2 { ERA } else { 0 };
    let seconds = (era + seconds).saturating_sub(UNIX);
    let nanos = (fraction * 1_000_000_000) >> 32;
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-21T00:00:00Z since 1970.
    const TODAY: u64 = 1_795_219_200;

    fn answer(nonce: u64, change: impl FnOnce(&mut [u8; 48])) -> [u8; 48] {
        let mut packet = [0; 48];
        packet[..2].copy_from_slice(&[4 << 3 | 4, 2]);
        packet[24..32].copy_from_slice(&nonce.to_be_bytes());
        let stamp = (TODAY + UNIX) << 32;
        packet[32..40].copy_from_slice(&stamp.to_be_bytes());
        packet[40..].copy_from_slice(&(stamp | 1 << 31).to_be_bytes());
        change(&mut packet);
        packet
    }

    /// A server that answers every question as `change` wants it.
    fn serve(change: fn(&mut [u8; 48])) -> NtpServer {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                assert_eq!((length, buffer[0]), (48, 0x23));
                let nonce = u64::from_be_bytes(buffer[40..48].try_into().unwrap());
                // What somebody else sends who guesses is passed over.
                let _ = socket.send_to(&answer(!nonce, |_| {}), from);
                let _ = socket.send_to(&answer(nonce, change), from);
            }
        });
        NtpServer {
            host: "127.0.0.1".into(),
            port,
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(120)
    }

    #[test]
    fn a_server_tells_the_time() {
        let reading = ask_all(&[serve(|_| {})], soon()).unwrap();
        let passed = reading
            .now()
            .checked_sub(Duration::from_secs(TODAY))
            .unwrap();
        assert!(
            passed >= Duration::from_millis(500) && passed < Duration::from_secs(600),
            "{passed:?}"
        );
    }

    #[test]
    fn one_that_does_not_know_or_does_not_want_to_is_passed_over() {
        let kiss = serve(|packet| {
            packet[1] = 0;
            packet[12..16].copy_from_slice(b"RATE");
        });
        let error = ask_all(std::slice::from_ref(&kiss), soon()).unwrap_err();
        assert_eq!(error, format!("{kiss}: it refuses to be asked (RATE)"));
        let lost = serve(|packet| packet[0] |= 3 << 6);
        let error = ask_all(std::slice::from_ref(&lost), soon()).unwrap_err();
        assert_eq!(error, format!("{lost}: it does not know the time itself"));
        let good = serve(|_| {});
        assert_eq!(
            ask_all(&[kiss, lost, good.clone()], soon()).unwrap().server,
            good
        );
    }

    #[test]
    fn silence_ends_in_time() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = NtpServer {
            host: "127.0.0.1".into(),
            port: silent.local_addr().unwrap().port(),
        };
        let soon = Instant::now() + Duration::from_millis(900);
        let error = ask_all(&[server], soon).unwrap_err();
        assert!(error.ends_with("no answer in time"), "{error}");
    }

    #[test]
    fn packets_that_are_no_answer_are_unrelated() {
        let good = answer(7, |_| {});
        assert!(understand(&good, 7).is_ok());
        assert_eq!(understand(&good, 8), Err(Trouble::Unrelated));
        assert_eq!(understand(&good[..47], 7), Err(Trouble::Unrelated));
        for header in [4 << 3 | 3, 4 << 3 | 5, 4, 5 << 3 | 4] {
            let packet = answer(7, |packet| packet[0] = header);
            assert_eq!(
                understand(&packet, 7),
                Err(Trouble::Unrelated),
                "{header:#x}"
            );
        }
        let no_time = answer(7, |packet| packet[40..].fill(0));
        assert_eq!(understand(&no_time, 7), Err(Trouble::Unsynchronised));
        let deep = answer(7, |packet| packet[1] = 16);
        assert_eq!(understand(&deep, 7), Err(Trouble::Unsynchronised));
    }

    #[test]
    fn eras_follow_each_other_in_2036() {
        let last_of_era_0 = since_1970(u64::from(u32::MAX) << 32);
        // 2036-02-07T06:28:15Z
        assert_eq!(last_of_era_0, Duration::from_secs(2_085_978_495));
        assert_eq!(since_1970(0), Duration::from_secs(2_085_978_496));
        assert_eq!(since_1970((TODAY + UNIX) << 32), Duration::from_secs(TODAY));
    }

    proptest! {
        #[test]
        fn any_packet_is_read(bytes in prop::collection::vec(any::<u8>(), 0..100), nonce: u64) {
            let _ = understand(&bytes, nonce);
        }

        #[test]
        fn any_answer_is_within_the_eras(received: u64, sent in 1u64..) {
            let packet = answer(3, |packet| {
                packet[32..40].copy_from_slice(&received.to_be_bytes());
                packet[40..].copy_from_slice(&sent.to_be_bytes());
            });
            let times = understand(&packet, 3).unwrap();
            prop_assert!(times.sent < Duration::from_secs(2 * ERA - UNIX));
        }
    }
}

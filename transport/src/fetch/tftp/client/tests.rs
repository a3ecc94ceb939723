//! The client against servers of several habits, and a network that loses packets.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// How a server behaves.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent habits, set by name"
)]
#[derive(Clone, Copy, Default)]
struct Habits {
    /// Answers options as RFC 2347 has it; otherwise it has never heard of them.
    options: bool,
    refuses_options: bool,
    /// Every third packet it would send is lost.
    lossy: bool,
    /// Announces one byte more than it sends.
    wrong_size: bool,
    error: Option<(u16, &'static str)>,
}

/// A server, as long as it is wanted.
struct Serving {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Request>>,
}

impl Serving {
    /// Ends it; the requests that it saw.
    fn saw(self) -> Vec<Request> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Serves transfers of `bytes`.
fn serve(bytes: Vec<u8>, habits: Habits) -> (Url, Serving) {
    serve_at("127.0.0.1", bytes, habits)
}

fn serve_at(host: &'static str, bytes: Vec<u8>, habits: Habits) -> (Url, Serving) {
    let listener = UdpSocket::bind(format!("{host}:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = Url::parse(&format!("tftp://{host}:{port}/hosts/x.toml")).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&over);
    let thread = thread::spawn(move || {
        let mut requests = Vec::new();
        listener
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let mut buffer = [0; 2048];
        while !ends.load(Ordering::Relaxed) {
            let Ok((length, client)) = listener.recv_from(&mut buffer) else {
                continue;
            };
            let Ok(Packet::Request(request)) = Packet::parse(&buffer[..length]) else {
                continue;
            };
            requests.push(request.clone());
            let socket = UdpSocket::bind(format!("{host}:0")).unwrap();
            socket.connect(client).unwrap();
            transfer(&socket, &bytes, habits, &request);
        }
        requests
    });
    (url, Serving { over, thread })
}

fn transfer(socket: &UdpSocket, bytes: &[u8], habits: Habits, request: &Request) {
    let mut sent = 0;
    let mut say = |packet: &Packet| {
        sent += 1;
        if !habits.lossy || !u32::is_multiple_of(sent, 3) {
            socket.send(&packet.encode()).unwrap();
        }
    };
    if let Some((code, message)) = habits.error {
        say(&Packet::Error {
            code,
            message: message.into(),
        });
        return;
    }
    if habits.refuses_options && !request.options.is_empty() {
        say(&Packet::Error {
            code: code::OPTIONS,
            message: String::new(),
        });
        return;
    }
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut size = DEFAULT_BLOCK;
    let mut packets = Vec::new();
    if habits.options {
        size = request.option("blksize").unwrap().parse().unwrap();
        let whole = bytes.len() + usize::from(habits.wrong_size);
        packets.push((
            0,
            Packet::OptionAck(vec![
                ("blksize".into(), size.to_string()),
                ("tsize".into(), whole.to_string()),
            ]),
        ));
    }
    for (index, data) in bytes
        .chunks(size)
        .chain((bytes.len().is_multiple_of(size)).then_some(&[][..]))
        .enumerate()
    {
        let block = u16::try_from((index + 1) % 65536).unwrap();
        packets.push((
            block,
            Packet::Data {
                block,
                data: data.to_vec(),
            },
        ));
    }
    let mut buffer = [0; 2048];
    for (block, packet) in packets {
        for _ in 0..2400 {
            say(&packet);
            let Ok(length) = socket.recv(&mut buffer) else {
                continue;
            };
            match Packet::parse(&buffer[..length]) {
                Ok(Packet::Ack(acked)) if acked == block => break,
                Ok(Packet::Error { .. }) => return,
                _ => {}
            }
        }
    }
}

/// For a network that loses nothing: nothing is asked twice because the computer is busy.
fn patience() -> Patience {
    Patience {
        first: Duration::from_secs(120),
        longest: Duration::from_secs(120),
        tries: 2,
    }
}

fn often(tries: u32) -> Patience {
    Patience {
        first: Duration::from_millis(60),
        longest: Duration::from_millis(120),
        tries,
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

#[test]
fn files_of_every_awkward_length_arrive_with_options_and_without() {
    for length in [0, 1, 511, 512, 1024, 1428, 5000] {
        for options in [true, false] {
            let (url, server) = serve(
                content(length),
                Habits {
                    options,
                    ..Habits::default()
                },
            );
            let bytes = get(&url, 10_000, &patience()).unwrap();
            assert_eq!(bytes, content(length));
            let requests = server.saw();
            assert_eq!(requests[0].name(), Ok("hosts/x.toml"));
            assert_eq!(requests[0].option("tsize"), Some("0"));
        }
    }
}

#[test]
fn an_ipv6_address_stands_in_brackets() {
    let (url, server) = serve_at("[::1]", content(2000), Habits::default());
    assert_eq!(get(&url, 10_000, &patience()).unwrap(), content(2000));
    assert_eq!(server.saw().len(), 1);
}

#[test]
fn lost_packets_are_sent_again() {
    for options in [true, false] {
        let habits = Habits {
            options,
            lossy: true,
            ..Habits::default()
        };
        let (url, _server) = serve(content(6000), habits);
        assert_eq!(get(&url, 10_000, &often(1000)).unwrap(), content(6000));
    }
}

#[test]
fn a_server_that_refuses_options_is_asked_without() {
    let habits = Habits {
        refuses_options: true,
        ..Habits::default()
    };
    let (url, server) = serve(content(700), habits);
    assert_eq!(get(&url, 10_000, &patience()).unwrap(), content(700));
    let requests = server.saw();
    assert!(requests[1].options.is_empty());
}

#[test]
fn errors_are_told_apart() {
    let error = |habits: Habits, limit: usize| {
        let (url, _server) = serve(content(3000), habits);
        get(&url, limit, &patience()).unwrap_err()
    };
    let gone = Habits {
        error: Some((1, "File not found")),
        ..Habits::default()
    };
    assert!(matches!(error(gone, 10_000), TftpError::NotFound));
    let denied = Habits {
        error: Some((2, "Access\nviolation")),
        ..Habits::default()
    };
    assert_eq!(
        error(denied, 10_000).to_string(),
        "the server refuses: Access violation"
    );
    let options = Habits {
        options: true,
        ..Habits::default()
    };
    assert!(matches!(error(options, 2000), TftpError::TooLarge));
    assert!(matches!(
        error(Habits::default(), 2000),
        TftpError::TooLarge
    ));
    let wrong = Habits {
        wrong_size: true,
        ..options
    };
    assert_eq!(
        error(wrong, 10_000).to_string(),
        "3001 bytes were announced, 3000 came"
    );
}

#[test]
fn a_server_that_is_not_there_is_silent() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("tftp://127.0.0.1:{}/x", nobody.local_addr().unwrap().port());
    let error = get(&Url::parse(&url).unwrap(), 10, &often(6)).unwrap_err();
    assert!(matches!(error, TftpError::Silent), "{error}");
    let error = get(&Url::parse("tftp://127.0.0.1/").unwrap(), 10, &patience()).unwrap_err();
    assert!(matches!(error, TftpError::BadUrl(_)), "{error}");
}

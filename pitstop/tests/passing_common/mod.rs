//! Between a client and a server: counts what goes up, and answers in the server's place what the test wants answered.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// What a test does with bytes that go up: `Some` answer ends the connection.
type Hook = dyn Fn(&[u8]) -> Option<&'static str> + Send + Sync;

pub struct Passing {
    pub address: SocketAddr,
    up: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Passing {
    pub fn to(server: SocketAddr) -> Self {
        Self::with(server, |_| None)
    }

    pub fn with(
        server: SocketAddr,
        hook: impl Fn(&[u8]) -> Option<&'static str> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let passing = Self {
            address: listener.local_addr().unwrap(),
            up: Arc::default(),
            most: Arc::new(AtomicU64::new(u64::MAX)),
        };
        let (up, most) = (Arc::clone(&passing.up), Arc::clone(&passing.most));
        let hook: Arc<Hook> = Arc::new(hook);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else {
                    return;
                };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (up, most, hook) = (Arc::clone(&up), Arc::clone(&most), Arc::clone(&hook));
                thread::spawn(move || carry_up(from, to, &up, &most, &*hook));
                thread::spawn(move || carry_down(server, client));
            }
        });
        passing
    }

    /// Once so many bytes went up, what begins to be written waits, until [`go_on`](Self::go_on): who writes does not come to its
    /// end meanwhile, however long the test takes to see how far it is.
    pub fn hold_at(&self, most: u64) {
        self.most.store(most, Ordering::SeqCst);
    }

    pub fn go_on(&self) {
        self.hold_at(u64::MAX);
    }

    /// Bytes that went up since the last time.
    pub fn sent(&self) -> u64 {
        self.up.swap(0, Ordering::SeqCst)
    }
}

fn carry_up(
    mut client: TcpStream,
    mut server: TcpStream,
    up: &AtomicU64,
    most: &AtomicU64,
    hook: &Hook,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = client.read(&mut buffer) {
        while buffer[..read].starts_with(b"PUT ")
            && up.load(Ordering::SeqCst) > most.load(Ordering::SeqCst)
        {
            thread::sleep(Duration::from_millis(5));
        }
        up.fetch_add(read as u64, Ordering::SeqCst);
        if let Some(answer) = hook(&buffer[..read]) {
            let _ = client.write_all(answer.as_bytes());
            let _ = client.shutdown(Shutdown::Both);
            break;
        }
        if read == 0 || server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
}

fn carry_down(mut server: TcpStream, mut client: TcpStream) {
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Write);
}

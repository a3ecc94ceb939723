//! Connections: how many there may be, and which one goes when there are too many.
//!
//! A connection at work, one with a request that is not answered yet, is never closed for another's sake. A silent one
//! is: first one that never asked anything, then the one that has been silent longest. Where nobody is silent, one at work that
//! moves next to nothing is taken for no work.

mod guarded;

pub use guarded::Guarded;

use crate::journal::Journal;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use nix::libc;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A machine that was switched off in the middle is noticed after about this long.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Handles that are not connections: the server's own, TFTP's first ones.
const OTHER_HANDLES: u64 = 32;
/// A connection at work has its socket, its file and the file's folder.
const HANDLES_EACH: u64 = 3;
/// More connections than this are no lab.
const MOST: u64 = 8192;

/// When all places are taken by who is at work, one that has moved less than so many bytes a second since it came, for so
/// long, makes room: who sends a byte now and then must not keep machines out. Pages that wait for news ask again.
const CRAWL: u64 = 256;
const CRAWLS_FOR: Duration = Duration::from_secs(60);

/// Between two lines about connections: who opens them by the thousand must not fill the journal.
const COMPLAINTS: Duration = Duration::from_secs(10);
/// The wait after an accept that failed for want of something.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// One connection, as those who need its place see it.
#[derive(Debug)]
pub struct Connection {
    peer: IpAddr,
    /// Requests that are not answered yet.
    at_work: AtomicUsize,
    /// Requests so far.
    asked: AtomicU64,
    /// When it came, and when a byte moved last, in milliseconds since `Table::began`.
    came: u64,
    moved: AtomicU64,
    /// Bytes so far, in both directions.
    bytes: AtomicU64,
    /// It has to make room.
    unwanted: AtomicBool,
    /// Who waits for its next byte.
    waker: Mutex<Option<Waker>>,
    /// Who waits for a place is told when this one could make room.
    freed: Arc<Notify>,
}

impl Connection {
    /// A request has come: the connection is at work until the answer's end, when this is dropped.
    pub fn begin(self: &Arc<Self>) -> AtWork {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(Arc::clone(self))
    }

    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    fn is_at_work(&self) -> bool {
        self.at_work.load(Ordering::Relaxed) > 0
    }

    /// Orders silent connections: who goes first is least.
    fn worth(&self) -> (bool, u64) {
        let asked = self.asked.load(Ordering::Relaxed) > 0;
        (asked, self.moved.load(Ordering::Relaxed))
    }

    /// Bytes a second of one at work that is so slow, at `now`, that nobody would call it work, `after` it came; `None` where
    /// it is not.
    fn crawl(&self, now: u64, after: Duration) -> Option<u64> {
        let age = now.saturating_sub(self.came);
        let old = u128::from(age) >= after.as_millis();
        let rate = self.bytes.load(Ordering::Relaxed).saturating_mul(1000) / age.max(1);
        (old && rate < CRAWL).then_some(rate)
    }

    fn dismiss(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = waker.take() {
            waker.wake();
        }
    }
}

/// Ends a request's time at work when it is dropped.
pub struct AtWork(Arc<Connection>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}

/// Who is connected, and where: what a request knows of its connection.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: IpAddr,
    pub connection: Arc<Connection>,
    /// It came over https.
    pub secure: bool,
}

impl Peer {
    pub fn new(connection: Arc<Connection>, secure: bool) -> Self {
        Self {
            address: connection.peer,
            connection,
            secure,
        }
    }
}

impl Connected<IncomingStream<'_, Connections>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        Self::new(stream.io().connection(), false)
    }
}

/// All connections, of all ports.
pub struct Table {
    began: Instant,
    most: usize,
    /// Of one address: it must not be able to take all.
    most_of_one: usize,
    crawls_for: Duration,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    freed: Arc<Notify>,
    journal: Arc<Journal>,
    complaints: Mutex<Complaints>,
}

/// How many connections there are.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    pub open: usize,
    pub at_work: usize,
    /// There may be so many.
    pub most: usize,
}

#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    left_out: u64,
}

/// Whether a connection gets a place.
enum Admission {
    Granted(Guest),
    /// Its address has too many at work.
    Refused,
    /// All are at work: somebody has to end first.
    Later,
}

/// A place among the connections; given back when it is dropped.
struct Guest {
    table: Arc<Table>,
    number: u64,
    connection: Arc<Connection>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.table.open().remove(&self.number);
        self.table.freed.notify_one();
    }
}

impl Table {
    /// As many connections as the process may have handles for.
    pub fn of_process(journal: Arc<Journal>) -> Arc<Self> {
        let most = (handles().saturating_sub(OTHER_HANDLES) / HANDLES_EACH).clamp(8, MOST);
        Arc::new(Self::new(
            usize::try_from(most).unwrap_or(usize::MAX),
            journal,
        ))
    }

    fn new(most: usize, journal: Arc<Journal>) -> Self {
        Self {
            began: Instant::now(),
            most,
            most_of_one: (most / 2).max(1),
            crawls_for: CRAWLS_FOR,
            next: AtomicU64::new(0),
            open: Mutex::default(),
            freed: Arc::default(),
            journal,
            complaints: Mutex::default(),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn counts(&self) -> Counts {
        let open = self.open();
        Counts {
            open: open.len(),
            at_work: open.values().filter(|it| it.is_at_work()).count(),
            most: self.most,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn admit(self: &Arc<Self>, peer: IpAddr) -> Admission {
        let mut open = self.open();
        let of_peer = open.values().filter(|other| other.peer == peer).count();
        if of_peer >= self.most_of_one && !self.make_room(&mut open, Some(peer)) {
            self.complain(&format!(
                "{peer} has {of_peer} connections at work: it gets no more"
            ));
            return Admission::Refused;
        }
        if open.len() >= self.most && !self.make_room(&mut open, None) {
            self.complain(&format!(
                "all {} connections are at work: {peer} waits for one to end",
                self.most
            ));
            return Admission::Later;
        }
        let connection = Arc::new(Connection {
            peer,
            at_work: AtomicUsize::new(0),
            asked: AtomicU64::new(0),
            came: self.now(),
            moved: AtomicU64::new(self.now()),
            bytes: AtomicU64::new(0),
            unwanted: AtomicBool::new(false),
            waker: Mutex::default(),
            freed: Arc::clone(&self.freed),
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(number, Arc::clone(&connection));
        Admission::Granted(Guest {
            table: Arc::clone(self),
            number,
            connection,
        })
    }

    /// Closes the connection that is missed least, of one address or of all. `false`: all are at work, and none crawls.
    fn make_room(&self, open: &mut HashMap<u64, Arc<Connection>>, peer: Option<IpAddr>) -> bool {
        let silent = open
            .iter()
            .filter(|(_, other)| peer.is_none_or(|peer| other.peer == peer) && !other.is_at_work())
            .min_by_key(|(_, other)| other.worth())
            .map(|(number, _)| *number);
        let now = self.now();
        let crawling = || {
            let crawling = open.iter().filter_map(|(number, other)| {
                let counts = peer.is_none_or(|peer| other.peer == peer);
                Some((
                    other.crawl(now, self.crawls_for).filter(|_| counts)?,
                    *number,
                ))
            });
            crawling.min().map(|(_, number)| number)
        };
        let (what, number) = match silent {
            Some(number) => ("silent", Some(number)),
            None => ("crawling", crawling()),
        };
        let Some(connection) = number.and_then(|number| open.remove(&number)) else {
            return false;
        };
        connection.dismiss();
        self.complain(&format!(
            "too many connections: a {what} one of {} is closed",
            connection.peer
        ));
        true
    }

    /// A line in the journal, if there was none lately.
    pub fn complain(&self, line: &str) {
        let mut complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if complaints
            .last
            .is_some_and(|last| last.elapsed() < COMPLAINTS)
        {
            complaints.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut complaints.left_out);
        complaints.last = Some(Instant::now());
        drop(complaints);
        match left_out {
            0 => self.journal.note(&line),
            more => self
                .journal
                .note(&format!("{line} ({more} more of such lines are left out)")),
        }
    }
}

/// A listener of the server: it hands out connections that are watched.
pub struct Connections {
    listener: TcpListener,
    table: Arc<Table>,
}

impl Connections {
    pub fn new(listener: TcpListener, table: Arc<Table>) -> Self {
        Self { listener, table }
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

/// A place for a connection of `peer`, as soon as there is one; `None` where it gets none.
async fn guest(table: &Arc<Table>, peer: IpAddr) -> Option<Guest> {
    loop {
        match table.admit(peer) {
            Admission::Granted(guest) => return Some(guest),
            Admission::Refused => return None,
            Admission::Later => table.freed.notified().await,
        }
    }
}

impl Listener for Connections {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        loop {
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                // The client changed its mind.
                Err(error) if is_clients(error.kind()) => continue,
                // Most likely there are no handles left, TFTP's and files' counted.
                Err(error) => {
                    self.table
                        .complain(&format!("a connection cannot be taken: {error}"));
                    self.table.make_room(&mut self.table.open(), None);
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            if let Some(guest) = guest(&self.table, address.ip().to_canonical()).await {
                set_up(&stream);
                return (Guarded::new(stream, guest), address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn is_clients(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

fn set_up(stream: &TcpStream) {
    // All only make things better: a socket without them works.
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 6);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// How many handles this process may have: as many as it is allowed to allow itself.
fn handles() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure is written to by the first call and read by the second, and outlives both.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 256;
        }
        let soft = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
            return soft;
        }
    }
    limit.rlim_cur
}

#[cfg(test)]
mod tests;

//! Who is logged in by a browser. Kept in a file, so that a server that restarts logs nobody out.

use crate::book::Book;
use crate::files::{make_private_folder, replace};
use crate::secret::{NoRandomness, Secret};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The cookie that carries a session's secret.
pub const COOKIE: &str = "pitstop_session";

const FILE: &str = "sessions.toml";
/// A session that asks nothing for so long is over.
const IDLE: SignedDuration = SignedDuration::from_hours(8);
/// However busy it is.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How far the file may lag behind.
const WRITTEN: SignedDuration = SignedDuration::from_mins(5);
/// Of one user; the oldest makes room.
const MOST: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Session {
    user: String,
    /// Of the password that it began with.
    stamp: String,
    from: IpAddr,
    began: Timestamp,
    seen: Timestamp,
}

impl Session {
    fn is_live(&self, now: Timestamp) -> bool {
        // A clock that was set back makes nobody's session longer.
        now.duration_since(self.seen) < IDLE && now.duration_since(self.began) < LONGEST
    }
}

/// By the hash of each secret.
type Open = BTreeMap<String, Session>;

#[derive(Debug)]
pub struct Sessions {
    folder: PathBuf,
    open: Mutex<Open>,
    /// One at a time writes the file; nobody else waits for that.
    writing: Mutex<()>,
}

impl Sessions {
    /// Those of the last server, if it left any. A file that cannot be read logs everybody out.
    pub fn at(folder: &Path) -> Self {
        let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
        Self {
            folder: folder.to_owned(),
            open: Mutex::new(toml::from_str(&text).unwrap_or_default()),
            writing: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session of `user`, whose password's stamp is `stamp`.
    ///
    /// # Errors
    /// No randomness.
    pub fn begin(
        &self,
        user: &str,
        stamp: String,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Secret, NoRandomness> {
        let secret = Secret::new()?;
        let mut open = self.lock();
        open.retain(|_, session| session.is_live(now));
        let mut own: Vec<_> = open
            .iter()
            .filter(|(_, session)| session.user == user)
            .map(|(hash, session)| (session.seen, hash.clone()))
            .collect();
        own.sort();
        for (_, hash) in own.iter().rev().skip(MOST - 1) {
            open.remove(hash);
        }
        let session = Session {
            user: user.to_owned(),
            stamp,
            from,
            began: now,
            seen: now,
        };
        open.insert(secret.hash(), session);
        Ok(secret)
    }

    /// Whose session it is. It is over when it was idle or open for too long, when the password was changed and when there is no
    /// such user any more.
    pub fn find(&self, secret: &Secret, book: &Book, now: Timestamp) -> Option<String> {
        let hash = secret.hash();
        let mut open = self.lock();
        let session = open.get_mut(&hash)?;
        if !session.is_live(now) || book.stamp(&session.user).as_ref() != Some(&session.stamp) {
            open.remove(&hash);
            return None;
        }
        let user = session.user.clone();
        let lags = now.duration_since(session.seen) > WRITTEN;
        if lags {
            session.seen = now;
        }
        drop(open);
        if lags {
            // Unwritten it is over earlier if the server restarts, and nothing else.
            let _ = self.write();
        }
        Some(user)
    }

    /// Whether the user has a session from this address.
    pub fn is_known(&self, user: &str, from: IpAddr, book: &Book, now: Timestamp) -> bool {
        let stamp = book.stamp(user);
        let mut open = self.lock();
        open.retain(|_, session| session.is_live(now));
        open.values().any(|session| {
            session.user == user && session.from == from && Some(&session.stamp) == stamp.as_ref()
        })
    }

    /// Ends a session.
    pub fn end(&self, secret: &Secret) {
        self.lock().remove(&secret.hash());
    }

    /// Writes down what is open now.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self) -> io::Result<()> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.lock().clone();
        let failed = |error: io::Error| {
            let path = self.folder.join(FILE);
            io::Error::new(error.kind(), format!("writing {}: {error}", path.display()))
        };
        let text = toml::to_string(&open).map_err(|error| failed(io::Error::other(error)))?;
        make_private_folder(&self.folder)
            .and_then(|()| replace(&self.folder, FILE, &text))
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Hash;
    use crate::role::Role;
    use proptest::prelude::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn noon() -> Timestamp {
        time("2026-11-29T12:00:00Z")
    }

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn ann() -> Book {
        let mut book = Book::default();
        let hash = Hash("one".into());
        book.add("ann", Role::Viewer, hash, noon()).unwrap();
        book
    }

    fn begin(sessions: &Sessions, book: &Book, now: Timestamp) -> Secret {
        let stamp = book.stamp("ann").unwrap();
        sessions.begin("ann", stamp, FROM, now).unwrap()
    }

    #[test]
    fn a_session_outlives_the_server_and_is_written_down_by_its_hash() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("people");
        let (sessions, book) = (Sessions::at(&folder), ann());
        let secret = begin(&sessions, &book, noon());
        sessions.write().unwrap();
        let text = fs::read_to_string(folder.join(FILE)).unwrap();
        assert!(!text.contains(secret.as_str()), "{text}");
        let later = Sessions::at(&folder);
        assert_eq!(later.find(&secret, &book, noon()).as_deref(), Some("ann"));
        assert!(later.is_known("ann", FROM, &book, noon()));
        later.end(&secret);
        assert_eq!(later.find(&secret, &book, noon()), None);
        fs::write(folder.join(FILE), "nonsense").unwrap();
        assert_eq!(Sessions::at(&folder).find(&secret, &book, noon()), None);
    }

    #[test]
    fn idleness_age_another_password_and_removal_end_it() {
        let root = tempfile::tempdir().unwrap();
        let sessions = Sessions::at(root.path());
        let mut book = ann();
        let find = |secret: &Secret, book: &Book, now: &str| {
            sessions.find(secret, book, time(now)).is_some()
        };
        let secret = begin(&sessions, &book, noon());
        assert!(find(&secret, &book, "2026-11-29T19:59:00Z"));
        assert!(find(&secret, &book, "2026-11-30T03:58:00Z"));
        assert!(!find(&secret, &book, "2026-11-30T12:00:00Z"));

        let secret = begin(&sessions, &book, noon());
        let mut now = noon();
        let busy = SignedDuration::from_hours(7);
        let asked = (0..100)
            .take_while(|_| {
                now = now.checked_add(busy).unwrap();
                sessions.find(&secret, &book, now).is_some()
            })
            .count();
        assert_eq!(asked, 23);

        let secret = begin(&sessions, &book, noon());
        book.set_password("ann", Hash("two".into()), noon())
            .unwrap();
        assert!(!find(&secret, &book, "2026-11-29T12:00:01Z"));
        let secret = begin(&sessions, &book, noon());
        book.remove("ann", true).unwrap();
        assert!(!find(&secret, &book, "2026-11-29T12:00:01Z"));
    }

    #[test]
    fn a_user_has_so_many_and_the_oldest_goes() {
        let root = tempfile::tempdir().unwrap();
        let (sessions, book) = (Sessions::at(root.path()), ann());
        let all: Vec<_> = (0..=MOST)
            .map(|number| {
                let seconds = i64::try_from(number).unwrap();
                let now = noon().checked_add(SignedDuration::from_secs(seconds));
                begin(&sessions, &book, now.unwrap())
            })
            .collect();
        let live = |secret: &&Secret| sessions.find(secret, &book, noon()).is_some();
        assert!(!live(&&all[0]));
        assert_eq!(all.iter().filter(live).count(), MOST);
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(text in "\\PC{0,200}") {
            let _ = toml::from_str::<Open>(&text);
        }
    }
}

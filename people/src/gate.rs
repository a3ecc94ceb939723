//! The gate that requests come to: who is it, by a token or a session; and how a session begins and ends.

use crate::audit::Audit;
use crate::book::Book;
use crate::lockout::Lockout;
use crate::password;
use crate::role::Role;
use crate::secret::{Csrf, NewToken, Secret};
use crate::sessions::Sessions;
use crate::store::{Store, Trouble};
use jiff::Timestamp;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// How somebody is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// There is no user yet, and the request comes from the server's own machine.
    Loopback,
    /// Logged in by a browser.
    Session,
    /// The token of this name.
    Token(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            Self::Session => f.write_str("session"),
            Self::Token(name) => write!(f, "token {name}"),
        }
    }
}

/// Somebody who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    pub name: String,
    pub role: Role,
    pub why: Why,
    /// Of a session: what its requests that change something have to show.
    pub csrf: Option<Csrf>,
}

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// Which of the two it is, is not told.
    #[error("the name or the password is wrong")]
    Wrong,
    #[error("too many wrong passwords: try again in {} s", .0.as_secs() + 1)]
    Wait(Duration),
    #[error("{0}")]
    Trouble(String),
}

/// Somebody who has just logged in.
#[derive(Debug)]
pub struct LoggedIn {
    pub secret: Secret,
    pub who: Who,
    /// Why the session will be forgotten when the server ends.
    pub forgotten: Option<std::io::Error>,
}

/// Everything about people, of one root.
#[derive(Debug)]
pub struct Gate {
    pub store: Store,
    pub audit: Audit,
    sessions: Sessions,
    lockout: Lockout,
}

impl Gate {
    pub fn at(root: &Path) -> Self {
        let store = Store::at(root);
        Self {
            audit: Audit::at(store.folder()),
            sessions: Sessions::at(store.folder()),
            lockout: Lockout::default(),
            store,
        }
    }

    /// Whether there is a user.
    ///
    /// # Errors
    /// The users file cannot be used: then nobody gets in.
    pub fn has_users(&self) -> Result<bool, Trouble> {
        Ok(!self.store.book()?.is_empty())
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// The users file cannot be used.
    pub fn by_token(&self, text: &str, now: Timestamp) -> Result<Option<Who>, Trouble> {
        let book = self.store.book()?;
        let Some(token) = NewToken::parse(text) else {
            return Ok(None);
        };
        let found = book.find_token(&token, now);
        Ok(found.map(|(name, role)| Who {
            name: name.to_owned(),
            role,
            why: Why::Token(token.name.clone()),
            csrf: None,
        }))
    }

    /// Whose session this is.
    ///
    /// # Errors
    /// The users file cannot be used.
    pub fn by_session(&self, text: &str, now: Timestamp) -> Result<Option<Who>, Trouble> {
        let book = self.store.book()?;
        let secret = Secret::parse(text);
        Ok(secret.and_then(|secret| self.session(&secret, &book, now)))
    }

    fn session(&self, secret: &Secret, book: &Book, now: Timestamp) -> Option<Who> {
        let name = self.sessions.find(secret, book, now)?;
        let role = book.users.get(&name)?.role;
        Some(Who {
            name,
            role,
            why: Why::Session,
            csrf: Some(secret.csrf()),
        })
    }

    /// Begins a session with a password. It takes a part of a second of a core, and 20 MB.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn log_in(
        &self,
        name: &str,
        password: &str,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<LoggedIn, Denied> {
        let trouble = |what: String| Denied::Trouble(what);
        let book = self.store.book().map_err(|e| trouble(e.to_string()))?;
        let known = self.sessions.is_known(name, from, &book, now);
        let this = self
            .lockout
            .begin(name, from, known, Instant::now())
            .map_err(Denied::Wait)?;
        let user = book.users.get(name);
        let hash = user.map(|user| user.password.0.as_str());
        let right = password::verify(hash, password);
        let (Some(_), Some(stamp), true) = (user, book.stamp(name), right) else {
            return Err(Denied::Wrong);
        };
        self.lockout.right(this);
        let secret = self.sessions.begin(name, stamp, from, now);
        let secret = secret.map_err(|error| trouble(error.to_string()))?;
        let who = self.session(&secret, &book, now);
        let who = who.ok_or_else(|| trouble("the session ended at once".into()))?;
        Ok(LoggedIn {
            who,
            secret,
            forgotten: self.sessions.write().err(),
        })
    }

    /// Ends a session. An error is that it would be open again if the server restarted.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn log_out(&self, text: &str) -> std::io::Result<()> {
        match Secret::parse(text) {
            Some(secret) => {
                self.sessions.end(&secret);
                self.sessions.write()
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Wanted;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_password_begins_a_session_that_a_log_out_ends() {
        let root = tempfile::tempdir().unwrap();
        let gate = Gate::at(root.path());
        assert!(!gate.has_users().unwrap());
        gate.store.add("ann", Role::Operator, "pw").unwrap();
        assert!(gate.has_users().unwrap());
        let now = Timestamp::now();
        let inside = gate.log_in("ann", "pw", FROM, now).unwrap();
        assert!(inside.forgotten.is_none());
        let found = gate
            .by_session(inside.secret.as_str(), now)
            .unwrap()
            .unwrap();
        assert_eq!(found, inside.who);
        assert_eq!((found.role, found.why), (Role::Operator, Why::Session));
        let later = Gate::at(root.path());
        assert!(
            later
                .by_session(inside.secret.as_str(), now)
                .unwrap()
                .is_some()
        );
        gate.log_out(inside.secret.as_str()).unwrap();
        assert_eq!(gate.by_session(inside.secret.as_str(), now).unwrap(), None);
        let later = Gate::at(root.path());
        assert_eq!(later.by_session(inside.secret.as_str(), now).unwrap(), None);
    }

    #[test]
    fn unknown_names_and_wrong_passwords_are_answered_alike_and_wait() {
        let root = tempfile::tempdir().unwrap();
        let gate = Gate::at(root.path());
        gate.store.add("ann", Role::Viewer, "pw").unwrap();
        let say = |name: &str, from: u8| {
            let from = IpAddr::from([192, 0, 2, from]);
            let denied = gate.log_in(name, "wrong", from, Timestamp::now());
            denied.unwrap_err().to_string()
        };
        for name in ["ann", "eve"] {
            let answers: Vec<String> = (0..6).map(|_| say(name, name.as_bytes()[0])).collect();
            assert!(
                answers[..5]
                    .iter()
                    .all(|said| said == "the name or the password is wrong")
            );
            assert!(
                answers[5].starts_with("too many wrong passwords"),
                "{answers:?}"
            );
        }
    }

    #[test]
    fn a_token_is_somebody_until_it_is_revoked() {
        let root = tempfile::tempdir().unwrap();
        let gate = Gate::at(root.path());
        gate.store.add("ann", Role::Admin, "pw").unwrap();
        let (token, now) = (NewToken::new().unwrap(), Timestamp::now());
        let wanted = Wanted {
            user: "ann".into(),
            role: Some(Role::Viewer),
            ..Wanted::default()
        };
        let add = |book: &mut Book| book.add_token(&token, &wanted, now);
        gate.store.change(add).unwrap();
        let who = gate.by_token(&token.text(), now).unwrap().unwrap();
        assert_eq!((who.name.as_str(), who.role), ("ann", Role::Viewer));
        assert_eq!(who.why.to_string(), format!("token {}", token.name));
        gate.store.change(|book| book.revoke(&token.name)).unwrap();
        assert_eq!(gate.by_token(&token.text(), now).unwrap(), None);
        assert_eq!(gate.by_token("nonsense", now).unwrap(), None);
    }
}

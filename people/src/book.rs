//! The users file: users and their tokens, and every change of them.

use crate::name::valid_name;
use crate::role::Role;
use crate::secret::{NewToken, Secret};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

const VERSION: u32 = 1;
/// Bytes of what a token is for.
const LONGEST_NOTE: usize = 200;
const HEAD: &str = "# Users of this Pitstop. Change it with pitstop user and pitstop token.\n";

/// A hash, which is shown in no message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hash(pub String);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

/// Somebody who may log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct User {
    pub role: Role,
    /// argon2id, as the PHC string has it.
    pub(crate) password: Hash,
    pub made: Timestamp,
    /// When the password was set.
    pub password_set: Timestamp,
}

/// A token of a user, for a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Token {
    pub user: String,
    /// At most this: when the user's role becomes less, so does the token's.
    pub role: Role,
    hash: Hash,
    pub made: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What a token is to be.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub user: String,
    /// The user's own if left out.
    pub role: Option<Role>,
    /// For ever if left out.
    pub expires: Option<Timestamp>,
    pub note: String,
}

impl Token {
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// All users and their tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    version: u32,
    #[serde(default, rename = "user")]
    pub users: BTreeMap<String, User>,
    /// By the name of each.
    #[serde(default, rename = "token")]
    pub tokens: BTreeMap<String, Token>,
}

/// A change that is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Name(String),
    #[error("there is a user {0} already")]
    Exists(String),
    #[error("there is no user {0}")]
    NoUser(String),
    #[error("there is no token {0}")]
    NoToken(String),
    #[error("what a token is for is one line of at most {LONGEST_NOTE} bytes")]
    Note,
    #[error("a token that has expired already is of no use: say a time to come, as in 90d")]
    Expired,
    #[error("{0} is the last admin: make another user an admin first")]
    LastAdmin(String),
    #[error("{user} is {has}: a token of theirs cannot be for {wanted}")]
    Beyond {
        user: String,
        has: Role,
        wanted: Role,
    },
}

impl Book {
    /// Reads the users file.
    ///
    /// # Errors
    /// A sentence with the line, and nothing of what stands there: it may be a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let book: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().and_then(|span| text.get(..span.start));
            let line = line.map(|before| before.matches('\n').count() + 1);
            match line {
                Some(line) => format!("line {line}: {}", cause(error.message())),
                None => cause(error.message()),
            }
        })?;
        if book.version != VERSION {
            return Err(format!(
                "version = {}: this Pitstop reads version {VERSION}",
                book.version
            ));
        }
        for name in book.users.keys() {
            valid_name(name).map_err(|why| format!("a user's name: {why}"))?;
        }
        let ownerless = |token: &&Token| !book.users.contains_key(&token.user);
        if let Some(token) = book.tokens.values().find(ownerless) {
            return Err(format!("a token is of {:?}, who is no user", token.user));
        }
        Ok(book)
    }

    /// The users file.
    ///
    /// # Errors
    /// None that a book can cause.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let book = Self {
            version: VERSION,
            ..self.clone()
        };
        Ok(format!("{HEAD}{}", toml::to_string(&book)?))
    }

    /// Whether nobody was made a user yet.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether there are users, and none who could make others.
    pub fn lacks_admin(&self) -> bool {
        !self.is_empty() && !self.users.values().any(|user| user.role == Role::Admin)
    }

    /// Adds a user; `password` is a hash.
    pub(crate) fn add(
        &mut self,
        name: &str,
        role: Role,
        password: Hash,
        now: Timestamp,
    ) -> Result<(), Refused> {
        valid_name(name).map_err(Refused::Name)?;
        // Ann beside ann would be taken for one person by every reader.
        let same = |other: &&String| other.eq_ignore_ascii_case(name);
        if let Some(other) = self.users.keys().find(same) {
            return Err(Refused::Exists(other.clone()));
        }
        let user = User {
            role,
            password,
            made: now,
            password_set: now,
        };
        self.users.insert(name.to_owned(), user);
        Ok(())
    }

    fn user(&mut self, name: &str) -> Result<&mut User, Refused> {
        let user = self.users.get_mut(name);
        user.ok_or_else(|| Refused::NoUser(name.into()))
    }

    /// Whether this is the only admin.
    fn is_last_admin(&self, name: &str) -> bool {
        let admin = |(_, user): &(&String, &User)| user.role == Role::Admin;
        let mut admins = self.users.iter().filter(admin);
        admins.next().is_some_and(|(only, _)| only == name) && admins.next().is_none()
    }

    /// Removes a user and their tokens. The last admin stays unless it is `meant`.
    ///
    /// # Errors
    /// There is no such user; it is the last admin.
    pub fn remove(&mut self, name: &str, meant: bool) -> Result<(), Refused> {
        self.user(name)?;
        if self.is_last_admin(name) && !meant {
            return Err(Refused::LastAdmin(name.into()));
        }
        self.users.remove(name);
        self.tokens.retain(|_, token| token.user != name);
        Ok(())
    }

    /// Changes a role. The last admin stays one unless it is `meant`.
    ///
    /// # Errors
    /// There is no such user; it is the last admin.
    pub fn set_role(&mut self, name: &str, role: Role, meant: bool) -> Result<(), Refused> {
        self.user(name)?;
        if role < Role::Admin && self.is_last_admin(name) && !meant {
            return Err(Refused::LastAdmin(name.into()));
        }
        self.user(name)?.role = role;
        Ok(())
    }

    pub(crate) fn set_password(
        &mut self,
        name: &str,
        password: Hash,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let user = self.user(name)?;
        user.password = password;
        user.password_set = now;
        Ok(())
    }

    /// Writes down a token.
    ///
    /// # Errors
    /// There is no such user, or the role is more than theirs, or the note is no line, or it would be over.
    pub fn add_token(
        &mut self,
        token: &NewToken,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<Token, Refused> {
        let has = self.user(&wanted.user)?.role;
        let role = wanted.role.unwrap_or(has);
        if role > has {
            return Err(Refused::Beyond {
                user: wanted.user.clone(),
                has,
                wanted: role,
            });
        }
        if wanted.note.len() > LONGEST_NOTE || wanted.note.chars().any(char::is_control) {
            return Err(Refused::Note);
        }
        if wanted.expires.is_some_and(|expires| expires <= now) {
            return Err(Refused::Expired);
        }
        let kept = Token {
            user: wanted.user.clone(),
            role,
            hash: Hash(token.secret.hash()),
            made: now,
            expires: wanted.expires,
            note: wanted.note.clone(),
        };
        // What is over is of no use to anybody.
        self.tokens.retain(|_, token| !token.is_expired(now));
        self.tokens.insert(token.name.clone(), kept.clone());
        Ok(kept)
    }

    /// Forgets a token.
    ///
    /// # Errors
    /// There is no such token.
    pub fn revoke(&mut self, name: &str) -> Result<Token, Refused> {
        let token = self.tokens.remove(name);
        token.ok_or_else(|| Refused::NoToken(name.into()))
    }

    /// Whose token it is, and with which role, if it is good.
    pub fn find_token(&self, shown: &NewToken, now: Timestamp) -> Option<(&str, Role)> {
        let token = self.tokens.get(&shown.name)?;
        let user = self.users.get(&token.user)?;
        let good = shown.secret.is_of(&token.hash.0) && !token.is_expired(now);
        good.then(|| (token.user.as_str(), token.role.min(user.role)))
    }

    /// What changes with a user's password: sessions that began with another one are over.
    pub(crate) fn stamp(&self, name: &str) -> Option<String> {
        let user = self.users.get(name)?;
        let stamp = blake3::hash(user.password.0.as_bytes());
        Some(stamp.to_hex()[..16].to_owned())
    }
}

/// The beginning of a message of the parser, up to what it quotes.
fn cause(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let end = line.find(['`', '"', ':']).unwrap_or(line.len());
    let text = line[..end].trim();
    if text.is_empty() {
        "it makes no sense".into()
    } else {
        text.into()
    }
}

impl Secret {
    /// For the tests of who keeps hashes.
    #[cfg(test)]
    pub(crate) fn fixed(digit: char) -> Self {
        Self::parse(&digit.to_string().repeat(64)).unwrap()
    }
}

#[cfg(test)]
mod tests;

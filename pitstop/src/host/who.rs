//! Who sets a job.

use nix::unistd::{Uid, User, gethostname};

/// `user@host`, of who typed the command: with sudo, too.
pub fn who() -> String {
    let user = std::env::var("SUDO_USER")
        .ok()
        .filter(|name| !name.is_empty());
    let user = user.or_else(|| {
        User::from_uid(Uid::effective())
            .ok()
            .flatten()
            .map(|user| user.name)
    });
    let user = user.unwrap_or_else(|| Uid::effective().to_string());
    match gethostname().ok().and_then(|name| name.into_string().ok()) {
        Some(host) => format!("{user}@{host}"),
        None => user,
    }
}

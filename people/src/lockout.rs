//! Wrong passwords make who tries wait, longer each time: by the name that is tried, and by the address that tries.
//!
//! Names that are nobody's count like others: the answer tells nothing of who there is. Kept in memory: who restarts the server
//! lets everybody try again.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Tries of one name before anybody has to wait.
const FREE_BY_NAME: u32 = 5;
/// Tries of one address: a classroom may be behind it.
const FREE_BY_ADDRESS: u32 = 20;
/// The first wait; each later one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// After such a time without a try all is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);
/// Names and addresses that are remembered; who makes more of them up finds the oldest forgotten.
const MOST: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Name(String),
    Address(IpAddr),
}

impl Key {
    fn free(&self) -> u32 {
        match self {
            Self::Name(_) => FREE_BY_NAME,
            Self::Address(_) => FREE_BY_ADDRESS,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    wrong: u32,
    last: Instant,
    /// No try before.
    until: Instant,
}

/// Who has to wait.
#[derive(Debug, Default)]
pub struct Lockout(Mutex<HashMap<Key, Tries>>);

/// A try that was counted as a wrong one, until it is known to be right.
#[derive(Debug)]
#[must_use]
pub struct Try {
    name: Key,
    address: Key,
}

impl Lockout {
    /// Counts a try as wrong before the password is looked at, so that many at once are no way around. Where `known` says that
    /// the user is logged in from this address already, strangers who try the name elsewhere are not in the way.
    ///
    /// # Errors
    /// How long to wait.
    pub fn begin(
        &self,
        name: &str,
        address: IpAddr,
        known: bool,
        now: Instant,
    ) -> Result<Try, Duration> {
        let this = Try {
            name: Key::Name(name.to_lowercase()),
            address: Key::Address(network(address)),
        };
        let mut tries = self.lock();
        tries.retain(|_, one| now.saturating_duration_since(one.last) < FORGOTTEN);
        let wait = |key: &Key| {
            let until = tries.get(key)?.until;
            Some(until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
        };
        let by_name = wait(&this.name).filter(|_| !known);
        if let Some(wait) = by_name.max(wait(&this.address)) {
            return Err(wait);
        }
        for key in [&this.name, &this.address] {
            make_room(&mut tries);
            let one = tries.entry(key.clone()).or_insert(Tries {
                wrong: 0,
                last: now,
                until: now,
            });
            one.wrong = one.wrong.saturating_add(1);
            one.last = now;
            one.until = now + penalty(one.wrong, key.free());
        }
        Ok(this)
    }

    /// The password was right: the name starts anew. Of the address only this try is taken back: who has an account of
    /// their own wins no tries at others by it.
    pub fn right(&self, this: Try) {
        let Try { name, address } = this;
        let mut tries = self.lock();
        tries.remove(&name);
        if let Some(one) = tries.get_mut(&address) {
            one.wrong = one.wrong.saturating_sub(1);
            one.until = one.last;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Tries>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn penalty(wrong: u32, free: u32) -> Duration {
    match wrong.checked_sub(free) {
        None => Duration::ZERO,
        Some(over) => FIRST
            .saturating_mul(1_u32.checked_shl(over).unwrap_or(u32::MAX))
            .min(LONGEST),
    }
}

fn make_room(tries: &mut HashMap<Key, Tries>) {
    if tries.len() < MOST {
        return;
    }
    let oldest = tries.iter().min_by_key(|(_, one)| one.last);
    if let Some(key) = oldest.map(|(key, _)| key.clone()) {
        tries.remove(&key);
    }
}

/// Of IPv6 the network of 64 bits: its addresses cost nothing.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) & (u128::MAX << 64);
            Ipv6Addr::from(bits).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn the_wait_for_a_name_grows_and_ends() {
        let (lockout, mut now) = (Lockout::default(), Instant::now());
        let mut waits = Vec::new();
        for number in 0..20 {
            // From another address each time.
            let _ = lockout.begin("ann", ip(number), false, now).unwrap();
            match lockout.begin("ANN", ip(100), false, now) {
                Err(wait) => {
                    waits.push(wait.as_secs());
                    now += wait;
                }
                Ok(this) => lockout.right(this),
            }
        }
        // A right one in between starts anew.
        assert_eq!(waits, [0; 0]);
        for number in 0..20 {
            let _ = lockout.begin("bob", ip(number), false, now).unwrap();
            if let Err(wait) = lockout.begin("bob", ip(100 + number), true, now) {
                panic!("who is known waits {wait:?}");
            }
            match lockout.begin("bob", ip(200), false, now) {
                Err(wait) => {
                    waits.push(wait.as_secs());
                    now += wait;
                }
                Ok(_) => waits.push(0),
            }
        }
        assert_eq!(waits[0], 0);
        let late = &waits[4..];
        assert!(late.windows(2).all(|two| two[0] <= two[1]), "{waits:?}");
        assert_eq!(*waits.last().unwrap(), LONGEST.as_secs());
        let later = now + FORGOTTEN;
        assert!(lockout.begin("bob", ip(200), false, later).is_ok());
    }

    #[test]
    fn an_address_waits_whatever_names_it_tries() {
        let (lockout, now) = (Lockout::default(), Instant::now());
        let tried = (0..10 * FREE_BY_ADDRESS)
            .take_while(|number| {
                let name = format!("user{number}");
                lockout.begin(&name, ip(1), false, now).is_ok()
            })
            .count();
        assert_eq!(tried, FREE_BY_ADDRESS as usize);
        assert!(lockout.begin("ann", ip(2), false, now).is_ok());
        let later = now + FIRST;
        // An account of one's own does not help.
        let own = lockout.begin("own", ip(1), false, later).unwrap();
        lockout.right(own);
        let _ = lockout.begin("ann", ip(1), false, later).unwrap();
        assert!(lockout.begin("ann", ip(1), false, later).is_err());
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_memory_is_bounded() {
        assert_eq!(
            network("2001:db8::1".parse().unwrap()),
            network("2001:db8::ffff:2".parse().unwrap())
        );
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), ip(1));
        let mut tries = HashMap::new();
        let now = Instant::now();
        for number in 0..MOST + 10 {
            make_room(&mut tries);
            let one = Tries {
                wrong: 1,
                last: now,
                until: now,
            };
            tries.insert(Key::Name(number.to_string()), one);
        }
        assert_eq!(tries.len(), MOST);
        assert_eq!(penalty(u32::MAX, 5), LONGEST);
    }
}

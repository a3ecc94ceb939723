//! The certificate that the server shows now, and its renewal while the server runs: nobody has to start it anew.

use super::authority::Authority;
use super::certificate::{Facts, Name};
use super::names;
use crate::fleet::Watched;
use crate::journal::Journal;
use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// How often the names of this computer, the dates and the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// A certificate that ends so soon is made anew.
const BEFORE_END: SignedDuration = SignedDuration::from_hours(30 * 24);
/// An authority, or a certificate of the admin's own, that ends so soon is told of.
const WARNING: SignedDuration = SignedDuration::from_hours(180 * 24);
const OWN_WARNING: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Where the certificate comes from.
pub enum Source {
    /// The server's own authority.
    Own {
        authority: Box<Authority>,
        /// Beside what the computer itself has.
        given: BTreeSet<Name>,
        fleet: Arc<Watched>,
    },
    /// The admin's files.
    Files { certificate: PathBuf, key: PathBuf },
}

struct Current {
    key: Arc<CertifiedKey>,
    facts: Arc<Facts>,
    /// Of the admin's files when they were read.
    stamps: Option<[Stamp; 2]>,
}

/// What changes when a file does.
type Stamp = (u64, u64, i64, i64);

pub struct Keeper {
    source: Source,
    provider: Arc<CryptoProvider>,
    journal: Arc<Journal>,
    current: RwLock<Current>,
    /// What the journal was told last: not every few seconds the same.
    told: Mutex<Option<String>>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    /// Takes up the certificate; the own authority makes one where that of the last run does not do.
    ///
    /// # Errors
    /// There is none that could be shown.
    pub fn new(
        source: Source,
        provider: Arc<CryptoProvider>,
        journal: Arc<Journal>,
    ) -> anyhow::Result<Self> {
        let now = Timestamp::now();
        let (current, trouble) = match &source {
            Source::Own {
                authority,
                given,
                fleet,
            } => {
                authority.check(now)?;
                let wanted = names::found(given, &fleet.current());
                let last = authority.last(&provider);
                let last = last.map(|key| Current::of(key, None)).transpose()?;
                match last {
                    Some(last) if does(&last.facts, &wanted, now, authority.facts.until) => {
                        (last, None)
                    }
                    _ => {
                        let (key, trouble) = authority.issue(&wanted, now, &provider)?;
                        (Current::of(key, None)?, trouble)
                    }
                }
            }
            Source::Files { certificate, key } => (read(certificate, key, &provider)?, None),
        };
        let keeper = Self {
            source,
            provider,
            journal,
            current: RwLock::new(current),
            told: Mutex::default(),
        };
        keeper.tell(trouble.map(|error| format!("{error:#}")));
        Ok(keeper)
    }

    /// What the certificate that is shown now says.
    pub fn facts(&self) -> Arc<Facts> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.facts)
    }

    /// What to say at the start: whose certificate it is, and until when.
    pub fn line(&self) -> String {
        let until = self.facts().until;
        match &self.source {
            Source::Own { authority, .. } => format!(
                "its certificate authority is {}: mkimage --ca takes it",
                authority.file().display()
            ),
            Source::Files { certificate, .. } => {
                format!(
                    "its certificate is {}, until {until:.0}",
                    certificate.display()
                )
            }
        }
    }

    /// Looks once whether another certificate is due, at `now`.
    pub fn look(&self, now: Timestamp) {
        let renewed = match &self.source {
            Source::Own {
                authority,
                given,
                fleet,
            } => self.renew(authority, &names::found(given, &fleet.current()), now),
            Source::Files { certificate, key } => self.reread(certificate, key, now),
        };
        self.tell(renewed.unwrap_or_else(|error| {
            let until = self.facts().until;
            Some(format!(
                "{error:#}; the certificate that ends at {until:.0} stays"
            ))
        }));
    }

    /// Returns what is worth a line.
    fn renew(
        &self,
        authority: &Authority,
        wanted: &BTreeSet<Name>,
        now: Timestamp,
    ) -> anyhow::Result<Option<String>> {
        authority.check(now)?;
        let facts = self.facts();
        let last = authority.facts.until;
        if !does(&facts, wanted, now, last) {
            let names = if is_due(&facts, now, last) {
                wanted.clone()
            } else {
                names::next(wanted, &facts.names)
            };
            let (key, trouble) = authority.issue(&names, now, &self.provider)?;
            self.take(Current::of(key, None)?);
            if let Some(error) = trouble {
                return Ok(Some(format!("{error:#}")));
            }
        }
        let left = authority.facts.until.duration_since(now);
        Ok((left < WARNING).then(|| {
            format!(
                "the certificate authority {} ends at {:.0}: see docs/tls.md for how it is replaced",
                authority.file().display(),
                authority.facts.until
            )
        }))
    }

    fn reread(
        &self,
        certificate: &Path,
        key: &Path,
        now: Timestamp,
    ) -> anyhow::Result<Option<String>> {
        let stamps = stamps(certificate, key)?;
        let known = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            current.stamps
        };
        if known != Some(stamps) {
            // While one of two is replaced they do not fit each other: that is tried again.
            self.take(read(certificate, key, &self.provider)?);
        }
        let until = self.facts().until;
        let left = until.duration_since(now);
        Ok((left < OWN_WARNING).then(|| {
            format!(
                "the certificate {} ends at {until:.0}",
                certificate.display()
            )
        }))
    }

    fn take(&self, current: Current) {
        let facts = Arc::clone(&current.facts);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        let names: Vec<String> = facts.names.iter().map(ToString::to_string).collect();
        self.journal.note(&format!(
            "https has a new certificate, until {:.0}, for {}",
            facts.until,
            names.join(", ")
        ));
    }

    /// A line in the journal, unless it was the last one already.
    fn tell(&self, line: Option<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = line.as_ref().filter(|_| *told != line) {
            self.journal.note(&format!("https: {line}"));
        }
        *told = line;
    }
}

impl ResolvesServerCert for Keeper {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current.key))
    }
}

impl Current {
    fn of(key: CertifiedKey, stamps: Option<[Stamp; 2]>) -> anyhow::Result<Self> {
        let certificate = key.end_entity_cert().context("there is no certificate")?;
        let facts = Facts::read(certificate)?;
        Ok(Self {
            facts: Arc::new(facts),
            key: Arc::new(key),
            stamps,
        })
    }
}

/// Whether a certificate can be shown for some time yet, to all who ask for one of `wanted`.
fn does(facts: &Facts, wanted: &BTreeSet<Name>, now: Timestamp, last: Timestamp) -> bool {
    !is_due(facts, now, last) && wanted.iter().all(|name| facts.is_for(name))
}

/// Whether another one would be valid for longer: none is beyond the `last` day of its authority.
fn is_due(facts: &Facts, now: Timestamp, last: Timestamp) -> bool {
    now < facts.from || (facts.until < last && facts.until.duration_since(now) < BEFORE_END)
}

fn stamps(certificate: &Path, key: &Path) -> anyhow::Result<[Stamp; 2]> {
    let stamp = |path: &Path| -> anyhow::Result<Stamp> {
        let found =
            std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
        Ok((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    };
    Ok([stamp(certificate)?, stamp(key)?])
}

/// The admin's certificate, its chain behind it, and its key.
fn read(certificate: &Path, key: &Path, provider: &CryptoProvider) -> anyhow::Result<Current> {
    // Taken before: what changes while it is read is read again.
    let stamps = stamps(certificate, key)?;
    let reading = |path: &Path| format!("reading {}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| reading(certificate))?;
    if chain.is_empty() {
        bail!("{} holds no PEM certificate", certificate.display());
    }
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| reading(key))?;
    let made = CertifiedKey::from_der(chain, private, provider)
        .with_context(|| format!("using {} with {}", key.display(), certificate.display()))?;
    Current::of(made, Some(stamps)).with_context(|| reading(certificate))
}

/// Looks after the certificate for as long as the server runs.
pub async fn watch(keeper: Arc<Keeper>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let keeper = Arc::clone(&keeper);
        let looked = tokio::task::spawn_blocking(move || keeper.look(Timestamp::now())).await;
        // A panic in it was told where it happened; the certificate stays.
        drop(looked);
    }
}

#[cfg(test)]
mod tests;

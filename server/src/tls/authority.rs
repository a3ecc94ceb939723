//! The server's own certificate authority: made once, kept for years in `tls/` below the root.
//!
//! `mkimage --ca` puts its certificate into the initramfs, so it outlives every certificate that it issues.

use super::certificate::{Facts, Name};
use super::der::Read;
use crate::write::{give_to_owner_of, replace_private};
use anyhow::{Context, bail, ensure};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, Permissions, PermissionsExt};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;

/// Below the root; for the server's own user alone.
pub const FOLDER: &str = "tls";
const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
/// The server's own certificate and, in the same file so that both change in one step, its key.
const SERVER: &str = "server.pem";

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long an authority lasts: replacing it means to make every initramfs anew.
const CA_DAYS: i32 = 10 * 365;
/// Clocks differ: what is made now is valid since a day.
const SKEW_DAYS: i32 = 1;
/// How long a certificate lasts that nobody has to renew by hand.
const DAYS: i32 = 90;
/// A machine whose clock has no battery believes that its initramfs was made just now: a certificate is valid since its
/// authority is, but for no more than 825 days in all, which is what Apple's browsers take.
const BACK_DAYS: i32 = 730;

/// The authority, with the key that it signs with.
pub struct Authority {
    folder: PathBuf,
    pem: String,
    pub certificate: CertificateDer<'static>,
    pub facts: Facts,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens the authority of a root; makes it where there is none.
    ///
    /// # Errors
    /// The folder cannot be written, or what is in it is not a pair of certificate and key.
    pub fn open_or_make(root: &Path) -> anyhow::Result<Self> {
        let (folder, path) = open_folder(root)?;
        // Two programs that find none must not make two.
        let lock = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        lock.lock()
            .with_context(|| format!("locking {}", path.display()))?;
        if !folder.exists(CERTIFICATE) {
            let made = make(&folder, Timestamp::now());
            made.with_context(|| format!("making a certificate authority in {}", path.display()))?;
        }
        drop(lock);
        Self::load(&folder, &path)
    }

    /// Opens the authority of a root; `None` where there is none yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(root: &Path) -> anyhow::Result<Option<Self>> {
        if !root.join(FOLDER).join(CERTIFICATE).exists() {
            return Ok(None);
        }
        let (folder, path) = open_folder(root)?;
        Self::load(&folder, &path).map(Some)
    }

    fn load(folder: &Dir, path: &Path) -> anyhow::Result<Self> {
        let file = path.join(CERTIFICATE);
        let pem = folder
            .read_to_string(CERTIFICATE)
            .with_context(|| format!("reading {}", file.display()))?;
        ensure!(
            !pem.contains("PRIVATE KEY"),
            "{} holds a private key: it belongs into {KEY}, as the certificate is handed out",
            file.display()
        );
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .with_context(|| format!("reading {}", file.display()))?;
        let facts =
            Facts::read(&certificate).with_context(|| format!("reading {}", file.display()))?;
        let key_file = path.join(KEY);
        let key = folder
            .read_to_string(KEY)
            .with_context(|| format!("reading {}", key_file.display()))?;
        let key =
            KeyPair::from_pem(&key).with_context(|| format!("reading {}", key_file.display()))?;
        let read = Read::certificate(&certificate).context("it is no certificate")?;
        ensure!(
            read.key == key.subject_public_key_info(),
            "{} is not the key of {}",
            key_file.display(),
            file.display()
        );
        let issuer = Issuer::new(params(&facts.subject)?, key);
        Ok(Self {
            folder: path.to_owned(),
            pem,
            certificate,
            facts,
            issuer,
        })
    }

    /// Where the certificate is, for messages.
    pub fn file(&self) -> PathBuf {
        self.folder.join(CERTIFICATE)
    }

    /// The certificate as `mkimage --ca` and browsers take it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether it can sign at `now`.
    ///
    /// # Errors
    /// Says why not, and what to do.
    pub fn check(&self, now: Timestamp) -> anyhow::Result<()> {
        let file = self.file();
        if now < self.facts.from {
            bail!(
                "{} is valid from {:.0}, and this computer's clock says {now:.0}: set the clock",
                file.display(),
                self.facts.from
            );
        }
        if now >= self.facts.until {
            bail!(
                "the certificate authority {} ended at {:.0}: move {} away, so that a new one is made, and make every \
                 initramfs anew with its certificate",
                file.display(),
                self.facts.until,
                self.folder.display()
            );
        }
        Ok(())
    }

    /// A certificate of this server for `names`, made at `now`; it is kept for the next start.
    ///
    /// # Errors
    /// It cannot be made. That it cannot be kept is told beside it: it serves all the same.
    pub fn issue(
        &self,
        names: &BTreeSet<Name>,
        now: Timestamp,
        provider: &CryptoProvider,
    ) -> anyhow::Result<(CertifiedKey, Option<anyhow::Error>)> {
        self.check(now)?;
        let key = KeyPair::generate().context("making a key")?;
        let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(texts).context("making a certificate")?;
        params
            .distinguished_name
            .push(DnType::CommonName, "Pitstop server");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        let back = now.checked_sub(DAY * BACK_DAYS).unwrap_or(now);
        let until = now.checked_add(DAY * DAYS).unwrap_or(now);
        params.not_before = date(self.facts.from.max(back));
        params.not_after = date(self.facts.until.min(until));
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("signing a certificate")?;
        let text = format!("{}{}", key.serialize_pem(), certificate.pem());
        let kept = self
            .keep(&text)
            .with_context(|| format!("writing {}", self.folder.join(SERVER).display()));
        let issued = Read::certificate(certificate.der());
        let own = Read::certificate(&self.certificate);
        ensure!(
            issued.map(|it| it.issuer) == own.map(|it| it.subject),
            "{} was not made by pitstop: give a certificate of that authority with --tls-cert and --tls-key",
            self.file().display()
        );
        let made = self.certified(certificate.der().clone(), key.serialized_der(), provider)?;
        Ok((made, kept.err()))
    }

    fn keep(&self, text: &str) -> anyhow::Result<()> {
        let folder = Dir::open_ambient_dir(&self.folder, ambient_authority())?;
        Ok(replace_private(&folder, SERVER, text)?)
    }

    fn certified(
        &self,
        certificate: CertificateDer<'static>,
        key: &[u8],
        provider: &CryptoProvider,
    ) -> anyhow::Result<CertifiedKey> {
        let key = PrivateKeyDer::try_from(key.to_vec()).map_err(anyhow::Error::msg)?;
        // With the authority's: who has it not yet can take it from there, by its fingerprint.
        let chain = vec![certificate, self.certificate.clone()];
        CertifiedKey::from_der(chain, key, provider).context("taking up the certificate")
    }

    /// The certificate that was issued last. `None` where there is none that this authority signed: another one is made then.
    pub fn last(&self, provider: &CryptoProvider) -> Option<CertifiedKey> {
        let pem = std::fs::read(self.folder.join(SERVER)).ok()?;
        let certificate = CertificateDer::from_pem_slice(&pem).ok()?;
        let key = PrivateKeyDer::from_pem_slice(&pem).ok()?;
        let mut own = RootCertStore::empty();
        own.add(self.certificate.clone()).ok()?;
        let signed = verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(&certificate).ok()?,
            &own,
            &[],
            UnixTime::now(),
            provider.signature_verification_algorithms.all,
        );
        signed.ok()?;
        self.certified(certificate.clone(), key.secret_der(), provider)
            .ok()
    }

    /// What the certificate says that was issued last.
    pub fn last_facts(&self) -> Option<Facts> {
        let pem = std::fs::read(self.folder.join(SERVER)).ok()?;
        Facts::read(&CertificateDer::from_pem_slice(&pem).ok()?).ok()
    }
}

/// The folder, made where it is missing, and closed to everybody else.
fn open_folder(root: &Path) -> anyhow::Result<(Dir, PathBuf)> {
    let path = root.join(FOLDER);
    let opening = || format!("opening {}", path.display());
    let below = Dir::open_ambient_dir(root, ambient_authority())
        .with_context(|| format!("opening {}", root.display()))?;
    let mut private = DirBuilder::new();
    private.mode(0o700);
    match below.create_dir_with(FOLDER, &private) {
        Ok(()) => give_to_owner_of(&below, &below.open(FOLDER).with_context(opening)?)
            .with_context(opening)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("making {}", path.display())),
    }
    let folder = Dir::open_ambient_dir(&path, ambient_authority()).with_context(opening)?;
    let mode = folder.dir_metadata().with_context(opening)?.permissions();
    if mode.mode() & 0o077 != 0 {
        folder
            .set_permissions(".", Permissions::from_mode(0o700))
            .with_context(|| format!("closing {} to other users", path.display()))?;
    }
    Ok((folder, path))
}

/// The key first: a certificate without its key would be taken for a whole authority.
fn make(folder: &Dir, now: Timestamp) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let host = nix::unistd::gethostname().unwrap_or_default();
    let name = format!(
        "Pitstop CA {} {}",
        host.to_string_lossy(),
        now.strftime("%F")
    );
    let mut params = params(&name)?;
    params.serial_number = Some(serial()?);
    params.not_before = date(now.checked_sub(DAY * SKEW_DAYS)?);
    params.not_after = date(now.checked_add(DAY * CA_DAYS)?);
    let certificate = params.self_signed(&key)?;
    replace_private(folder, KEY, &key.serialize_pem())?;
    replace_private(folder, CERTIFICATE, &certificate.pem())?;
    Ok(())
}

/// An authority of this name. It signs servers and no other authorities.
fn params(name: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A positive number that nobody else has (RFC 5280 4.1.2.2).
fn serial() -> anyhow::Result<SerialNumber> {
    let mut bytes = [0; 16];
    pitstop_imaging::random::fill(&mut bytes).context("making a serial number")?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// In whole seconds, as certificates have it. What is before 1970 is 1970.
fn date(time: Timestamp) -> OffsetDateTime {
    let seconds = u64::try_from(time.as_second()).unwrap_or_default();
    date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests;

//! What a TLS connection trusts: nothing but what the admin put in.

use anyhow::{Context as _, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

/// Where trusted certificate authorities come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Every `.pem` and `.crt` file of a folder. A folder that is not there holds none.
    Folder(PathBuf),
    /// The certificates of one file.
    File(PathBuf),
    /// The running system's own store, as `curl` uses it.
    System,
}

impl Default for Roots {
    /// Where the image builder puts them in the initramfs.
    fn default() -> Self {
        Roots::Folder(PathBuf::from("/etc/pitstop/ca"))
    }
}

/// A client configuration, and whether it trusts anybody.
pub(super) fn client_config(roots: &Roots) -> anyhow::Result<(ClientConfig, bool)> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::Folder(folder) => add_folder(&mut store, folder)?,
        Roots::File(file) => add_file(&mut store, file)
            .with_context(|| format!("reading the certificates in {}", file.display()))?,
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
        }
    }
    let trusts = !store.is_empty();
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("setting up TLS")?
            .with_root_certificates(store)
            .with_no_client_auth();
    Ok((config, trusts))
}

fn add_folder(store: &mut RootCertStore, folder: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("listing {}", folder.display()))?,
    };
    for entry in entries {
        let path = entry
            .with_context(|| format!("listing {}", folder.display()))?
            .path();
        let is_certificate = path
            .extension()
            .is_some_and(|extension| extension == "pem" || extension == "crt");
        if is_certificate {
            add_file(store, &path)
                .with_context(|| format!("reading the certificates in {}", path.display()))?;
        }
    }
    Ok(())
}

fn add_file(store: &mut RootCertStore, path: &Path) -> anyhow::Result<()> {
    for certificate in CertificateDer::pem_file_iter(path)? {
        store.add(certificate?)?;
    }
    Ok(())
}

/// Checks a file of certificate authorities as a machine will read it.
///
/// # Errors
/// There is no certificate in it, or one that no connection could be checked against.
pub fn check_certificates(pem: &[u8]) -> anyhow::Result<()> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate?)?;
    }
    ensure!(!store.is_empty(), "it holds no PEM certificate");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_trusts_nobody() {
        let (_, trusts) = client_config(&Roots::Folder("/nonexistent/ca".into())).unwrap();
        assert!(!trusts);
    }

    #[test]
    fn what_holds_no_certificate_is_refused_beforehand() {
        for (text, why) in [
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "",
            ),
            ("-----BEGIN CERTIFICATE-----\n", ""),
            ("hello", "it holds no PEM certificate"),
        ] {
            let error = format!("{:#}", check_certificates(text.as_bytes()).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
        let signed = rcgen::generate_simple_self_signed(["lab".to_owned()]).unwrap();
        check_certificates(signed.cert.pem().as_bytes()).unwrap();
    }

    #[test]
    fn a_broken_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(folder.path().join("lab.pem"), pem).unwrap();
        let roots = Roots::Folder(folder.path().to_owned());
        let error = format!("{:#}", client_config(&roots).err().unwrap());
        assert!(error.contains("lab.pem"), "{error}");
    }
}

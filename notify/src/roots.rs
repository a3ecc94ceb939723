//! Whom receivers' TLS is checked by: the authorities of this computer, and one more file where the admin names one.

use anyhow::{Context, ensure};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

/// The authorities, each of which rustls can use.
pub fn load(more: Option<&Path>) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let mut found = rustls_native_certs::load_native_certs().certs;
    // What one cannot use others do not miss.
    found.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if let Some(path) = more {
        let reading = || format!("reading {}", path.display());
        let own: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .with_context(reading)?;
        ensure!(
            !own.is_empty(),
            "{} holds no PEM certificate",
            path.display()
        );
        for certificate in &own {
            RootCertStore::empty()
                .add(certificate.clone())
                .with_context(reading)?;
        }
        found.extend(own);
    }
    Ok(found)
}

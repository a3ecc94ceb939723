//! Whose certificate is taken: one that this computer's authorities signed, the one that the admin wrote down, or any.

use crate::credentials::Login;
use crate::fingerprint::Fingerprint;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::sync::{Arc, Mutex, PoisonError};

/// The certificate that was refused, for the error.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Option<Fingerprint>>>);

impl Seen {
    pub fn refused(&self) -> Option<Fingerprint> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, fingerprint: Option<Fingerprint>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fingerprint;
    }
}

#[derive(Debug)]
enum Trust {
    /// `None` where this computer trusts nobody.
    Signed(Option<Arc<WebPkiServerVerifier>>),
    This(Fingerprint),
    Any,
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    seen: Seen,
}

/// What a connection with this login trusts.
pub fn config(login: &Login) -> Result<(ClientConfig, Seen), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trust = match (login.fingerprint, login.insecure.unwrap_or(false)) {
        (Some(fingerprint), _) => Trust::This(fingerprint),
        (None, true) => Trust::Any,
        (None, false) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            // It takes no empty list.
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            Trust::Signed(verifier.build().ok())
        }
    };
    let seen = Seen::default();
    let verifier = Verifier {
        trust,
        provider: Arc::clone(&provider),
        seen: seen.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((config, seen))
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Option<Fingerprint> {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().try_into().ok().map(Fingerprint)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = fingerprint(end_entity);
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let verified = match &self.trust {
            Trust::Any => Ok(ServerCertVerified::assertion()),
            Trust::This(wanted) if found == Some(*wanted) => Ok(ServerCertVerified::assertion()),
            Trust::This(_) | Trust::Signed(None) => Err(unknown()),
            Trust::Signed(Some(verifier)) => verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        };
        self.seen.set(found.filter(|_| verified.is_err()));
        verified
    }

    // That the server has the certificate's key is checked of every one, whoever signed it.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

//! A connection between two machines: TLS where the server is talked to by TLS, else plain TCP.
//!
//! The keys are made for the run, and there are no certificates, which would name nobody (RFC 7250): who the other side is, `hello`
//! proves by the session's key, bound to this very connection (RFC 9266), so that nobody in between can pass the proof on.

use anyhow::{Context, anyhow};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For a connection to come about, and for each step of its beginning.
pub const CONNECT: Duration = Duration::from_secs(2);
/// A child that takes nothing for so long is gone.
const WRITE: Duration = Duration::from_secs(10);
/// How often who waits for bytes looks around.
pub const LOOK: Duration = Duration::from_millis(250);

/// What both sides of RFC 5705 name their common secret.
const LABEL: &[u8] = b"EXPORTER-pitstop-relay";
const NAME: &str = "pitstop-relay";

/// The two halves of TLS for one run.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    /// With a key that lives as long as this value.
    pub fn new() -> anyhow::Result<Self> {
        let provider = Arc::new(default_provider());
        let own = AlwaysResolvesServerRawPublicKeys::new(Arc::new(own_key(&provider)?));
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("setting up TLS")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(own));
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("setting up TLS")?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyKey(provider)))
            .with_no_client_auth();
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}

/// A new key, in the place of a certificate.
fn own_key(provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    let made = made.map_err(|_| anyhow!("making a key for this run: there is no randomness"))?;
    let key = PrivatePkcs8KeyDer::from(made.as_ref().to_vec());
    let key = provider.key_provider.load_private_key(key.into());
    let key = key.context("setting up TLS")?;
    let public = key.public_key().context("setting up TLS: no public key")?;
    let public = CertificateDer::from(public.as_ref().to_vec());
    Ok(CertifiedKey::new(vec![public], key))
}

/// Takes any key whose holder proves to have it.
#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("peers talk TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection to a peer. Reads give up after [`LOOK`] with `WouldBlock` or `TimedOut`.
pub enum Link {
    Plain(TcpStream),
    Child(Box<StreamOwned<ClientConnection, TcpStream>>),
    Parent(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Link {
    /// Connects to a parent.
    pub fn connect(address: SocketAddr, tls: Option<&Tls>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT)?;
        set_up(&stream)?;
        let Some(tls) = tls else {
            return Ok(Self::Plain(stream));
        };
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&tls.client), name);
        let connection = connection.map_err(io::Error::other)?;
        Ok(Self::Child(Box::new(StreamOwned::new(connection, stream))))
    }

    /// Takes on a child's connection.
    pub fn accept(stream: TcpStream, tls: Option<&Tls>) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        set_up(&stream)?;
        let Some(tls) = tls else {
            return Ok(Self::Plain(stream));
        };
        let connection = ServerConnection::new(Arc::clone(&tls.server));
        let connection = connection.map_err(io::Error::other)?;
        Ok(Self::Parent(Box::new(StreamOwned::new(connection, stream))))
    }

    /// What this connection alone has, the same on both sides once bytes went both ways; zeros where it is plain.
    pub fn binding(&self) -> io::Result<[u8; 32]> {
        match self {
            Self::Plain(_) => Ok([0; 32]),
            Self::Child(stream) => stream.conn.export_keying_material([0; 32], LABEL, None),
            Self::Parent(stream) => stream.conn.export_keying_material([0; 32], LABEL, None),
        }
        .map_err(io::Error::other)
    }

    /// Fills `bytes`, however slowly they come, until `until`.
    pub fn read_until(&mut self, bytes: &mut [u8], until: Instant) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.read(&mut bytes[done..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(error) if is_pause(&error) && Instant::now() < until => {}
                Err(error) if is_pause(&error) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error),
            }
            if done < bytes.len() && Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

/// Whether nothing came for a while, and may yet.
pub fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(WRITE))
}

impl Read for Link {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Child(stream) => stream.read(bytes),
            Self::Parent(stream) => stream.read(bytes),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Child(stream) => stream.write(bytes),
            Self::Parent(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Child(stream) => stream.flush(),
            Self::Parent(stream) => stream.flush(),
        }
    }
}

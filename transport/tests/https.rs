//! HTTPS with an authority of one's own: what is trusted, what is not, and where credentials go.

use pitstop_protocol::share_url::ShareUrl;
use pitstop_transport::fetch::{HttpClient, Roots, Settings};
use pitstop_transport::share::{HttpShare, Share};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Trusts this authority and nobody else.
    fn client(&self, folder: &Path) -> HttpClient {
        fs::write(folder.join("lab.pem"), self.0.pem()).unwrap();
        client(folder)
    }

    /// A server for `localhost` whose every file says `content`; the heads of requests are sent back.
    fn serve(&self, change: impl Fn(&mut CertificateParams)) -> (u16, Receiver<String>) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heads, received) = channel();
        thread::spawn(move || accept(&listener, &Arc::new(config), &heads));
        (port, received)
    }
}

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>, heads: &Sender<String>) {
    for stream in listener.incoming() {
        let connection = ServerConnection::new(Arc::clone(config)).unwrap();
        let mut tls = BufReader::new(StreamOwned::new(connection, stream.unwrap()));
        let mut head = String::new();
        // A client that trusts somebody else says so and leaves.
        while !head.ends_with("\r\n\r\n") && tls.read_line(&mut head).is_ok_and(|n| n > 0) {}
        if head.ends_with("\r\n\r\n") {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\ncontent";
            tls.get_mut().write_all(answer.as_bytes()).unwrap();
            tls.get_mut().conn.send_close_notify();
            tls.get_mut().flush().unwrap();
            heads.send(head).unwrap();
        }
    }
}

fn client(roots: &Path) -> HttpClient {
    HttpClient::new(Settings {
        first_wait: Duration::from_millis(5),
        roots: Roots::Folder(roots.to_owned()),
        ..Settings::default()
    })
    .unwrap()
}

fn read(client: &HttpClient, url: &str) -> anyhow::Result<String> {
    let Ok(ShareUrl::Http(base)) = url.parse() else {
        panic!("{url} is not HTTP")
    };
    let mut text = String::new();
    HttpShare::new(&base, client)
        .open("x")?
        .read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_server_of_the_own_authority_is_trusted_and_gets_the_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("lab");
    let client = authority.client(folder.path());
    let (port, heads) = authority.serve(|_| {});
    let text = read(
        &client,
        &format!("https://lab:s3cret@localhost:{port}/share"),
    )
    .unwrap();
    assert_eq!(text, "content");
    let head = heads.recv().unwrap().to_lowercase();
    assert!(head.starts_with("get /share/x http/1.1"), "{head}");
    // "lab:s3cret" in Base64 (RFC 7617).
    assert!(
        head.contains(&"authorization: Basic bGFiOnMzY3JldA==".to_lowercase()),
        "{head}"
    );
}

#[test]
fn a_stranger_a_wrong_name_and_an_old_certificate_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("lab");
    let client = authority.client(folder.path());
    let refused = |port: u16| {
        let url = format!("https://lab:s3cret@localhost:{port}/share");
        let error = format!("{:#}", read(&client, &url).unwrap_err());
        assert!(!error.contains("s3cret"), "{error}");
        error
    };
    let (stranger, _heads) = Authority::new("stranger").serve(|_| {});
    let error = refused(stranger);
    assert!(error.contains("UnknownIssuer"), "{error}");
    let (other, _heads) = authority.serve(|params| {
        *params = CertificateParams::new(vec!["elsewhere".to_owned()]).unwrap();
    });
    let error = refused(other);
    assert!(error.contains("not valid for name"), "{error}");
    let (old, _heads) = authority.serve(|params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let error = refused(old);
    assert!(
        error.contains("expired") && error.contains("this machine's clock says 20"),
        "{error}"
    );
}

#[test]
fn without_an_authority_nobody_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let error = read(&client(folder.path()), "https://localhost:1/share").unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("no certificate authority was put in"),
        "{error}"
    );
}

//! Mail by SMTP (RFC 5321), with STARTTLS, TLS from the first byte, or neither.

use crate::notice::Notice;
use crate::receiver::Undelivered;
use crate::roots;
use crate::template::Template;
use anyhow::Context;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue, MIME_VERSION_1_0};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{SmtpTransport, Transport};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// For each answer of the server.
const PATIENCE: Duration = Duration::from_secs(20);
/// A reason may be long, and a subject is one line of a list.
const LONGEST_SUBJECT: usize = 150;

/// How the connection is kept from being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Security {
    /// Begins in the open and must change to TLS (RFC 3207).
    #[default]
    Starttls,
    /// RFC 8314 3.3.
    Tls,
    None,
}

impl Security {
    /// The port where nobody says which.
    pub fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

#[derive(Debug)]
pub struct Mail {
    pub server: String,
    pub port: u16,
    pub security: Security,
    /// The user, and the file with the password, which is read anew each time.
    pub login: Option<(String, PathBuf)>,
    pub from: Mailbox,
    pub to: Vec<Mailbox>,
    pub subject: Template,
    pub body: Template,
    pub ca_file: Option<PathBuf>,
}

impl Mail {
    /// Whether what it needs is there.
    pub fn check(&self) -> anyhow::Result<()> {
        self.transport().map(drop)
    }

    fn transport(&self) -> anyhow::Result<SmtpTransport> {
        let tls = || -> anyhow::Result<TlsParameters> {
            let mut tls = TlsParameters::builder(self.server.clone())
                .certificate_store(CertificateStore::None);
            for root in roots::load(self.ca_file.as_deref())? {
                tls = tls.add_root_certificate(Certificate::from_der(root.to_vec())?);
            }
            tls.build().context("setting up TLS")
        };
        let tls = match self.security {
            Security::Starttls => Tls::Required(tls()?),
            Security::Tls => Tls::Wrapper(tls()?),
            Security::None => Tls::None,
        };
        let mut transport = SmtpTransport::builder_dangerous(self.server.as_str())
            .port(self.port)
            .tls(tls)
            .timeout(Some(PATIENCE));
        if let Some((user, file)) = &self.login {
            let password = std::fs::read_to_string(file)
                .with_context(|| format!("reading {}", file.display()))?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            transport = transport.credentials(Credentials::new(user.clone(), password));
        }
        Ok(transport.build())
    }

    fn message(&self, notice: &Notice) -> Result<Message, Undelivered> {
        let lasting = Undelivered::Lasting;
        let subject = self.subject.render(notice).map_err(lasting)?;
        // What a machine says must not begin another header.
        let subject = subject.replace(char::is_control, " ");
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(subject.chars().take(LONGEST_SUBJECT).collect::<String>())
            // Large providers refuse a mail without a name, and without a version readers may show the encoded text.
            .message_id(None)
            .header(MIME_VERSION_1_0)
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            message = message.to(to.clone());
        }
        let body = self.body.render(notice).map_err(Undelivered::Lasting)?;
        message
            .body(body)
            .map_err(|error| Undelivered::Lasting(error.to_string()))
    }

    pub fn deliver(&self, notice: &Notice) -> Result<(), Undelivered> {
        let message = self.message(notice)?;
        let transport = self.transport();
        let transport = transport.map_err(|error| Undelivered::Passing(format!("{error:#}")))?;
        match transport.send(&message) {
            Ok(_) => Ok(()),
            Err(error) if is_lasting(&error) && self.to.len() > 1 => {
                self.deliver_one_by_one(&transport, &message)
            }
            Err(error) if is_lasting(&error) => Err(Undelivered::Lasting(error.to_string())),
            Err(error) => Err(Undelivered::Passing(error.to_string())),
        }
    }

    /// One mailbox that is gone keeps nobody else from hearing.
    fn deliver_one_by_one(
        &self,
        transport: &SmtpTransport,
        message: &Message,
    ) -> Result<(), Undelivered> {
        let text = message.formatted();
        let (mut refused, mut is_lost) = (Vec::new(), true);
        for to in &self.to {
            let sender = Some(self.from.email.clone());
            let sent = Envelope::new(sender, vec![to.email.clone()])
                .map_err(|error| error.to_string())
                .and_then(|envelope| {
                    let sent = transport.send_raw(&envelope, &text);
                    sent.map_err(|error| {
                        is_lost &= is_lasting(&error);
                        error.to_string()
                    })
                });
            if let Err(error) = sent {
                refused.push(format!("{}: {error}", to.email));
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        let told = self.to.len() - refused.len();
        let why = format!(
            "{told} of {} were told, and not {}",
            self.to.len(),
            refused.join("; ")
        );
        // Those who heard would hear it twice.
        if told == 0 && !is_lost {
            return Err(Undelivered::Passing(why));
        }
        Err(Undelivered::Lasting(why))
    }
}

/// RFC 5321 4.2.1: a 5xx is the server's last word. A wrong password may be put right.
fn is_lasting(error: &lettre::transport::smtp::Error) -> bool {
    error.is_permanent() && !is_about_login(error)
}

/// RFC 3834 5: nobody's holiday answers it.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".into())
    }
}

/// RFC 4954 6.
fn is_about_login(error: &lettre::transport::smtp::Error) -> bool {
    let code = error.status().map(u16::from);
    matches!(code, Some(530 | 534 | 535))
}

//! Who is told, and how that can end.

use crate::mail::Mail;
use crate::notice::{Event, Notice};
use crate::webhook::Webhook;

/// Somebody who is told.
#[derive(Debug)]
pub struct Receiver {
    pub name: String,
    pub on: Vec<Event>,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Webhook(Box<Webhook>),
    Mail(Box<Mail>),
}

/// Why a notice was not delivered. Neither says a secret: not the URL of a webhook, not a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// Later it may be.
    #[error("{0}")]
    Passing(String),
    /// It never will.
    #[error("{0}")]
    Lasting(String),
}

impl Receiver {
    /// Delivers one notice. Blocks for as long as its receiver takes, within limits.
    ///
    /// # Errors
    /// It was not delivered.
    pub fn deliver(&self, notice: &Notice) -> Result<(), Undelivered> {
        match &self.kind {
            Kind::Webhook(webhook) => webhook.deliver(notice),
            Kind::Mail(mail) => mail.deliver(notice),
        }
    }
}

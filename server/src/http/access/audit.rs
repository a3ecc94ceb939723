//! What becomes a line of the audit log: every request of a person that changes something, and every one that was refused such.

use super::Asked;
use crate::refusal::blocking;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use pitstop_people::{Entry, Outcome, Who};
use std::sync::Arc;

/// Put into an answer by a handler that can say it better than method and path do.
#[derive(Debug, Clone)]
pub struct Noted {
    pub act: String,
    pub object: String,
}

/// A request that will be noted, or is none to be.
pub struct Act(Option<Asked>);

impl Act {
    pub fn of(asked: &Asked) -> Self {
        Self((!asked.is_safe()).then(|| asked.clone()))
    }

    /// It was let in, and this is the answer.
    pub fn answered(self, who: Who, response: &Response) -> impl Future<Output = ()> + use<> {
        let status = response.status();
        let outcome = if status == StatusCode::FORBIDDEN {
            Outcome::Refused
        } else if status.is_client_error() || status.is_server_error() {
            Outcome::Failed
        } else {
            Outcome::Done
        };
        self.note(Some(who), outcome, response.extensions().get().cloned())
    }

    pub fn refused(self, who: Option<Who>) -> impl Future<Output = ()> {
        self.note(who, Outcome::Refused, None)
    }

    async fn note(self, who: Option<Who>, outcome: Outcome, said: Option<Noted>) {
        let Some(asked) = self.0 else {
            return;
        };
        let said = said.unwrap_or_else(|| Noted {
            act: asked.method.to_string(),
            // What follows a ? may be a secret.
            object: asked.uri.path().to_owned(),
        });
        let (name, how) = match who {
            Some(who) => (who.name, who.why.to_string()),
            None => (String::new(), "nobody".into()),
        };
        note(&asked, name, how, said, outcome).await;
    }
}

/// Writes a line of the audit log.
pub async fn note(asked: &Asked, who: String, how: String, said: Noted, outcome: Outcome) {
    let entry = Entry {
        time: Timestamp::now(),
        who,
        how,
        from: asked.peer.to_string(),
        act: said.act,
        object: said.object,
        outcome,
        left_out: 0,
    };
    let sites = Arc::clone(&asked.sites);
    let written = blocking(move || {
        if let Err(error) = sites.people.audit.note(entry) {
            sites.journal.note(&format!("the audit log: {error}"));
        }
        Ok(())
    });
    // A panic in it has been printed; the act is done, and the answer goes out.
    let _ = written.await;
}

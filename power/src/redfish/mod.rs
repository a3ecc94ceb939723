//! Redfish (DMTF DSP0266): a BMC's state and orders as JSON over HTTPS.

mod client;
mod tls;

use crate::act::{Limits, State};
use crate::bmc::Order;
use crate::credentials::Credentials;
use crate::error::{PowerError, one_line};
use client::Client;
use serde_json::{Value, json};
use std::fmt;
use url::Url;

/// Where a service has its machines, for a setting that names none.
const SYSTEMS: &str = "/redfish/v1/Systems";
const RESET: &str = "#ComputerSystem.Reset";

/// `redfish://[user@]host[:port]/redfish/v1/Systems/1`, of plain HTTP `redfish+http://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redfish(Url);

impl Redfish {
    /// Of the URL with HTTP's own scheme.
    pub(crate) fn of_url(url: Url) -> Result<Self, String> {
        if url.query().is_some() || url.fragment().is_some() {
            return Err(
                "there is no query and no # in it: write \"redfish://BMC/redfish/v1/Systems/1\""
                    .into(),
            );
        }
        Ok(Self(url))
    }

    /// Without what tells how it is asked.
    pub(crate) fn bmc(&self) -> String {
        let plain = Self(self.plain()).to_string();
        plain.trim_end_matches('/').to_owned()
    }

    fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    fn user(&self) -> Option<String> {
        let user = percent_encoding::percent_decode_str(self.0.username());
        let user = user.decode_utf8_lossy();
        (!user.is_empty()).then(|| user.into_owned())
    }

    /// Without the user: that goes into a header.
    fn plain(&self) -> Url {
        let mut url = self.0.clone();
        // An http URL with a host takes both.
        let _ = url.set_username("");
        url
    }
}

impl fmt::Display for Redfish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        match text.strip_prefix("https") {
            Some(rest) => write!(f, "redfish{rest}"),
            None => write!(f, "redfish+{text}"),
        }
    }
}

/// A BMC that is asked by Redfish.
pub(crate) struct Bmc {
    client: Client,
    system: Url,
}

impl Bmc {
    pub fn open(
        redfish: &Redfish,
        credentials: &Credentials,
        limits: &Limits,
    ) -> Result<Self, PowerError> {
        let mut login = credentials.of(redfish.host());
        login.user = redfish.user().or(login.user);
        let client = Client::open(&redfish.plain(), login, credentials.file(), limits)?;
        let system = match redfish.0.path() {
            "" | "/" => only_system(&client, &redfish.plain())?,
            _ => redfish.plain(),
        };
        Ok(Self { client, system })
    }

    fn system(&self) -> Result<Value, PowerError> {
        Ok(self.client.get(&self.system)?.json)
    }
}

/// A service of one machine, as a BMC is one, needs no name for it.
fn only_system(client: &Client, base: &Url) -> Result<Url, PowerError> {
    let list = client.join(base, SYSTEMS)?;
    let json = client.get(&list)?.json;
    let members = json.get("Members").and_then(Value::as_array);
    let paths: Vec<&str> = members
        .into_iter()
        .flatten()
        .filter_map(|member| member.get("@odata.id")?.as_str())
        .collect();
    match paths[..] {
        [path] => client.join(&list, path),
        _ => Err(client.nonsense(&format!(
            "it has {} machines: write which one, as in redfish://{}/redfish/v1/Systems/1",
            paths.len(),
            client.name()
        ))),
    }
}

/// The types of reset that do `order`, the best first. What a graceful one does is up to the system that runs.
fn types(order: Order) -> &'static [&'static str] {
    match order {
        Order::On => &["On", "ForceOn"],
        Order::Off => &["ForceOff"],
        Order::Restart => &["PowerCycle", "ForceRestart"],
    }
}

impl crate::bmc::Bmc for Bmc {
    fn name(&self) -> String {
        self.client.name().to_owned()
    }

    fn state(&self) -> Result<State, PowerError> {
        let system = self.system()?;
        match system.get("PowerState").and_then(Value::as_str) {
            Some("On") => Ok(State::On),
            Some("Off") => Ok(State::Off),
            Some(_) => Ok(State::Unknown),
            None => Err(self
                .client
                .nonsense("there is no PowerState: is the path that of a system?")),
        }
    }

    fn order(&self, order: Order) -> Result<(), PowerError> {
        let system = self.system()?;
        let action = system.get("Actions").and_then(|actions| actions.get(RESET));
        let target = action.and_then(|action| action.get("target")?.as_str());
        let Some(target) = target else {
            return Err(self.client.nonsense("its system has no action to reset it"));
        };
        let allowed =
            action.and_then(|action| action.get("ResetType@Redfish.AllowableValues")?.as_array());
        let allowed: Option<Vec<&str>> =
            allowed.map(|words| words.iter().filter_map(Value::as_str).collect());
        // A service that does not say what it takes is asked for the usual.
        let kind = types(order).iter().find(|kind| {
            allowed
                .as_ref()
                .is_none_or(|allowed| allowed.contains(kind))
        });
        let Some(kind) = kind else {
            return Err(PowerError::NotOffered {
                bmc: crate::bmc::Bmc::name(self),
                order: order.name(),
                offered: one_line(&allowed.unwrap_or_default().join(", ")),
            });
        };
        let target = self.client.join(&self.system, target)?;
        let body = json!({ "ResetType": kind });
        self.client.post(&target, &body)
    }

    fn pxe(&self) -> Result<(), PowerError> {
        let system = self.client.get(&self.system)?;
        let body = json!({
            "Boot": { "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe" }
        });
        self.client
            .change(&system.url, system.etag.as_deref(), &body)?;
        let boot = self.system()?;
        let says = |key: &str| {
            let value = boot.get("Boot").and_then(|boot| boot.get(key)?.as_str());
            value.unwrap_or("nothing").to_owned()
        };
        let (target, enabled) = (
            says("BootSourceOverrideTarget"),
            says("BootSourceOverrideEnabled"),
        );
        // What is said of it later some services leave out; what contradicts it is not believed.
        if matches!(target.as_str(), "Pxe" | "nothing") && enabled != "Disabled" {
            return Ok(());
        }
        Err(PowerError::NoPxe {
            bmc: crate::bmc::Bmc::name(self),
            says: one_line(&format!("{target}, {enabled}")),
        })
    }
}

//! Which machines a job is for: one by its address, or those of the fleet file that a selector means.

use crate::fleet;
use crate::machine::MachineName;
use anyhow::{Context, anyhow, bail};
use pitstop_fleet::{Fleet, Identity, Machine, Selector, is_name, selectors};
use pitstop_imaging::image::MachineIdentity;
use pitstop_protocol::host_name::Uuid;
use pitstop_protocol::job::{GROUP, setting_keys};
use pitstop_protocol::machine::folder;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use toml::Value;

/// A machine, or several, as people name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    One(MachineName),
    /// With commas between: `lab3-01,@lab4`.
    Selector(String),
}

impl Who {
    /// Every machine of the fleet file.
    pub fn all() -> Self {
        Self::Selector(EVERY.into())
    }
}

impl fmt::Display for Who {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => name.fmt(f),
            Self::Selector(text) => f.pad(text),
        }
    }
}

/// The pattern that every name fits.
const EVERY: &str = "*";

/// What a command needs of the fleet file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// What the layers say: a job without them would be another one.
    Settings,
    /// Other names of a machine, which can do without.
    Names,
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let why = match text.parse() {
            Ok(name) => return Ok(Self::One(name)),
            Err(why) => why,
        };
        // A mistyped address is told as such: no file has such a name.
        let number = |text: &str| {
            text.contains('.')
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'.')
        };
        let words = selectors(&[text]);
        let none = words.is_empty()
            || words.iter().any(|word| match word {
                Selector::Address(_) => words.len() == 1,
                Selector::Name(name) => number(name) || !is_name(name),
                _ => false,
            });
        if none {
            return Err(why);
        }
        Ok(Self::Selector(text.to_owned()))
    }
}

/// One machine of a command.
pub struct Target {
    /// By what its host file is named.
    pub machine: MachineName,
    /// By what else it may be named.
    others: Vec<MachineName>,
    /// Its name in the fleet file.
    pub label: Option<String>,
    /// Its groups in the fleet file, in the file's order.
    pub groups: Vec<String>,
    /// Its address there, where it is named by something else.
    ip: Option<IpAddr>,
    /// What the layers of the fleet file say, by the host file's keys.
    pub settings: BTreeMap<String, Value>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "{label} ({})", self.machine),
            None => self.machine.fmt(f),
        }
    }
}

impl Target {
    /// Every name that its host file may have, the best first.
    pub fn files(&self) -> Vec<String> {
        let names = std::iter::once(&self.machine).chain(&self.others);
        names.flat_map(MachineName::files).collect()
    }

    /// Its folder on the share, where its address is known.
    pub fn folder(&self) -> Option<String> {
        self.machine.address().or(self.ip).map(folder)
    }

    /// An image's folder with what the fleet file knows put in: `{hostname}` is the machine's name, `{group}` the first of
    /// its groups. What it does not know is left for the machine.
    pub fn filled(&self, image: &str) -> String {
        let names = [
            ("{hostname}", self.label.as_ref()),
            (GROUP, self.groups.first()),
        ];
        let mut image = image.to_owned();
        for (placeholder, name) in names {
            if let Some(name) = name {
                image = image.replace(placeholder, name);
            }
        }
        image
    }

    /// By what a run may call it.
    pub fn names(&self) -> Vec<String> {
        let machines = std::iter::once(&self.machine).chain(&self.others);
        let mut names: Vec<String> = machines.map(ToString::to_string).collect();
        names.extend(self.ip.map(|ip| ip.to_string()));
        names.extend(self.label.clone());
        names
    }

    /// What its names tell of it: those of the fleet file, and the one that it was called by.
    pub fn identity(&self) -> MachineIdentity {
        let machines = std::iter::once(&self.machine).chain(&self.others);
        let named: Vec<Identity> = machines.map(identity).collect();
        let uuid = named.iter().find_map(|one| one.uuid);
        MachineIdentity {
            uuid: uuid.map(|uuid| uuid.to_string()).unwrap_or_default(),
            serial: String::new(),
            macs: named
                .iter()
                .flat_map(|one| &one.macs)
                .map(ToString::to_string)
                .collect(),
        }
    }

    pub fn alone(machine: MachineName) -> Self {
        Self {
            machine,
            others: Vec::new(),
            label: None,
            groups: Vec::new(),
            ip: None,
            settings: BTreeMap::new(),
        }
    }

    /// `name` is how the command line has it; without one the address, which the folder on the share follows, comes first.
    pub(super) fn of(
        fleet: &Fleet,
        machine: &Machine,
        name: Option<MachineName>,
    ) -> anyhow::Result<Self> {
        let ip = machine.ip.map(|ip| ip.to_string());
        let macs = machine.macs.iter().map(ToString::to_string);
        let uuid = machine.uuid.map(|uuid| uuid.to_string());
        let mut names: Vec<MachineName> = ip
            .into_iter()
            .chain(macs)
            .chain(uuid)
            .filter_map(|text| text.parse().ok())
            .collect();
        if let Some(name) = name {
            names.retain(|other| *other != name);
            names.insert(0, name);
        }
        if names.is_empty() {
            bail!(
                "{} has neither ip, mac nor uuid in {}, line {}: no host file would be for it",
                machine.name,
                fleet.file,
                machine.line
            );
        }
        let settings = fleet.settings(machine).into_iter();
        let groups = machine.groups.iter().filter_map(|at| fleet.groups.get(*at));
        let mut target = Self {
            machine: names.remove(0),
            others: names,
            label: Some(machine.name.clone()),
            groups: groups.map(|group| group.name.clone()).collect(),
            ip: machine.ip,
            settings: settings
                .filter(|(key, _)| setting_keys().contains(key))
                .map(|(key, setting)| (key.to_owned(), setting.value))
                .collect(),
        };
        if let Some(Value::String(image)) = target.settings.get("image") {
            let image = target.filled(image);
            target.settings.insert("image".into(), image.into());
        }
        Ok(target)
    }
}

/// The fleet file of a root, as it is now.
pub struct Lab {
    /// As messages name the file.
    file: String,
    /// `None` where there is no file.
    pub fleet: Option<Fleet>,
}

impl Lab {
    /// # Errors
    /// The file cannot be read, or is wrong.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join(fleet::NAME);
        let file = path.display().to_string();
        let bytes = fleet::read(&path).with_context(|| format!("reading {file}"))?;
        let fleet = bytes.map(|bytes| Fleet::parse(&bytes, &file)).transpose()?;
        Ok(Self { file, fleet })
    }

    fn none(root: &Path) -> Self {
        Self {
            file: root.join(fleet::NAME).display().to_string(),
            fleet: None,
        }
    }
}

/// The machines that are meant, each once.
///
/// # Errors
/// A word means none, or the fleet file cannot be used.
pub fn targets(root: &Path, machines: &[Who], need: Need) -> anyhow::Result<Vec<Target>> {
    targets_of(&lab(root, machines, need)?, machines)
}

/// The fleet file. Where only names are needed and none of its is used, it may be wrong.
fn lab(root: &Path, machines: &[Who], need: Need) -> anyhow::Result<Lab> {
    let alone = machines.iter().all(|who| match who {
        Who::One(_) => true,
        Who::Selector(text) => words(text).all(|word| word.parse::<MachineName>().is_ok()),
    });
    match Lab::read(root) {
        Err(error) if alone && need == Need::Names => {
            let what = "only this name of a machine is looked for";
            // A log on a full disk must not end the command.
            let _ = writeln!(io::stderr(), "pitstop: warning: {what}: {error:#}");
            Ok(Lab::none(root))
        }
        read => read,
    }
}

fn targets_of(lab: &Lab, machines: &[Who]) -> anyhow::Result<Vec<Target>> {
    let mut found: Vec<Target> = Vec::new();
    let mut files = HashSet::new();
    for who in machines {
        for meant in meant(lab, who)? {
            let target = match (meant, lab.fleet.as_ref()) {
                (Meant::Known(machine, name), Some(fleet)) => Target::of(fleet, machine, name)?,
                (Meant::Alone(name), _) => Target::alone(name),
                (Meant::Known(..), None) => continue,
            };
            // By its name and by its address it is the same machine.
            if target.files().iter().all(|file| !files.contains(file)) {
                files.extend(target.files());
                found.push(target);
            }
        }
    }
    Ok(found)
}

/// A machine that a word means.
pub enum Meant<'a> {
    /// Of the fleet file; with the address that it was named by, if it was.
    Known(&'a Machine, Option<MachineName>),
    /// One that the fleet file does not know, by its address.
    Alone(MachineName),
}

impl Meant<'_> {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(one, _), Self::Known(other, _)) => one.name == other.name,
            (Self::Alone(one), Self::Alone(other)) => one == other,
            _ => false,
        }
    }
}

/// What stands between commas.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

/// The machines that one word means.
///
/// # Errors
/// It means none.
pub fn meant<'a>(lab: &'a Lab, who: &Who) -> anyhow::Result<Vec<Meant<'a>>> {
    match (who, lab.fleet.as_ref()) {
        // Each word by itself: an address in a list needs no fleet file, as one alone.
        (Who::Selector(text), _) if text.contains(',') => {
            let mut all: Vec<Meant<'a>> = Vec::new();
            for word in words(text) {
                let word = word.parse().map_err(|why: String| anyhow!(why))?;
                for one in meant(lab, &word)? {
                    if !all.iter().any(|other| other.is_same(&one)) {
                        all.push(one);
                    }
                }
            }
            Ok(all)
        }
        (Who::One(name), None) => Ok(vec![Meant::Alone(name.clone())]),
        (Who::One(name), Some(fleet)) => Ok(vec![match fleet.find(&identity(name)) {
            Some(machine) => Meant::Known(machine, Some(name.clone())),
            None => Meant::Alone(name.clone()),
        }]),
        (Who::Selector(text), None) if text == EVERY => {
            bail!("there is no {}: --all and * are its machines", lab.file)
        }
        (Who::Selector(text), None) => bail!(
            "{text:?} is neither an IP address like 192.168.1.50, nor a MAC address like 52:54:00:12:34:56, nor a UUID like \
             4c4c4544-0038-4a10-804e-b7c04f503132; and there is no {} that has names",
            lab.file
        ),
        (Who::Selector(text), Some(fleet)) => {
            let machines = fleet
                .select(&selectors(&[text]))
                .with_context(|| format!("looking in {}", fleet.file))?;
            let known = machines.into_iter();
            Ok(known.map(|machine| Meant::Known(machine, None)).collect())
        }
    }
}

fn identity(name: &MachineName) -> Identity {
    let text = name.to_string();
    Identity {
        macs: text.parse().ok().into_iter().collect(),
        ip: name.address(),
        uuid: Uuid::parse(&text),
        serial: None,
    }
}

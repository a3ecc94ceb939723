//! A command of the admin's: a switched socket, a virtual machine, a robot's arm.

use crate::act::{Act, Limits, State, Target};
use crate::error::PowerError;
use crate::program::{self, Outcome};
use std::process::Command;
use toml::Value;

/// What a word may have in it, to be filled in.
const NAMES: [&str; 4] = ["name", "mac", "ip", "act"];

/// A program and its arguments, with places to be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl Words {
    pub(crate) fn parse(words: &[Value]) -> Result<Self, String> {
        let text = |word: &Value| {
            let text = word
                .as_str()
                .ok_or_else(|| format!("{}: a command is a list of texts", word.type_str()))?;
            if text.contains('\0') {
                return Err("a zero byte is in no program's arguments".to_owned());
            }
            unknown_place(text).map_or(Ok(text.to_owned()), |place| {
                Err(format!(
                    "{{{place}}} is not known: there are {{name}}, {{mac}}, {{ip}} and {{act}}"
                ))
            })
        };
        let words = words.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        match words.first() {
            Some(program) if !program.is_empty() => Ok(Self(words)),
            _ => Err("no program is named: the first word of the list is one".into()),
        }
    }

    pub(crate) fn program(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// Without `{act}` nothing tells the program what to do: then it switches on.
    fn tells_act(&self) -> bool {
        self.0.iter().any(|word| word.contains("{act}"))
    }

    /// Whether the command may be asked for it.
    pub(crate) fn can(&self, act: Act) -> Result<(), PowerError> {
        if act == Act::On || self.tells_act() {
            return Ok(());
        }
        Err(PowerError::Cannot {
            what: format!("the command {}", self.program()),
            act,
            why: "it is told nothing of what to do, and so only switches on: put {act} among its words",
        })
    }

    /// Whether all its words can be filled in.
    pub(crate) fn check(&self, act: Act, target: &Target) -> Result<(), PowerError> {
        self.filled(act, target).map(|_| ())
    }

    fn filled(&self, act: Act, target: &Target) -> Result<Vec<String>, PowerError> {
        self.can(act)?;
        self.0.iter().map(|word| fill(word, act, target)).collect()
    }

    pub(crate) fn act(
        &self,
        act: Act,
        target: &Target,
        limits: &Limits,
    ) -> Result<State, PowerError> {
        let words = self.filled(act, target)?;
        let mut command = Command::new(self.program());
        command.args(words.iter().skip(1));
        let outcome = program::run(command, self.program(), limits.settle)?;
        match act {
            Act::Status => Ok(status(&outcome)),
            // Its exit status is its word.
            Act::On | Act::Cycle => Ok(State::On),
            Act::Off => Ok(State::Off),
            Act::Pxe => Ok(State::Unknown),
        }
    }
}

fn unknown_place(text: &str) -> Option<&str> {
    text.split('{').skip(1).find_map(|rest| {
        let (place, _) = rest.split_once('}')?;
        let word = !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_lowercase());
        (word && !NAMES.contains(&place)).then_some(place)
    })
}

fn fill(word: &str, act: Act, target: &Target) -> Result<String, PowerError> {
    let missing = |what: &'static str| PowerError::Lacks {
        name: target.name.clone(),
        what,
    };
    let mut filled = word
        .replace("{name}", &target.name)
        .replace("{act}", act.name());
    if filled.contains("{mac}") {
        let mac = target.macs.first().ok_or_else(|| missing("mac"))?;
        filled = filled.replace("{mac}", &mac.to_string());
    }
    if filled.contains("{ip}") {
        let ip = target.ip.ok_or_else(|| missing("ip"))?;
        filled = filled.replace("{ip}", &ip.to_string());
    }
    Ok(filled)
}

/// The last word of what it prints: `on`, `off`, `power: on`, `Power is ON.`
fn status(outcome: &Outcome) -> State {
    let words = outcome.stdout.split_whitespace();
    let mut words = words.map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    match words.rfind(|word| !word.is_empty()) {
        Some(word) if word.eq_ignore_ascii_case("on") => State::On,
        Some(word) if word.eq_ignore_ascii_case("off") => State::Off,
        _ => State::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn target() -> Target {
        Target {
            name: "lab3-01".into(),
            macs: vec!["52:54:00:12:34:56".parse().unwrap()],
            ip: None,
            network: None,
        }
    }

    fn run(words: &[&str], act: Act, settle: Duration) -> Result<State, PowerError> {
        let words: Vec<Value> = words.iter().map(|word| Value::from(*word)).collect();
        let limits = Limits {
            settle,
            ..Limits::default()
        };
        Words::parse(&words).unwrap().act(act, &target(), &limits)
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn its_words_are_filled_in_and_its_answer_is_read() {
        let script = "test \"$1 $2\" = 'lab3-01 52:54:00:12:34:56' && echo is $3";
        let words = ["sh", "-c", script, "sh", "{name}", "{mac}", "{act}"];
        assert_eq!(run(&words, Act::On, SOON).unwrap(), State::On);
        assert_eq!(run(&words, Act::Status, SOON).unwrap(), State::Unknown);
        let says = |text| run(&["echo", text, "{act}", text], Act::Status, SOON).unwrap();
        assert_eq!((says("On"), says("is: off")), (State::On, State::Off));
        assert_eq!(
            (says("It is ON."), says("'off' !")),
            (State::On, State::Off)
        );
        // It leaves something behind that holds its output open.
        let leaves = ["sh", "-c", "sleep 9 & echo on", "{act}"];
        assert_eq!(run(&leaves, Act::Status, SOON).unwrap(), State::On);
        let error = run(&["echo", "{ip}"], Act::On, SOON).unwrap_err();
        assert_eq!(
            error.to_string(),
            "lab3-01 has no ip in fleet.toml, and its power needs one"
        );
        let error = run(&["echo", "{mac}"], Act::Off, SOON).unwrap_err();
        assert!(
            error.to_string().contains("put {act} among its words"),
            "{error}"
        );
    }

    #[test]
    fn one_that_fails_hangs_or_is_not_there_is_told() {
        let error = run(
            &["sh", "-c", "echo no such socket >&2; exit 3"],
            Act::On,
            SOON,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh failed with exit status 3: no such socket"
        );
        let error = run(&["/nowhere/pdu"], Act::On, SOON).unwrap_err();
        assert!(
            error.to_string().starts_with("running /nowhere/pdu: "),
            "{error}"
        );
        let began = Instant::now();
        // What it started holds its output open, and ends with it.
        let hangs = ["sh", "-c", "sleep 300 & sleep 300"];
        let error = run(&hangs, Act::On, Duration::from_millis(200)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh did not end within 200ms, and was stopped"
        );
        assert!(began.elapsed() < Duration::from_secs(60));
        let floods = [
            "sh",
            "-c",
            "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxx; done",
        ];
        let error = run(&floods, Act::On, Duration::from_millis(300)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }
}

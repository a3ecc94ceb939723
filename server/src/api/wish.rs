//! The body of `POST /jobs`: read, and checked as `pitstop host set` checks its command line.

use super::query::bad;
use crate::refusal::Refusal;
use crate::set::{Many, Origin, Who, Wish};
use jiff::Zoned;
use pitstop_api::{JobPower, Order};
use pitstop_jobs::Cron;
use pitstop_protocol::job::options::Kind;
use pitstop_protocol::job::{JobOption, OPTIONS, check_setting};
use serde_json::Value as Json;
use toml::{Table, Value};

/// What stands in every host file.
const VERSION: &str = "version";

/// The keys of a host file that a wish may have.
pub fn keys() -> impl Iterator<Item = &'static JobOption> {
    let is_wished =
        |option: &&JobOption| !option.of_one_file && !matches!(option.kind, Kind::Action);
    OPTIONS.iter().filter(is_wished)
}

pub fn machines(words: &[String]) -> Result<Vec<Who>, Refusal> {
    if words.is_empty() {
        return Err(bad("machines: name at least one"));
    }
    words
        .iter()
        .map(|word| {
            // As on the command line: every machine of the fleet file.
            if word == "--all" || word == "*" {
                return Ok(Who::all());
            }
            word.parse()
                .map_err(|why| bad(format!("machines: {word:?}: {why}")))
        })
        .collect()
}

/// What `order` means, where `by` asks for it.
pub fn wish(order: &Order, by: &str) -> Result<Wish, Refusal> {
    let action = order.action.parse();
    let power = match order.power.as_deref() {
        None | Some("none") => None,
        Some("cycle") => Some(JobPower::Cycle),
        Some("on") => Some(JobPower::On),
        Some(other) => {
            return Err(bad(format!(
                "power: {other:?}: there are cycle, on and none"
            )));
        }
    };
    let mut given = Table::new();
    for (key, value) in &order.job {
        if let Some((key, value)) = setting(key, value)? {
            given.insert(key.to_owned(), value);
        }
    }
    Ok(Wish {
        machines: machines(&order.machines)?,
        action: action
            .map_err(|why: pitstop_protocol::job::UnknownAction| bad(format!("action: {why}")))?,
        given,
        url: None,
        power,
        force: order.force,
        many: many(order)?,
        by: by.to_owned(),
        // Whoever asks over the network has the key, and the server has not.
        terms: None,
        from: origin(order)?,
        follows: None,
    })
}

fn origin(order: &Order) -> Result<Option<Origin>, Refusal> {
    let Some(from) = &order.from else {
        if order.follow {
            return Err(bad("follow: say from which machine, with from"));
        }
        return Ok(None);
    };
    let machine = from.parse().map_err(|why| bad(format!("from: {why}")))?;
    let follow = order.follow;
    Ok(Some(Origin { machine, follow }))
}

fn many(order: &Order) -> Result<Many, Refusal> {
    if order.at.is_some() && order.every.is_some() {
        return Err(bad("at and every cannot stand beside each other"));
    }
    if order.slots == Some(0) {
        return Err(bad("slots: write a number from 1"));
    }
    let now = Zoned::now();
    let at = order.at.as_deref().map(|at| pitstop_jobs::at(at, &now));
    let at = at.transpose().map_err(|why| bad(format!("at: {why}")))?;
    let every = order.every.as_deref().map(str::trim);
    if let Some(every) = every {
        Cron::parse(every, now.time_zone()).map_err(|why| bad(format!("every: {why}")))?;
    }
    Ok(Many {
        at,
        every: every.map(str::to_owned),
        slots: order.slots,
        order: order.order.unwrap_or_default(),
    })
}

/// A key of the host file and its value; `None` of what goes without saying.
fn setting(key: &str, value: &Json) -> Result<Option<(&'static str, Value)>, Refusal> {
    if key == VERSION && value.as_u64() == Some(1) {
        return Ok(None);
    }
    let Some(option) = keys().find(|option| option.key == key) else {
        let known: Vec<&str> = keys().map(|option| option.key).collect();
        return Err(bad(format!(
            "unknown key {key:?}: there are machines, action, at, every, slots, order, power, from, follow, force, dry-run, and of the host \
             file {}",
            known.join(", ")
        )));
    };
    let wrong = |why: String| bad(format!("key {key:?}: {why}"));
    let value = in_toml(value).map_err(wrong)?;
    match option.kind {
        // It may have placeholders that are filled in before a machine sees it.
        Kind::Text(_) if value.is_str() => {}
        _ => check_setting(option.key, &value).map_err(wrong)?,
    }
    Ok(Some((option.key, value)))
}

fn in_toml(value: &Json) -> Result<Value, String> {
    Ok(match value {
        Json::Null => return Err("null is no value: leave the key out".into()),
        Json::Bool(yes) => (*yes).into(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => return Err(format!("{number} is no whole number that fits")),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(values) => {
            let values: Result<Vec<Value>, String> = values.iter().map(in_toml).collect();
            values?.into()
        }
        Json::Object(object) => {
            let mut table = Table::new();
            for (key, value) in object {
                table.insert(key.clone(), in_toml(value)?);
            }
            table.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(body: &Json) -> Result<Wish, String> {
        let order = serde_json::from_value(body.clone()).map_err(|error| error.to_string())?;
        wish(&order, "anna").map_err(|refusal| refusal.reason)
    }

    #[test]
    fn a_body_says_what_a_command_line_says() {
        let body = json!({
            "machines": ["10.0.2.15", "@lab", "*"], "action": "restore", "image": "golden/{mac}", "verify": true,
            "disks": ["sda", {"serial": "S1"}], "attempts": 2, "slots": 3, "order": "name", "every": "0 22 * * *", "version": 1
        });
        let wish = read(&body).unwrap();
        assert_eq!(wish.machines.len(), 3);
        assert_eq!(wish.given.len(), 4);
        assert_eq!(wish.given["disks"][1]["serial"].as_str(), Some("S1"));
        assert_eq!(wish.many.slots, Some(3));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (key, value, why) in [
            (
                "imgae",
                json!("x"),
                "unknown key \"imgae\": there are machines, action,",
            ),
            ("check-in", json!("http://a/"), "unknown key"),
            ("action", json!("melt"), "action: unknown action \"melt\""),
            ("machines", json!([]), "machines: name at least one"),
            (
                "machines",
                json!(["10.0.2.300"]),
                "machines: \"10.0.2.300\": it is neither",
            ),
            ("machines", json!("a"), "invalid type"),
            ("attempts", json!("3"), "key \"attempts\": "),
            ("attempts", json!(1.5), "1.5 is no whole number"),
            ("image", json!(null), "null is no value"),
            ("image", json!(3), "key \"image\": "),
            ("level", json!("best"), "key \"level\": "),
            ("slots", json!(0), "slots: write a number from 1"),
            ("power", json!("off"), "there are cycle, on and none"),
            ("follow", json!(true), "follow: say from which machine"),
            ("from", json!("10.0.2.300"), "from: it is neither"),
            ("at", json!("yesterday"), "at: \"yesterday\" is not a time"),
            ("every", json!("x"), "every: "),
            ("version", json!(2), "unknown key \"version\""),
        ] {
            let mut body = json!({"machines": ["10.0.2.15"], "action": "backup"});
            body[key] = value.clone();
            let error = read(&body).unwrap_err();
            assert!(error.contains(why), "{key} = {value}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_a_panic(key in "[a-z-]{1,10}", text in "\\PC{0,20}") {
            let body = json!({"machines": [text], "action": "backup", "image": text, key: [text, {"a": text}]});
            let _ = read(&body);
            let _ = serde_json::from_str::<Order>(&text);
        }
    }
}

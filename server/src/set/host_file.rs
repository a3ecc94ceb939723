//! The text of a host file: what is wished, what is added, and what the fleet's layers say.

use super::Wish;
use super::target::Target;
use anyhow::bail;
use pitstop_protocol::job::{ActionName, OPTIONS, is_of_action};
use std::fmt::Write as _;
use std::path::Path;
use toml::Value;

/// What a `partition` makes if nothing else is said.
pub const LAYOUT: &str = "layout.toml";

/// `file` is its name, `url` the server's.
pub fn text(
    root: &Path,
    wish: &Wish,
    target: &Target,
    file: &str,
    url: Option<&str>,
) -> anyhow::Result<String> {
    let mut text = format!("# Written by pitstop host set, for {target}.\nversion = 1\n");
    for option in OPTIONS {
        let key = option.key;
        let value = match wish.given.get(key) {
            Some(Value::String(image)) if key == "image" => Some(target.filled(image).into()),
            Some(given) => Some(given.clone()),
            None if key == "action" => Some(wish.action.as_str().into()),
            // Of what the layers say, that is left out which this action has no use for.
            None => match target.settings.get(key) {
                Some(value) => is_of_action(key, value, wish.action).then(|| value.clone()),
                None => added(root, wish, file, url, key)?,
            },
        };
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        }
    }
    Ok(text)
}

/// What the command itself knows, where nobody says otherwise.
fn added(
    root: &Path,
    wish: &Wish,
    file: &str,
    url: Option<&str>,
    key: &str,
) -> anyhow::Result<Option<Value>> {
    let action = wish.action;
    Ok(match (key, url) {
        ("share", Some(url)) => Some(format!("{url}/share").into()),
        ("share", None) if action != ActionName::Rescue => bail!(
            "nothing says where the share is: start pitstop serve on {} once, or give --url or --share",
            root.display()
        ),
        ("delete", Some(url)) => Some(vec![format!("{url}/hosts/{file}")].into()),
        ("layout", _) if action == ActionName::Partition => Some(LAYOUT.into()),
        _ => None,
    })
}

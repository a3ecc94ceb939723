//! A machine's name, and the files that have it.

use crate::files::Files;
use anyhow::bail;

/// Linux has 64 (`sethostname(2)`).
const NAME_MOST: usize = 64;
const LABEL_MOST: usize = 63;
/// Where old distributions have it as well.
const OLD_PLACES: [&str; 1] = ["etc/HOSTNAME"];
const SYSCONFIG: &str = "etc/sysconfig/network";

/// Whether a text can be a machine's name (RFC 1123 2.1): asked before the first write.
///
/// # Errors
/// What is wrong with it.
pub fn check_hostname(name: &str) -> anyhow::Result<()> {
    if name.is_empty() || name.len() > NAME_MOST {
        bail!("{name:?} is no host name: it has 1 to {NAME_MOST} characters");
    }
    for label in name.split('.') {
        let plain = label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let edges = label.starts_with('-') || label.ends_with('-');
        if label.is_empty() || label.len() > LABEL_MOST || !plain || edges {
            bail!(
                "{name:?} is no host name: letters, digits and dashes between them, with dots between parts of 1 to {LABEL_MOST}"
            );
        }
    }
    Ok(())
}

/// Writes the name wherever the system has its own. Returns the one that it had.
pub fn set(files: &Files, name: &str) -> anyhow::Result<Option<String>> {
    let old = files.text("etc/hostname")?.unwrap_or_default();
    let old = old.lines().map(str::trim);
    let old = old
        .filter(|line| !line.starts_with('#'))
        .find(|line| !line.is_empty());
    let old = old.filter(|old| short(old) != "localhost");
    files.make_folders("etc")?;
    files.write("etc/hostname", format!("{name}\n").as_bytes(), 0o644)?;
    for place in OLD_PLACES {
        if files.link_target(place)?.is_none() && files.exists(place) {
            files.write(place, format!("{name}\n").as_bytes(), 0o644)?;
        }
    }
    let before = files.read("etc/hosts")?;
    let after = match before.as_deref().map(str::from_utf8) {
        Some(Ok(text)) => hosts(text, old, name),
        Some(Err(_)) => bail!("{} is no text", files.shown("etc/hosts")),
        None => hosts("127.0.0.1\tlocalhost\n::1\tlocalhost\n", old, name),
    };
    files.write("etc/hosts", after.as_bytes(), 0o644)?;
    if let (Some(old), Some(text)) = (old, files.text("etc/mailname")?)
        && let Some(new) = renamed(text.trim(), old, name)
    {
        files.write("etc/mailname", format!("{new}\n").as_bytes(), 0o644)?;
    }
    if let Some(text) = files.text(SYSCONFIG)?
        && text.lines().any(|line| line.starts_with("HOSTNAME="))
    {
        let lines = text.lines().map(|line| {
            if line.starts_with("HOSTNAME=") {
                format!("HOSTNAME={name}\n")
            } else {
                format!("{line}\n")
            }
        });
        files.write(SYSCONFIG, lines.collect::<String>().as_bytes(), 0o644)?;
    }
    Ok(old.map(str::to_owned))
}

fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// A name of the old machine as the new one's: alone, or with a domain. `None` for others' names.
fn renamed(found: &str, old: &str, new: &str) -> Option<String> {
    if found == old {
        return Some(new.to_owned());
    }
    let rest = found.strip_prefix(short(old))?;
    match rest.strip_prefix('.') {
        None if rest.is_empty() => Some(short(new).to_owned()),
        // The new name may have a domain of its own.
        Some(_) if new.contains('.') => Some(new.to_owned()),
        Some(domain) => Some(format!("{new}.{domain}")),
        None => None,
    }
}

fn is_loopback(address: &str) -> bool {
    address.starts_with("127.") || address == "::1"
}

/// The hosts file with the new name: on loopback addresses in the place of the old one, else on a line of its own. Other addresses are
/// other machines', the one that the tree is of among them.
fn hosts(text: &str, old: Option<&str>, new: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut there = false;
    for line in text.lines() {
        let (code, comment) = match line.find('#') {
            Some(at) => line.split_at(at),
            None => (line, ""),
        };
        let mut words = code.split_whitespace();
        let address = words.next().unwrap_or_default();
        if !is_loopback(address) {
            lines.push(line.to_owned());
            continue;
        }
        let mut changed = words_in(code, |word| old.and_then(|old| renamed(word, old, new)));
        let has = |line: &str| line.split_whitespace().skip(1).any(|word| word == new);
        if address == "127.0.1.1" && !there && !has(&changed) {
            // Debian's line for the machine's own name.
            let others: Vec<&str> = changed.split_whitespace().skip(1).collect();
            let names = [&own_names(new)[..], &others.join(" ")].join(" ");
            let space = if comment.is_empty() { "" } else { " " };
            changed = format!("127.0.1.1\t{}{space}", names.trim_end());
        }
        there |= has(&changed);
        lines.push(format!("{changed}{comment}"));
    }
    if !there {
        let behind = lines.iter().rposition(|line| line.starts_with("127."));
        let line = format!("127.0.1.1\t{}", own_names(new));
        lines.insert(behind.map_or(0, |at| at + 1), line);
    }
    lines.join("\n") + "\n"
}

/// With a domain, the long name stands first (hosts(5)).
fn own_names(name: &str) -> String {
    if name.contains('.') {
        format!("{name} {}", short(name))
    } else {
        name.to_owned()
    }
}

/// A line with some of its words changed; the space between them, and the first word, stay.
fn words_in(line: &str, change: impl Fn(&str) -> Option<String>) -> String {
    let mut text = String::with_capacity(line.len());
    let (mut rest, mut first) = (line, true);
    while !rest.is_empty() {
        let space = rest.len() - rest.trim_start().len();
        let (between, word) = rest.split_at(space);
        text.push_str(between);
        let end = word.find(char::is_whitespace).unwrap_or(word.len());
        let (word, behind) = word.split_at(end);
        if !word.is_empty() {
            let new = if first { None } else { change(word) };
            text.push_str(new.as_deref().unwrap_or(word));
            first = false;
        }
        rest = behind;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_rfc_1123() {
        for good in [
            "web1",
            "Web-1",
            "a",
            "web1.example.org",
            "1a",
            &"a".repeat(63),
        ] {
            check_hostname(good).unwrap();
        }
        for bad in [
            "",
            "-a",
            "a-",
            "a_b",
            "a b",
            "ä",
            "a..b",
            ".a",
            "a.",
            &"a".repeat(64),
            "{hostname}",
            &["a"; 40].join("."),
        ] {
            let error = check_hostname(bad).unwrap_err().to_string();
            assert!(error.contains("is no host name"), "{bad}: {error}");
        }
    }

    #[test]
    fn the_hosts_file_has_the_new_name() {
        for (before, old, new, after) in [
            (
                "127.0.0.1\tlocalhost\n127.0.1.1\tgolden.example.org  golden # me\n::1 localhost ip6-localhost\n10.0.0.9 golden nas\n",
                Some("golden"),
                "web1",
                "127.0.0.1\tlocalhost\n127.0.1.1\tweb1.example.org  web1 # me\n::1 localhost ip6-localhost\n10.0.0.9 golden nas\n",
            ),
            // Other distributions have it beside localhost.
            (
                "127.0.0.1 localhost golden\n::1 golden localhost\n",
                Some("golden"),
                "web1",
                "127.0.0.1 localhost web1\n::1 web1 localhost\n",
            ),
            // None had it.
            (
                "# hosts\n127.0.0.1 localhost\n::1 localhost\n",
                Some("golden"),
                "web1.lab",
                "# hosts\n127.0.0.1 localhost\n127.0.1.1\tweb1.lab web1\n::1 localhost\n",
            ),
            // Nobody knows what the old name was.
            (
                "127.0.0.1 localhost\n127.0.1.1 debian # x\n",
                None,
                "web1",
                "127.0.0.1 localhost\n127.0.1.1\tweb1 debian # x\n",
            ),
            ("", None, "web1", "127.0.1.1\tweb1\n"),
            // A name that only begins like the old one.
            (
                "127.0.1.1 golden2 golden-x golden\n",
                Some("golden"),
                "w",
                "127.0.1.1 golden2 golden-x w\n",
            ),
        ] {
            assert_eq!(hosts(before, old, new), after, "{before}");
            assert_eq!(
                hosts(after, Some(new), new),
                after,
                "a second time: {after}"
            );
        }
    }

    #[test]
    fn a_domain_stays_unless_the_new_name_has_one() {
        assert_eq!(
            renamed("golden.a.org", "golden", "w"),
            Some("w.a.org".into())
        );
        assert_eq!(
            renamed("golden.a.org", "golden.a.org", "w"),
            Some("w".into())
        );
        assert_eq!(
            renamed("golden.a.org", "golden", "w.b.org"),
            Some("w.b.org".into())
        );
        assert_eq!(
            renamed("golden", "golden.a.org", "w.b.org"),
            Some("w".into())
        );
        assert_eq!(renamed("goldener", "golden", "w"), None);
    }

    proptest! {
        #[test]
        fn any_hosts_file_gets_the_name_once_and_keeps_other_addresses(text in "([0-9a-c.:# \t]{0,12}\n){0,5}") {
            let after = hosts(&text, Some("a"), "web1");
            prop_assert!(after.lines().any(|line| line.split_whitespace().any(|word| word == "web1")));
            prop_assert_eq!(hosts(&after, Some("web1"), "web1"), after.clone());
            for line in text.lines().filter(|line| line.trim_start().starts_with("10.")) {
                prop_assert!(after.lines().any(|other| other == line));
            }
        }
    }
}

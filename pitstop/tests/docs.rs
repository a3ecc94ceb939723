//! The pages in `docs/` against the program: every key, parameter, command and option stands in its page, none stands
//! there that does not exist, and every link leads somewhere. What there is, the program's own answers tell.

mod common;

use common::run;
use pitstop_protocol::job::options::{Kind, Preset};
use pitstop_protocol::job::{ActionName, CommandLine, JobOption, OPTIONS, preview};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use url::Url;

/// Options of actions about trees that stand in the tables of other actions.
const IN_OTHER_TABLES: [&str; 7] = [
    "layout",
    "new-ids",
    "level",
    "recipients",
    "signed",
    "distribute",
    "mirrors",
];
/// Options that every command of a kind has, and the page tells of once.
const EVERYWHERE: [&str; 2] = ["--help", "--root"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page(name: &str) -> String {
    let path = workspace().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part of a page from the heading to the next one of its level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading:?}"));
    let level = heading.split(' ').next().unwrap();
    let body = &page[start + heading.len() + 2..];
    let end = body.find(&format!("\n{level} "));
    &body[..end.unwrap_or(body.len())]
}

/// The first cell of each row whose first cell is code, without what follows the name: of `ip=URL` it is `ip`.
fn rows(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let name = |rest: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        let end = rest.find(|c| !plain(c)).unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    code.map(name).collect()
}

/// What an error says there is, after `there are`.
fn known(error: &str) -> BTreeSet<String> {
    let (_, list) = error
        .rsplit_once("there are ")
        .unwrap_or_else(|| panic!("{error}"));
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_of_a_host_file_is_in_its_page() {
    let url = Url::parse("file:///host.toml").unwrap();
    let error = preview(b"version = 1\nquetzalcoatlus = 1\n", &url, None).unwrap_err();
    let page = page("docs/host-file.md");
    assert_eq!(rows(section(&page, "## Keys")), known(&error));
}

/// The cells of the row about `name`.
fn row<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = text.lines();
    let row = lines.find(|line| {
        let rest = line
            .strip_prefix("| `")
            .and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(['`', ' ', '[']))
    });
    let row = row.unwrap_or_else(|| panic!("no row about {name}"));
    row.trim_matches('|').split(" | ").map(str::trim).collect()
}

#[test]
fn the_tables_of_keys_tell_who_takes_each_and_its_default() {
    let page = page("docs/host-file.md");
    for (heading, action) in [
        ("### Backup", ActionName::Backup),
        ("### Restore", ActionName::Restore),
        ("### Wipe and partition", ActionName::Wipe),
        ("### Wipe and partition", ActionName::Partition),
        ("### Trees", ActionName::Capture),
        ("### Trees", ActionName::Deploy),
        ("### Trees", ActionName::Update),
        ("### Trees", ActionName::Run),
    ] {
        let told = rows(section(&page, heading));
        let some = OPTIONS.iter().filter(|option| option.is_of_some());
        let mine: BTreeSet<String> = some
            .filter(|option| option.is_of(action))
            // Those that are of disk images too stand in their tables.
            .filter(|option| heading != "### Trees" || !IN_OTHER_TABLES.contains(&option.key))
            .map(|option| option.key.to_owned())
            .collect();
        assert!(
            !mine.is_empty() && mine.is_subset(&told),
            "{heading}: {mine:?}"
        );
        for key in told {
            let option = JobOption::find(&key).unwrap();
            assert!(
                option.is_of_some(),
                "{heading} has {key}, which is of every action"
            );
        }
    }
    for option in OPTIONS {
        let cells = row(section(&page, "## Keys"), option.key);
        let told = *cells.last().unwrap();
        let right = match (option.preset, option.kind) {
            (Preset::Value(value), Kind::Switch | Kind::Count) => told == format!("`{value}`"),
            (Preset::Value(value), _) => told == format!("`\"{value}\"`"),
            (Preset::Described(text), _) => told.starts_with(text),
            (Preset::None, _) => told.starts_with("none"),
            (Preset::Required, _) => told.starts_with("required"),
        };
        assert!(right, "{}: {told:?} is not {:?}", option.key, option.preset);
    }
}

#[test]
fn the_table_of_host_set_has_each_option_as_it_is_written() {
    let page = page("docs/pitstop.md");
    let table = section(&page, "## Jobs");
    let named = OPTIONS
        .iter()
        .filter_map(|option| Some((option, option.flag?)));
    for (option, flag) in named {
        let cells = row(table, &format!("--{flag}"));
        let placeholder = option.kind.placeholder();
        let usage = match option.kind {
            Kind::Switch => format!("`--{flag}`"),
            Kind::SwitchOrWord(_) => format!("`--{flag}[={placeholder}]`"),
            _ => format!("`--{flag} {placeholder}`"),
        };
        assert_eq!(cells[0], usage);
        assert!(
            cells[2].starts_with(&format!("`{}`", option.key)),
            "{cells:?}"
        );
        if let Kind::Words(_, choices) | Kind::SwitchOrWord(choices) = option.kind
            && !cells[2].ends_with("the same")
        {
            let words = choices()
                .into_iter()
                .map(|choice| format!("`{}`", choice.word));
            let words = words.collect::<Vec<_>>().join(", ");
            assert!(cells[2].contains(&words), "{cells:?}");
        }
        assert_eq!(
            option.kind.is_list(),
            cells[2].contains("may be repeated"),
            "{cells:?}"
        );
    }
}

#[test]
fn every_parameter_is_in_the_page_about_booting() {
    let error = CommandLine::parse("pitstop.quetzalcoatlus").unwrap_err();
    let page = page("docs/boot.md");
    let told = rows(section(&page, "## Kernel parameters"));
    let ours = told.into_iter().filter(|name| name.starts_with("pitstop."));
    assert_eq!(ours.collect::<BTreeSet<_>>(), known(&error.to_string()));
}

fn help(command: &[&str]) -> String {
    let output = run(&[command, &["--help"]].concat());
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names below a heading of a help: each at the beginning of its line, which deeper lines explain.
fn listed<'a>(help: &'a str, heading: &str) -> impl Iterator<Item = &'a str> {
    let below = help.split_once(&format!("\n{heading}:\n"));
    let lines = below.map_or("", |(_, below)| below).lines();
    lines
        .take_while(|line| line.is_empty() || line.starts_with(' '))
        .filter(|line| line.len() - line.trim_start().len() <= 6)
        // Of `-o, --output` the long name.
        .filter_map(|line| line.split_whitespace().find(|word| !word.ends_with(',')))
}

/// Each command that does something, by its words.
fn commands() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(command) = open.pop() {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let help = help(&words);
        let inner: Vec<&str> = listed(&help, "Commands")
            .filter(|name| *name != "help")
            .collect();
        if inner.is_empty() {
            found.push(command.clone());
        }
        open.extend(inner.iter().map(|name| {
            let mut inner = command.clone();
            inner.push((*name).to_owned());
            inner
        }));
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

fn options(command: &[String]) -> BTreeSet<String> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let help = help(&words);
    listed(&help, "Options")
        .map(|word| word.split(['[', '=']).next().unwrap_or(word).to_owned())
        .filter(|name| !EVERYWHERE.contains(&name.as_str()))
        .collect()
}

#[test]
fn every_command_and_option_is_in_the_manual() {
    let page = page("docs/pitstop.md");
    let list = page
        .split_once(" All of them:\n\n")
        .map_or("", |(_, list)| list);
    let list: Vec<&str> = list.lines().take_while(|line| !line.is_empty()).collect();
    for command in commands() {
        let name = command.join(" ");
        let synopses = list.iter().filter(|line| {
            line.strip_prefix("    pitstop ")
                .and_then(|line| line.strip_prefix(name.as_str()))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        });
        assert_eq!(synopses.count(), 1, "synopses of {name}");
        for option in options(&command) {
            let told = ["`", "[", " "].iter().any(|before| {
                let start = format!("{before}{option}");
                page.match_indices(&start).any(|(at, _)| {
                    let next = page[at + start.len()..].chars().next();
                    next.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-')
                })
            });
            assert!(told, "pitstop {name} has {option}, and the page does not");
        }
    }
}

#[test]
fn the_table_of_host_set_has_each_option_and_no_other() {
    let page = page("docs/pitstop.md");
    let command = ["host", "set"].map(str::to_owned);
    assert_eq!(rows(section(&page, "## Jobs")), options(&command));
}

/// As GitHub makes an anchor of a heading.
fn anchor(heading: &str) -> String {
    let lower = heading.trim().to_lowercase();
    let kept = lower
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A page without the code in fences.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Where all pages are.
fn pages() -> Vec<PathBuf> {
    let top = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ];
    let mut pages: Vec<PathBuf> = top.map(|name| workspace().join(name)).to_vec();
    let docs = fs::read_dir(workspace().join("docs")).unwrap();
    pages.extend(docs.map(|entry| entry.unwrap().path()));
    pages.retain(|path| path.extension().is_some_and(|end| end == "md"));
    pages
}

/// As it would where two branches added the same and were merged.
#[test]
fn no_row_and_no_item_stands_twice_in_a_page() {
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        let mut seen = BTreeSet::new();
        let next = text.lines().skip(1).chain([""]);
        for (line, next) in text.lines().zip(next) {
            let is_short = line.len() <= 60 || next.starts_with("|---");
            let may_repeat = is_short || !(line.starts_with("| ") || line.starts_with("- "));
            assert!(
                may_repeat || seen.insert(line),
                "{}: {line}",
                path.display()
            );
        }
    }
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let pages = pages();
    let mut wrong = Vec::new();
    for path in &pages {
        let text = prose(&fs::read_to_string(path).unwrap());
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            let there = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let found = there.exists()
                && (place.is_empty()
                    || prose(&fs::read_to_string(&there).unwrap())
                        .lines()
                        .filter(|line| line.starts_with('#'))
                        .map(|line| line.trim_start_matches('#'))
                        .any(|heading| anchor(heading) == place));
            if !found {
                wrong.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// What is called so in a file: functions, and the file itself.
fn names_in(path: &Path, known: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            names_in(&entry.unwrap().path(), known);
        }
    } else if path.extension().is_some_and(|end| end == "rs") {
        let stem = path.file_stem().unwrap_or_default();
        known.insert(stem.to_string_lossy().into_owned());
        let text = fs::read_to_string(path).unwrap();
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        for after in text.split("fn ").skip(1) {
            let end = after.find(|c: char| !is_part(c)).unwrap_or(after.len());
            known.insert(after[..end].to_owned());
        }
    }
}

#[test]
fn every_test_that_the_promises_name_is_there() {
    let mut known = BTreeSet::new();
    for entry in fs::read_dir(workspace()).unwrap() {
        let package = entry.unwrap().path();
        for folder in ["src", "tests"].map(|name| package.join(name)) {
            if package.join("Cargo.toml").exists() && folder.exists() {
                names_in(&folder, &mut known);
            }
        }
    }
    let page = page("docs/promises.md");
    let mut seen = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let tests = row.trim_end_matches([' ', '|']).rsplit(" | ").next();
        for code in tests.unwrap_or_default().split('`').skip(1).step_by(2) {
            let name = code.rsplit("::").next().unwrap_or(code);
            // Names of packages have no `_`; what was cut short has more than letters.
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.contains('_') && name.chars().all(is_name) {
                assert!(known.contains(name), "{name}: {row}");
                seen += 1;
            }
        }
    }
    assert!(seen > 500, "only {seen} tests were found in the page");
}

//! What `host set` writes, read back as the machine reads it.

use super::*;
use clap::{Args as _, Command, FromArgMatches};
use pitstop_protocol::job::options::{Kind, OPTIONS};
use pitstop_protocol::job::preview;
use pitstop_protocol::job::{ActionName, Job};
use pitstop_server::set::{Target, host_file};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::string::string_regex;
use std::fmt::Write as _;
use std::path::Path;
use toml::Value;

/// A value of an option: as a host file has it, and as words of the command line.
type Given = (&'static str, Value, Vec<String>);

fn text_of(key: &'static str) -> BoxedStrategy<String> {
    match key {
        "share" => {
            "(http://[a-z]{1,8}(:8080)?/share|nfs://10\\.0\\.2\\.2/export\\?vers=4\\.1)".boxed()
        }
        "image" => "[a-z]{1,8}(/\\{mac\\})?".boxed(),
        "tree" => "[a-z]{1,8}(@[0-9]{1,4})?".boxed(),
        "luks-key" => "[a-z]{1,8}\\.key\\.age".boxed(),
        "secrets" => "secrets/[a-z]{1,8}\\.env\\.age".boxed(),
        "hostname" => "[a-z]{1,8}(-\\{mac\\})?".boxed(),
        _ => "[a-z]{1,8}\\.toml".boxed(),
    }
}

/// One entry as the command line has it, and as the host file does.
fn entry(option: &'static JobOption) -> BoxedStrategy<(String, Value)> {
    let plain = |text: String| {
        let value = Value::String(text.clone());
        (text, value)
    };
    match option.kind {
        Kind::Switch => Just((String::new(), true.into())).boxed(),
        Kind::Words(_, choices) => {
            let words: Vec<&str> = choices().iter().map(|choice| choice.word).collect();
            select(words)
                .prop_map(move |word| plain(word.into()))
                .boxed()
        }
        Kind::SwitchOrWord(choices) => {
            let words: Vec<&str> = choices().iter().map(|choice| choice.word).collect();
            let value = |word: &str| match word.parse::<bool>() {
                Ok(on) => on.into(),
                Err(_) => word.into(),
            };
            select(words)
                .prop_map(move |word| (word.to_owned(), value(word)))
                .boxed()
        }
        Kind::Count => (1u32..1000)
            .prop_map(|count| (count.to_string(), i64::from(count).into()))
            .boxed(),
        Kind::Time => "[1-9][0-9][sm]".prop_map(plain).boxed(),
        Kind::Rate => "[1-9][0-9]{0,2}MiB/s".prop_map(plain).boxed(),
        Kind::Text(_) => text_of(option.key).prop_map(plain).boxed(),
        Kind::Urls => "http://[a-z]{1,8}/hosts/[A-F0-9]{8}\\.toml"
            .prop_map(plain)
            .boxed(),
        Kind::Disks => prop_oneof![
            "[a-z]{3}".prop_map(plain),
            "[A-Z0-9=\" ]{1,12}[A-Z]".prop_map(|serial| {
                let mut table = toml::Table::new();
                table.insert("serial".into(), serial.clone().into());
                (format!("serial={serial}"), table.into())
            })
        ]
        .boxed(),
        Kind::Partitions => prop_oneof![
            (1u32..128).prop_map(|n| (n.to_string(), i64::from(n).into())),
            "[a-z][a-z \"\\\\é]{0,8}[a-z]".prop_map(plain)
        ]
        .boxed(),
        Kind::Patterns => "/[a-z]{1,8}/\\*".prop_map(plain).boxed(),
        Kind::Paths(_) => {
            let path = format!("{}/[a-z]{{1,8}}", option.key.replace("overrides", "layers"));
            string_regex(&path).unwrap().prop_map(plain).boxed()
        }
        Kind::Keys => Just(plain(
            "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p".into(),
        ))
        .boxed(),
        Kind::Action | Kind::Secret | Kind::Table(_) => unreachable!("a command line has none"),
    }
}

fn given(option: &'static JobOption, flag: &'static str) -> BoxedStrategy<Given> {
    let key = option.key;
    let word = move |text: &str| match option.kind {
        Kind::Switch => format!("--{flag}"),
        _ => format!("--{flag}={text}"),
    };
    if option.kind.is_list() {
        return prop::collection::vec(entry(option), 1..3)
            .prop_map(move |entries| {
                let words = entries.iter().map(|(text, _)| word(text)).collect();
                let values: Vec<Value> = entries.into_iter().map(|(_, value)| value).collect();
                (key, values.into(), words)
            })
            .boxed();
    }
    entry(option)
        .prop_map(move |(text, value)| (key, value, vec![word(&text)]))
        .boxed()
}

/// An action, and any options that it takes.
fn any_job() -> impl Strategy<Value = (ActionName, Vec<Given>)> {
    select(ActionName::ALL.to_vec()).prop_flat_map(|action| {
        let options = OPTIONS.iter().filter(move |option| option.is_of(action));
        let options = options.filter_map(|option| Some((option, option.flag?)));
        let each: Vec<_> = options
            .map(|(option, flag)| {
                // A wipe without a method is none, nor is anything without its tree.
                let always =
                    action == ActionName::Wipe && option.key == "method" || option.key == "tree";
                let given = given(option, flag);
                if always {
                    given.prop_map(Some).boxed()
                } else {
                    prop::option::weighted(0.4, given).boxed()
                }
            })
            .collect();
        each.prop_map(move |given| (action, without_contradictions(given)))
    })
}

fn without_contradictions(given: Vec<Option<Given>>) -> Vec<Given> {
    let given: Vec<Given> = given.into_iter().flatten().collect();
    let keys: Vec<&str> = given.iter().map(|(key, _, _)| *key).collect();
    // Other machines keep no limit.
    let limited = keys.contains(&"rate-limit");
    let excluded = |key: &str| {
        let option = JobOption::find(key);
        option.is_some_and(|option| option.excludes.iter().any(|other| keys.contains(other)))
    };
    // What goes with a signed tree has to be signed as well, by a digest that nobody has here.
    let unsigned = ["layout", "luks-key", "hooks", "secrets", "overrides"];
    let unsigned = unsigned.iter().any(|key| keys.contains(key));
    let kept = given.iter().filter(|(key, value, _)| {
        let of_others = limited && *key == "distribute" && value.as_str() == Some("swarm");
        !(of_others || unsigned && *key == "signed" || excluded(key))
    });
    kept.cloned().collect()
}

/// The host file that the command line makes.
fn written(words: &[String]) -> String {
    let command = Args::augment_args(Command::new("set")).no_binary_name(true);
    let matches = command.try_get_matches_from(words).unwrap();
    let args = Args::from_arg_matches(&matches).unwrap();
    let target = Target::alone("10.0.2.15".parse().unwrap());
    let server = Some("http://10.0.2.2:8080");
    let file = target.machine.file();
    host_file(Path::new("/"), &args.wish(), &target, &file, server).unwrap()
}

fn read(text: &str) -> Job {
    let url = "http://10.0.2.2:8080/hosts/0A00020F.toml".parse().unwrap();
    preview(text.as_bytes(), &url, "10.0.2.15".parse().ok())
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

proptest! {
    #[test]
    fn what_is_set_is_the_job_that_the_machine_reads((action, given) in any_job()) {
        let mut words = vec!["10.0.2.15".to_owned(), action.to_string()];
        let mut by_hand = format!("version = 1\naction = \"{action}\"\n");
        let mut keys = Vec::new();
        for (key, value, flags) in given {
            words.extend(flags);
            writeln!(by_hand, "{key} = {value}").unwrap();
            keys.push(key);
        }
        if !keys.contains(&"share") {
            by_hand.push_str("share = \"http://10.0.2.2:8080/share\"\n");
        }
        if action == ActionName::Partition && !keys.contains(&"layout") {
            by_hand.push_str("layout = \"layout.toml\"\n");
        }
        prop_assert_eq!(read(&written(&words)), read(&by_hand));
    }
}

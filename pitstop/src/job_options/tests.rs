use super::*;

struct Every;

impl Which for Every {
    fn has(_option: &JobOption) -> bool {
        true
    }
}

fn given(line: &[&str]) -> Result<JobOptions<Every>, String> {
    let command = JobOptions::<Every>::augment_args(Command::new("set")).no_binary_name(true);
    let matches = command
        .try_get_matches_from(line)
        .map_err(|error| error.to_string())?;
    JobOptions::from_arg_matches(&matches).map_err(|error| error.to_string())
}

fn value(line: &[&str], key: &str) -> Value {
    given(line).unwrap().get(key).unwrap().clone()
}

#[test]
fn both_spellings_of_a_delta_mean_the_same() {
    let yes = Value::Boolean(true);
    let no = Value::Boolean(false);
    for (line, meant) in [
        ("--delta", &yes),
        ("--delta=true", &yes),
        ("--delta=on", &yes),
        ("--delta=false", &no),
        ("--delta=off", &no),
        ("--delta=auto", &"auto".into()),
    ] {
        assert_eq!(value(&[line], "delta"), *meant, "{line}");
    }
    assert!(given(&["--delta=maybe"]).is_err());
    assert_eq!(value(&["--level", "auto"], "level"), "auto".into());
}

#[test]
fn values_are_as_a_host_file_has_them() {
    assert_eq!(value(&["--attempts", "7"], "attempts"), 7.into());
    assert_eq!(value(&["--exact"], "exact"), true.into());
    let kept = value(&["--keep", "3", "--keep", "home"], "keep");
    assert_eq!(kept, vec![Value::from(3), "home".into()].into());
    let disks = value(&["--disk", "sda", "--disk", "serial=A=B"], "disks");
    let serial = Table::from_iter([("serial".to_owned(), "A=B".into())]);
    assert_eq!(disks, vec![Value::from("sda"), serial.into()].into());
    assert!(given(&[]).unwrap().given.is_empty());
}

#[test]
fn a_value_that_no_machine_takes_is_refused_with_its_option() {
    for (line, why) in [
        (
            &["--attempts", "0"][..],
            "--attempts <N>': it must be 1 or more",
        ),
        (&["--failure-delay", "soon"], "--failure-delay <TIME>"),
        (
            &["--on-success", "sleep"],
            "possible values: reboot, poweroff, rescue",
        ),
        (&["--keep", "0"], "partitions count from 1"),
        (&["--disk", "uuid=1"], "uuid"),
        (&["--keep", "1", "--partition", "2"], "cannot be used with"),
        (&["--new-ids", "--keep", "1"], "cannot be used with"),
        (&["--partition", "1", "--grow"], "cannot be used with"),
    ] {
        let error = given(line).err().unwrap();
        assert!(error.contains(why), "{line:?}: {error}");
    }
}

#[test]
fn the_help_tells_every_option_with_its_default() {
    let mut command = JobOptions::<Every>::augment_args(Command::new("set"));
    let help = command.render_help().to_string();
    for (option, flag) in options::<Every>() {
        assert!(help.contains(&format!("--{flag}")), "{flag}: {help}");
        let told = matches!(option.kind, Kind::Switch);
        if let (Preset::Value(text), false) = (option.preset, told) {
            assert!(
                help.contains(&format!("[default: {text}]")),
                "{flag}: {help}"
            );
        }
    }
    assert!(!help.contains("--token") && !help.contains("--password"));
}

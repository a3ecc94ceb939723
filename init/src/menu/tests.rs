use super::*;
use pitstop_protocol::job::ActionName;

fn entry(title: &str, action: ActionName) -> Entry {
    Entry {
        path: format!("/run/data/jobs/{title}.toml").into(),
        title: title.into(),
        what: What::Job {
            action,
            image: None,
        },
    }
}

fn offer(own: Option<Entry>, through: Option<&str>) -> Offer {
    Offer {
        own,
        through: through.map(|at| Through {
            at: at.to_owned(),
            is_sure: true,
        }),
        names: vec!["01-52-54-00-12-34-56".into(), "default".into()],
        jobs: vec![
            entry("look", ActionName::RefreshInfo),
            entry("wipe all", ActionName::Wipe),
        ],
    }
}

fn start(entry: &Entry, again: bool) -> Answer {
    Answer::Start(Choice::Job {
        entry: entry.clone(),
        again,
    })
}

#[test]
fn a_job_that_loses_data_is_started_by_two_different_keys() {
    let offer = offer(None, None);
    let mut asking = Asking::new(&offer);
    assert_eq!(
        asking.default(),
        None,
        "an unknown machine does nothing by itself"
    );
    assert_eq!(asking.press('1'), start(&offer.jobs[0], false));
    for typed in ["22", "2x", "2 y", "2\0y", "y", "Z"] {
        for key in typed.chars() {
            assert!(matches!(asking.press(key), Answer::Say(_)), "{typed}");
        }
        assert!(matches!(asking.press('x'), Answer::Say(_)));
    }
    assert!(matches!(asking.press('2'), Answer::Say(text) if text.contains("press y to start")));
    assert_eq!(asking.press('y'), start(&offer.jobs[1], false));
    assert!(matches!(
        asking.press('n'),
        Answer::Start(Choice::Nothing(_))
    ));
}

#[test]
fn the_machines_own_job_is_the_default_until_it_is_done() {
    let own = entry("default", ActionName::Restore);
    let fresh = offer(Some(own.clone()), None);
    let mut asking = Asking::new(&fresh);
    assert_eq!(
        asking.default().map(Answer::Start),
        Some(start(&own, false))
    );
    assert_eq!(asking.press('o'), start(&own, false));

    let done = offer(Some(own.clone()), Some("noon"));
    let mut asking = Asking::new(&done);
    assert_eq!(asking.default(), None);
    assert!(
        asking
            .lines()
            .iter()
            .any(|line| line.contains("at noon: take the stick out"))
    );
    assert!(matches!(asking.press('o'), Answer::Say(_)));
    assert_eq!(asking.press('y'), start(&own, true));

    let mut doubtful = done;
    doubtful.through = Some(Through {
        at: "noon".into(),
        is_sure: false,
    });
    let asking = Asking::new(&doubtful);
    assert_eq!(asking.default(), None);
    assert!(
        asking
            .lines()
            .iter()
            .any(|line| line.contains("or another one with its UUID"))
    );
}

#[test]
fn without_a_menu_the_job_begins_at_once_and_without_a_job_nothing_does() {
    let own = entry("default", ActionName::Restore);
    let boot = pitstop_protocol::boot_parameters::BootParameters {
        consoles: vec!["no-such-console".into()],
        ..Default::default()
    };
    let consoles = Consoles::open(&boot);
    let chosen = choose(
        &offer(Some(own.clone()), None),
        Menu::Never,
        &consoles,
        &|| {},
    );
    assert_eq!(Answer::Start(chosen), start(&own, false));
    let short = Menu::For(Duration::from_millis(1));
    let chosen = choose(&offer(Some(own.clone()), None), short, &consoles, &|| {});
    assert_eq!(Answer::Start(chosen), start(&own, false));
    let nothing = Offer {
        jobs: Vec::new(),
        ..offer(None, None)
    };
    let Choice::Nothing(why) = choose(&nothing, Menu::Never, &consoles, &|| {}) else {
        panic!("nothing is to be done");
    };
    assert!(
        why.contains("none of 01-52-54-00-12-34-56, default"),
        "{why}"
    );
}

#[test]
fn every_job_has_a_key_and_the_menu_says_what_has_none() {
    let mut offer = offer(None, None);
    offer.jobs = (0..40)
        .map(|n| entry(&n.to_string(), ActionName::Backup))
        .collect();
    let lines = Asking::new(&offer).lines();
    assert!(lines.contains(&"  and 8 more that no key is left for".to_owned()));
    for taken in [OWN, NOTHING, YES] {
        assert!(!KEYS.contains(taken));
    }
}

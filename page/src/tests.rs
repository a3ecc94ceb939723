//! What holds for every page: texts are escaped, nothing is inline, nothing comes from elsewhere, buttons are by role.

use crate::machine::Log;
use crate::samples::{self, HOSTILE};
use crate::{
    Frame, Note, Stream, Tab, Topic, Viewer, browse, fleet, images, inventory, machine, machines,
    page, people, plain, queue, runs,
};
use maud::Markup;
use pitstop_api::{
    FleetMachine, FleetView, ImageDetail, Machine, MachineState, RunState, Setting, Wrong,
};
use std::collections::BTreeMap;

const STATES: [MachineState; 9] = [
    MachineState::Failed,
    MachineState::Silent,
    MachineState::Running,
    MachineState::Queued,
    MachineState::Waiting,
    MachineState::Scheduled,
    MachineState::New,
    MachineState::Done,
    MachineState::Idle,
];

fn framed(content: &Markup, viewer: &Viewer) -> String {
    let note = Note::Failed(HOSTILE.into());
    let frame = Frame {
        title: HOSTILE,
        tab: Tab::Machines,
        viewer,
        note: Some(&note),
        stream: Some(Stream {
            topic: Topic::Machine(HOSTILE.into()),
            last: HOSTILE.into(),
        }),
    };
    page(&frame, content).into_string()
}

fn fleet_view(name: &str) -> (FleetView, FleetMachine) {
    let setting = Setting {
        value: name.into(),
        layer: name.into(),
        line: 3,
    };
    let one = FleetMachine {
        name: name.into(),
        mac: vec![name.into()],
        ip: Some(name.into()),
        uuid: None,
        serial: None,
        groups: vec![name.into()],
        network: Some(name.into()),
        line: 3,
        settings: Some(BTreeMap::from([(name.to_owned(), setting)])),
    };
    let view = FleetView {
        file: name.into(),
        wrong: Some(Wrong {
            why: name.into(),
            meanwhile: name.into(),
        }),
        machines: vec![one.clone()],
        groups: Vec::new(),
        networks: Vec::new(),
    };
    (view, one)
}

/// Every page, of things that are called `name`.
fn all(name: &str, viewer: &Viewer) -> Vec<String> {
    let fleet_of = fleet_view(name);
    let log = Log {
        run: "20261128-213000-a1b2c3".into(),
        text: name.into(),
        grows: true,
    };
    let some: Vec<Machine> = STATES.map(|state| samples::machine(name, state)).into();
    let asked = machines::Asked {
        words: name,
        wrong: fleet_of.0.wrong.as_ref(),
    };
    let image = ImageDetail {
        image: samples::image(name),
        disk: Some(samples::disk(name)),
    };
    let found = samples::found(name);
    let row = inventory::Row {
        row: &found.machines[0],
        page: Some(name),
    };
    let mut pages = vec![
        machines::content(&some, &asked),
        images::list(&[samples::image(name)], viewer),
        images::one(&image, viewer),
        queue::content(&samples::queue(name), &samples::schedule(name), viewer),
        fleet::content(&fleet_of.0, Some(&fleet_of.1)),
        runs::list(&[samples::run(name, RunState::Failed)]),
        runs::one(&samples::run(name, RunState::Running), &log),
        plain::refused(name, name),
        browse::volumes(&samples::volumes(name)),
        browse::folder(&samples::folder(name), viewer.operates),
        inventory::content(
            Some((&found, &[row])),
            inventory::Asked {
                words: name,
                wrong: Some(name),
            },
        ),
    ];
    // Who only looks never gets there.
    if viewer.operates {
        let (user, token) = (samples::user(name), samples::token(name));
        pages.push(people::content(&[user], &[token], None, viewer));
    }
    pages.extend(
        STATES.map(|state| machine::content(&samples::detail(name, state), Some(&log), viewer)),
    );
    pages
        .iter()
        .map(|content| framed(content, viewer))
        .collect()
}

#[test]
fn a_name_that_wants_to_be_markup_is_text_on_every_page() {
    for page in all(HOSTILE, &samples::operator()) {
        assert!(!page.contains("<script>"), "{page}");
        assert!(!page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;"), "{page}");
        // Nor does it end an attribute.
        assert!(!page.contains("\"'&"), "{page}");
    }
}

#[test]
fn no_page_has_what_the_content_policy_forbids() {
    for page in all("lab3-01", &samples::operator()) {
        for inline in [
            " style=",
            " onclick=",
            " onload=",
            "<style",
            "javascript:",
            "http://",
            "https://",
        ] {
            assert!(!page.contains(inline), "{inline} in {page}");
        }
        // The one script is a file.
        assert_eq!(page.matches("<script").count(), 1, "{page}");
    }
}

#[test]
fn who_only_looks_has_no_button_that_changes_anything() {
    let viewer = Viewer::default();
    for page in all("lab3-01", &viewer) {
        assert!(!page.contains("method=\"post\""), "{page}");
        assert!(!page.contains("draggable"), "{page}");
    }
    let operator = all("lab3-01", &samples::operator());
    let forms: usize = operator
        .iter()
        .map(|page| page.matches("method=\"post\"").count())
        .sum();
    let tokens: usize = operator
        .iter()
        .map(|page| page.matches("value=\"csrf-of-kim\"").count())
        .sum();
    assert!(forms > 50, "{forms}");
    assert_eq!(forms, tokens, "a form without the token");
}

#[test]
fn what_failed_comes_first_and_a_row_that_does_not_fit_is_hidden() {
    let some = [
        samples::machine("fine", MachineState::Done),
        samples::machine("busy", MachineState::Running),
        samples::machine("broken", MachineState::Failed),
    ];
    let shown = |words| {
        let asked = machines::Asked { words, wrong: None };
        machines::content(&some, &asked).into_string()
    };
    let page = shown("");
    let at = |name: &str| page.find(&format!("id=\"m-{name}\"")).unwrap();
    assert!(at("broken") < at("busy") && at("busy") < at("fine"));
    assert!(page.contains("the image of broken is truncated"), "{page}");
    let page = shown("BUSY work");
    let rows: Vec<bool> = page
        .split("<tr id=")
        .skip(1)
        .map(|row| row.split('>').next().unwrap().contains(" hidden"))
        .collect();
    assert_eq!(rows, [true, false, true]);
}

#[test]
fn what_will_be_lost_is_told_by_model_and_serial_and_the_name_is_asked_for() {
    let mut detail = samples::detail("lab3-01", MachineState::Idle);
    detail.disks[0].model = "EVO 860".into();
    detail.disks[0].serial = "S3Z9NB0K".into();
    let page = machine::content(&detail, None, &samples::operator()).into_string();
    for act in ["restore", "wipe"] {
        let form = page
            .split("<form")
            .find(|form| form.contains(&format!("value=\"{act}\"")))
            .unwrap();
        assert!(form.contains("EVO 860, serial S3Z9NB0K"), "{form}");
        assert!(
            form.contains("data-must=\"lab3-01\"") && form.contains("required"),
            "{form}"
        );
    }
}

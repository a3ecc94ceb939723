use crate::machine::Log;
use crate::samples;
use crate::*;
use pitstop_api::*;
#[test]
fn preview() {
    let dir = std::path::Path::new("/tmp/scratch-page/html");
    std::fs::create_dir_all(dir.join("static")).unwrap();
    for a in [&assets::STYLE, &assets::SCRIPT, &assets::ICON] {
        std::fs::write(dir.join("static").join(a.file()), a.text).unwrap();
    }
    let v = samples::operator();
    let put = |name: &str, tab, content: maud::Markup, note: Option<&Note>| {
        let f = Frame {
            title: name,
            tab,
            viewer: &v,
            note,
            stream: Some(Stream {
                topic: Topic::Machines,
                last: "x-1".into(),
            }),
        };
        let html = page(&f, &content)
            .into_string()
            .replace("\"/static/", "\"static/");
        std::fs::write(dir.join(format!("{name}.html")), html).unwrap();
    };
    let states = [
        MachineState::Done,
        MachineState::Running,
        MachineState::Idle,
        MachineState::Queued,
        MachineState::Done,
        MachineState::Running,
        MachineState::Waiting,
        MachineState::Failed,
        MachineState::Idle,
        MachineState::Done,
        MachineState::Scheduled,
        MachineState::Done,
        MachineState::Done,
        MachineState::New,
        MachineState::Done,
        MachineState::Done,
        MachineState::Silent,
        MachineState::Done,
    ];
    let mut ms = vec![];
    for (i, s) in states.iter().enumerate() {
        let name = format!("lab3-{:02}", i + 1);
        let mut m = samples::machine(&name, *s);
        m.addresses = vec![format!("192.168.1.{}", 101 + i).parse().unwrap()];
        m.groups = vec!["lab3".into()];
        m.last.as_mut().unwrap().action = "restore".into();
        m.last.as_mut().unwrap().reason = String::new();
        if matches!(s, MachineState::Failed) {
            m.last.as_mut().unwrap().reason = "reading golden-lab3/sda.raw.gz: chunk 1184 is not what the index says; the disk stays unbootable".into();
        } else {
            m.last.as_mut().unwrap().state = RunState::Ok;
        }
        if let Some(p) = &mut m.progress {
            p.percent = Some((i * 17 % 100) as u8);
        }
        if matches!(s, MachineState::Idle) {
            m.last = None;
        }
        ms.push(m);
    }
    put(
        "machines",
        Tab::Machines,
        machines::content(&ms, &machines::Asked::default()),
        None,
    );
    let log = Log { run: "20261128-213000-a1b2c3".into(), text: "2026-11-28T21:30:00Z reading the host file\n2026-11-28T21:30:01Z warning: /dev/sda: 1.2 GiB of 4.0 GiB in use\n".repeat(9), grows: true };
    let mut d = samples::detail("lab3-02", MachineState::Running);
    d.disks[0].model = "Samsung SSD 860 EVO 250GB".into();
    d.disks[0].serial = "S3Z9NB0K".into();
    for (p, l) in d.disks[0]
        .partitions
        .iter_mut()
        .zip(["EFI", "Windows", "home", ""])
    {
        p.label = l.into();
        p.name = l.into();
        p.kind = if l == "EFI" {
            "EFI system (c12a7328)".into()
        } else {
            "Linux filesystem (0fc6)".into()
        };
    }
    d.facts = vec![
        Fact {
            key: "cpu".into(),
            value: "Intel Core i5-8500, 6 cores".into(),
        },
        Fact {
            key: "ram".into(),
            value: "16 GiB".into(),
        },
    ];
    d.runs[0].action = "restore".into();
    d.runs[0].reason = "the share is full".into();
    d.machine.groups = vec!["lab3".into()];
    put(
        "machine",
        Tab::Machines,
        machine::content(&d, Some(&log), &v),
        Some(&Note::Done("The job is set: backup of lab3-02.".into())),
    );
    let mut i2 = samples::image("192.168.1.102");
    i2.model = "QEMU HARDDISK".into();
    i2.serial = "QM00001".into();
    i2.wrong = None;
    i2.verified = None;
    i2.used_by[0].machine = "lab3-02".into();
    let mut i3 = i2.clone();
    i3.path = "golden-lab3/sda.raw.gz".into();
    i3.verified = samples::image("").verified;
    i3.verified.as_mut().unwrap().state = VerifyState::Ok;
    put(
        "images",
        Tab::Images,
        images::list(&[i2.clone(), i3], &v),
        None,
    );
    put(
        "image",
        Tab::Images,
        images::one(
            &ImageDetail {
                image: i2,
                disk: Some(d.disks[0].clone()),
            },
            &v,
        ),
        None,
    );
    put(
        "queue",
        Tab::Queue,
        queue::content(
            &samples::queue("lab3-07"),
            &samples::schedule("lab3-09"),
            &v,
        ),
        None,
    );
    put("runs", Tab::Runs, runs::list(&[d.runs[0].clone()]), None);
    put("run", Tab::Runs, runs::one(&d.runs[0], &log), None);
}

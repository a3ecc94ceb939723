//! Runs the hardware matrix and writes what came out into `docs/hardware-matrix.md`. With numbers of rows as
//! arguments it runs these alone and puts their results into the table that is there.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use qemu_tests::matrix::{Facts, Outcome, ROWS, document};
use qemu_tests::paths::{self, Payload};
use qemu_tests::tools;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

fn main() -> Result<()> {
    let numbers = numbers()?;
    let facts = facts(&numbers)?;
    let outcomes = run(&numbers);
    let failed = outcomes
        .values()
        .filter(|outcome| outcome.failure.is_some())
        .count();
    let path = paths::workspace().join("docs/hardware-matrix.md");
    let old = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    fs::write(&path, document(&old, &outcomes, &facts))
        .with_context(|| format!("writing {}", path.display()))?;
    println!("{} is written", path.display());
    println!(
        "{} passed, {failed} failed, 0 skipped",
        outcomes.len() - failed
    );
    ensure!(
        failed == 0,
        "{failed} of {} machines failed",
        outcomes.len()
    );
    Ok(())
}

/// The rows that are asked for, from 1; without any, all.
fn numbers() -> Result<Vec<usize>> {
    let chosen: Vec<usize> = std::env::args()
        .skip(1)
        .map(|number| {
            number
                .parse()
                .with_context(|| format!("{number}: not a row's number"))
        })
        .collect::<Result<_>>()?;
    let all = 1..=ROWS.len();
    ensure!(
        chosen.iter().all(|number| all.contains(number)),
        "rows are numbered from 1 to {}",
        ROWS.len()
    );
    Ok(if chosen.is_empty() {
        all.collect()
    } else {
        chosen
    })
}

fn facts(numbers: &[usize]) -> Result<Facts> {
    let qemu = tools::run("qemu-system-x86_64", ["--version"])?;
    let mut payloads: Vec<(Payload, String)> = Vec::new();
    for payload in numbers.iter().map(|number| ROWS[number - 1].payload) {
        if payloads.iter().any(|(known, _)| *known == payload) {
            continue;
        }
        let size = |name| Ok::<_, anyhow::Error>(fs::metadata(payload.file(name)?)?.len());
        let sizes = format!(
            "vmlinuz of {} bytes, initramfs of {} bytes.",
            size("vmlinuz")?,
            size("initramfs.img")?
        );
        payloads.push((payload, sizes));
    }
    Ok(Facts {
        qemu: qemu.lines().next().unwrap_or_default().to_owned(),
        payloads,
    })
}

/// Two machines at a time: they are emulated, and there may be just two cores.
fn run(numbers: &[usize]) -> BTreeMap<usize, Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(number) = numbers.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let outcome = outcome(*number);
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.insert(*number, outcome);
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_default()
}

fn outcome(number: usize) -> Outcome {
    let row = ROWS[number - 1];
    let begun = Instant::now();
    let result = row.run(&format!("matrix-{number}"));
    let failure = result.err().map(|error| first_line(&format!("{error:#}")));
    println!("{number} {row:?}: {}", failure.as_deref().unwrap_or("pass"));
    Outcome {
        seconds: begun.elapsed().as_secs(),
        failure,
        when: Timestamp::now().strftime("%Y-%m-%d %H:%M").to_string(),
    }
}

/// What a test keeps in its own folder tells a reader nothing.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.split("; it is in ").next().unwrap_or(line).to_owned()
}

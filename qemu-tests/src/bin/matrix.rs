//! Runs the hardware matrix and writes what came out into `docs/hardware-matrix.md`. With numbers of rows as
//! arguments it runs these alone and puts their results into the table that is there.

use anyhow::{Context, Result, ensure};
use qemu_tests::matrix::{Firmware, Loader, ROWS};
use qemu_tests::{paths, tools};
use std::fmt::Write;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// What became of a row: seconds, and the reason when it failed.
type Outcome = (u64, Option<String>);

fn main() -> Result<()> {
    let chosen: Vec<usize> = std::env::args()
        .skip(1)
        .map(|number| {
            number
                .parse()
                .with_context(|| format!("{number}: not a row's number"))
        })
        .collect::<Result<_>>()?;
    let whole = chosen.is_empty();
    let numbers = if whole {
        (1..=ROWS.len()).collect()
    } else {
        chosen
    };
    ensure!(
        numbers
            .iter()
            .all(|number| (1..=ROWS.len()).contains(number)),
        "rows are numbered from 1 to {}",
        ROWS.len()
    );
    let outcomes = run(&numbers);
    let failed = outcomes
        .iter()
        .filter(|(_, (_, reason))| reason.is_some())
        .count();
    let path = paths::workspace().join("docs/hardware-matrix.md");
    let text = if whole {
        table(&outcomes)?
    } else {
        let old =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        updated(&old, &outcomes)
    };
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
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

/// Two machines at a time: they are emulated, and there may be just two cores.
fn run(numbers: &[usize]) -> Vec<(usize, Outcome)> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(number) = numbers.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let row = ROWS[number - 1];
                    let begun = Instant::now();
                    let result = row.run(&format!("matrix-{number}"));
                    let reason = result.err().map(|error| first_line(&format!("{error:#}")));
                    println!("{number} {row:?}: {}", reason.as_deref().unwrap_or("pass"));
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push((*number, (begun.elapsed().as_secs(), reason)));
                    }
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_default();
    outcomes.sort();
    outcomes
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    // What a test keeps in its own folder tells a reader nothing, and a bar would end the cell.
    line.split("; it is in ")
        .next()
        .unwrap_or(line)
        .replace('|', "/")
}

fn table(outcomes: &[(usize, Outcome)]) -> Result<String> {
    let date = tools::run("date", ["-u", "+%Y-%m-%d"])?;
    let qemu = tools::run("qemu-system-x86_64", ["--version"])?;
    let qemu = qemu.lines().next().unwrap_or_default();
    let mut text = format!(
        "# Hardware matrix\n\n\
         Written by `make test-matrix` on {}: {qemu}, emulated (TCG), two machines at a time. Not every combination, but each\n\
         firmware, loader, network card and disk with several others. Each machine boots from the network or the medium, backs\n\
         its disk up, and the image must be the disk, byte for byte. The seconds are of a busy computer: no benchmark.\n\n\
         | | firmware | boots by | network card | disk | result | seconds |\n|---|---|---|---|---|---|---|\n",
        date.trim()
    );
    for (number, outcome) in outcomes {
        writeln!(text, "{}", line(*number, outcome))?;
    }
    text.push_str(
        "\nOVMF of Debian drives virtio's card by itself and no other. On those, the iPXE of their ROM loads `syslinux.efi`; it loads the\n\
         UKI as well, but then the machine resets as the kernel starts (seen with vmxnet3 and e1000, and Debian 12's iPXE of 2019).\n\
         No firmware here boots from a network card on USB: those machines boot from the medium and work over the card. Under Secure\n\
         Boot the medium and the UKI are signed with the test key of Debian's `ovmf` package; unsigned loaders are not started there.\n",
    );
    Ok(text)
}

/// The table with these rows as they came out now.
fn updated(old: &str, outcomes: &[(usize, Outcome)]) -> String {
    let mut lines: Vec<String> = old.lines().map(str::to_owned).collect();
    for (number, outcome) in outcomes {
        let start = format!("| {number} |");
        for existing in lines.iter_mut().filter(|text| text.starts_with(&start)) {
            *existing = line(*number, outcome);
        }
    }
    lines.join("\n") + "\n"
}

fn line(number: usize, (seconds, reason): &Outcome) -> String {
    let row = ROWS[number - 1];
    let firmware = match row.firmware {
        Firmware::SeaBios => "SeaBIOS",
        Firmware::Ovmf => "OVMF",
        Firmware::OvmfSecureBoot => "OVMF, Secure Boot",
    };
    let loader = match row.loader {
        Loader::Pxelinux => "pxelinux",
        Loader::IpxeTftp => "iPXE, TFTP",
        Loader::IpxeHttp => "iPXE, HTTP",
        Loader::SyslinuxEfi => "syslinux.efi",
        Loader::UefiHttp => "UEFI HTTP, UKI",
        Loader::Iso => "ISO",
    };
    let result = match reason {
        None => "pass".to_owned(),
        Some(reason) => format!("**fail**: {reason}"),
    };
    let (nic, bus) = (row.nic.model(), row.bus.title());
    format!("| {number} | {firmware} | {loader} | {nic} | {bus} | {result} | {seconds} |")
}

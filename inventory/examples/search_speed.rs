//! How long searches take over a lab of 2,000 machines with 1,000 runs each, and how long the index takes to be made:
//! `cargo run --release -p pitstop-inventory --example search_speed [MACHINES RUNS]`. docs/inventory.md has the figures.

use jiff::{SignedDuration, Timestamp};
use pitstop_api::inventory::{Disk, Facts, Health, Nic};
use pitstop_inventory::{Index, Known, Named, Query, RunRow};
use std::error::Error;
use std::time::{Duration, Instant};

const SEARCHES: [&str; 14] = [
    "",
    "ram<8GiB disk.model~\"EVO\"",
    "evo",
    "disk.health=failing",
    "not disk.health=ok",
    "group=lab3 last.result=failed last.when<30d",
    "last.when>30d or last.result=running",
    "serial=SER01999",
    "mac=52:54:00:00:07:cf",
    "disk.serial~00123 or disk.serial~00456 or disk.serial~00789",
    "(cpu~xeon cores>=8) or (cpu~ryzen ram>=32GiB) not firmware=bios",
    "nic.driver=igc nic.speed<1000",
    "disk.size>1TB disk.size<5TB disk.wear>80",
    "not (name~lab1 or name~lab2 or name~lab3) secure-boot=on",
];
const TIMES: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut counts = std::env::args().skip(1).map(|word| word.parse::<u32>());
    let machines = counts.next().transpose()?.unwrap_or(2000);
    let runs = counts.next().transpose()?.unwrap_or(1000);
    let folder = tempfile::tempdir()?;
    let index = Index::open(folder.path())?;
    let (known, fleet): (Vec<Known>, Vec<Named>) = (0..machines).map(machine).unzip();

    let began = Instant::now();
    for round in 0..runs {
        let rows: Vec<RunRow> = (0..machines).map(|of| run(of, round, runs)).collect();
        index.note_runs(&rows)?;
    }
    println!(
        "{} runs put in: {:.1?}",
        u64::from(machines) * u64::from(runs),
        began.elapsed()
    );
    let began = Instant::now();
    index.sync_machines(&known, &fleet)?;
    println!("{machines} machines put in: {:.1?}", began.elapsed());
    let began = Instant::now();
    index.note_runs(&[run(0, runs, runs)])?;
    index.sync_machines(&known, &fleet)?;
    println!("one new run taken over: {:.1?}", began.elapsed());

    println!("  median    slowest  found");
    let (mut slowest, mut slowest_median) = (Duration::ZERO, Duration::ZERO);
    for text in SEARCHES {
        let query = Query::parse(text)?;
        let (mut times, mut found) = (Vec::new(), 0);
        for _ in 0..TIMES {
            let began = Instant::now();
            found = index.search(&query, Timestamp::now())?.len();
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let worst = times.last().copied().unwrap_or_default();
        println!("{median:>8.1?} {worst:>10.1?}  {found:>5}  {text}");
        slowest = slowest.max(worst);
        slowest_median = slowest_median.max(median);
    }
    println!(
        "the slowest median: {slowest_median:.1?}; the slowest of {TIMES} times each: {slowest:.1?}"
    );
    Ok(())
}

fn machine(number: u32) -> (Known, Named) {
    let mac = mac(number);
    let mut facts = Facts {
        version: 1,
        taken: "2026-11-28T12:00:00Z".into(),
        name: format!("pc{number:04}"),
        address: format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255),
        mac: mac.clone(),
        uuid: format!("4c4c4544-0038-4a10-804e-{number:012x}"),
        ..Facts::default()
    };
    facts.system.vendor = "Dell Inc.".into();
    facts.system.product = format!("OptiPlex {}", 7050 + number % 7 * 10);
    facts.system.serial = format!("SER{number:05}");
    facts.cpu.model = [
        "Intel(R) Xeon(R) Gold 6230",
        "AMD Ryzen 7 5800X",
        "Intel(R) Core(TM) i5-8500",
    ][number as usize % 3]
        .into();
    facts.cpu.cores = 4 << (number % 3);
    facts.ram.installed = (4_u64 << (number % 5)) << 30;
    for disk in 0..=(number % 3) {
        facts.disks.push(Disk {
            model: ["Samsung SSD 860 EVO", "WDC WD40EFRX", "KIOXIA KXG60"][disk as usize].into(),
            serial: format!("S{disk}-{number:05}"),
            size: [500_107_862_016, 4_000_787_030_016, 1_024_209_543_168][disk as usize],
            health: if number.is_multiple_of(97) {
                Health::Failing
            } else {
                Health::Ok
            },
            wear: u8::try_from(number % 101).ok(),
            ..Disk::default()
        });
    }
    facts.nics.push(Nic {
        mac: mac.clone(),
        driver: ["e1000e", "igc", "r8169"][number as usize % 3].into(),
        speed: Some(if number.is_multiple_of(50) { 100 } else { 1000 }),
        ..Nic::default()
    });
    let named = Named {
        name: format!("lab{}-{:03}", number / 200, number % 200),
        groups: vec![format!("lab{}", number / 200), "windows".into()],
        macs: vec![mac],
        ..Named::default()
    };
    let known = Known {
        folder: facts.uuid.clone(),
        stamp: number.to_string(),
        facts,
    };
    (known, named)
}

fn mac(number: u32) -> String {
    let [_, a, b, c] = number.to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// A run of a machine, so many hours ago that they are spread over some months.
fn run(of: u32, round: u32, runs: u32) -> RunRow {
    let ago = i64::from(runs.saturating_sub(round)) * 3 + i64::from(of % 1500);
    let when = Timestamp::now() - SignedDuration::from_hours(ago);
    let failed = (of + round).is_multiple_of(13);
    RunRow {
        id: format!("{}-{round:06}{of:06}", when.strftime("%Y%m%d-%H%M%S")),
        machine: format!("pc{of:04}"),
        address: format!("10.{}.{}.{}", of >> 16, of >> 8 & 255, of & 255),
        mac: mac(of),
        action: ["backup", "restore", "refresh-info"][round as usize % 3].into(),
        result: if failed { "failed" } else { "ok" }.into(),
        reason: if failed { "the image is truncated" } else { "" }.into(),
        when,
        is_open: false,
        from_log: false,
    }
}

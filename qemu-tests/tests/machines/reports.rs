//! What a server hears of a run while it goes on, and that a machine does its work when nobody hears it.

use anyhow::{Context, Result, ensure};
use qemu_tests::scene::Scene;
use qemu_tests::vm::ADDRESS;
use serde_json::Value;
use std::fs;

const JOB: &str = "20261128-212955-0f3a";

/// The lines of the only run.
fn reported(scene: &Scene) -> Result<Vec<Value>> {
    let runs = scene.server.root().join("runs");
    let mut entries = fs::read_dir(&runs).with_context(|| format!("reading {}", runs.display()))?;
    let run = entries.next().context("no run was reported")??.path();
    ensure!(entries.next().is_none(), "more than one run was reported");
    let summary = fs::read_to_string(run.join("run.toml"))?;
    ensure!(summary.contains(JOB), "{summary}");
    let text = fs::read_to_string(run.join("events.ndjson"))?;
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

fn of_type<'a>(lines: &'a [Value], wanted: &str) -> Result<&'a Value> {
    let mut found = lines.iter().filter(|line| line["type"] == wanted);
    found
        .next()
        .with_context(|| format!("no {wanted} in {lines:?}"))
}

#[test]
fn a_backup_leaves_a_run_with_plan_progress_and_result() -> Result<()> {
    let scene = Scene::new()?;
    let report = scene.url(&format!("/report/{JOB}"));
    scene.job("backup", &format!("report = \"{report}\""))?;
    scene.succeeds("reported", "backup")?;
    let lines = reported(&scene)?;
    ensure!(of_type(&lines, "begin")?["address"] == ADDRESS);
    let disk = &of_type(&lines, "plan")?["disks"][0];
    ensure!(
        disk["disk"] == "vda" && disk["serial"] == "SCENE0",
        "{disk}"
    );
    ensure!(
        disk["size"] == 16 << 20 && disk["will"] == "backup",
        "{disk}"
    );
    let progress = of_type(&lines, "progress")?;
    ensure!(
        progress["disk"] == "vda" && progress["step"] == 1,
        "{progress}"
    );
    let last = lines.last().context("nothing was reported")?;
    ensure!(
        last["type"] == "result" && last["verdict"] == "ok",
        "{last}"
    );
    ensure!(last["bytes"] == 16 << 20, "{last}");
    Ok(())
}

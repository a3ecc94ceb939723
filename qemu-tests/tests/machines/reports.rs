//! What a server hears of a run while it goes on, and that a machine does its work when nobody hears it.

use anyhow::{Context, Result, ensure};
use qemu_tests::scene::{Scene, expect_failure};
use qemu_tests::servers::free_port;
use qemu_tests::vm::{ADDRESS, End, HOST, PATIENCE};
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

#[test]
fn a_machine_that_fails_reports_why() -> Result<()> {
    let scene = Scene::new()?;
    let report = scene.url(&format!("/report/{JOB}"));
    scene.job("restore", &format!("report = \"{report}\""))?;
    let mut vm = scene.boot("reported-failure")?;
    expect_failure(&mut vm, "restore", &["vda"])?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    let lines = reported(&scene)?;
    let last = lines.last().context("nothing was reported")?;
    ensure!(last["verdict"] == "failed", "{last}");
    let reason = last["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("vda"), "{last}");
    Ok(())
}

#[test]
fn a_report_server_that_is_not_there_changes_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let nobody = free_port()?;
    scene.job(
        "backup",
        &format!("report = \"http://{HOST}:{nobody}/report\""),
    )?;
    scene.succeeds("reported-to-nobody", "backup")?;
    ensure!(scene.image().is_file());
    Ok(())
}

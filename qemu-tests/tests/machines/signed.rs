//! Machines that do signed jobs alone. Keys and signatures are minisign's own.

use anyhow::{Context, Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::media::build_for_cloud;
use qemu_tests::paths;
use qemu_tests::scene::{IMAGE, Scene, expect_failure, expect_success};
use qemu_tests::tools;
use qemu_tests::vm::{Boot, Bus, End, KERNEL_PARAMETERS, PATIENCE, Spec, Vm};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// QEMU's first network card.
const MAC: &str = "52:54:00:12:34:56";
const SERIAL: &str = "SIGNED0";

struct Lab {
    scene: Scene,
    folder: tempfile::TempDir,
}

impl Lab {
    /// An initramfs with the key `lab`, and on the share an image that is not what the disk has.
    fn new() -> Result<Self> {
        let scene = Scene::new()?;
        let folder = tempfile::tempdir()?;
        let lab = Self { scene, folder };
        lab.minisign(&["-G", "-W", "-p", "lab.pub", "-s", "lab.sec"])?;
        let mut mkimage = build_for_cloud("virtio,nic")?;
        mkimage.arg("--busybox").arg(tools::find("busybox")?);
        mkimage.arg("--job-key").arg(lab.path("lab.pub"));
        tools::output(mkimage.arg("-o").arg(lab.path("initramfs.img")))?;
        fs::create_dir_all(lab.scene.folder())?;
        back_up(Disk::noise(16 << 20, 9)?.path(), &lab.scene.image())?;
        Ok(lab)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn minisign(&self, arguments: &[&str]) -> Result<()> {
        let mut minisign = tools::command("minisign")?;
        tools::output(minisign.current_dir(self.folder.path()).args(arguments))?;
        Ok(())
    }

    fn spec(&self, name: &str, parameters: &str) -> Result<Spec> {
        let hosts = self.scene.url("/hosts/");
        let boot = Boot::Direct {
            kernel: paths::built_for_cloud("vmlinuz")?,
            initrd: self.path("initramfs.img"),
            command_line: format!("{KERNEL_PARAMETERS} pitstop.host={hosts} {parameters}"),
        };
        Ok(Spec::new(name, boot).disk(&self.scene.disk, Bus::Virtio, SERIAL))
    }

    /// The terms of a good restore of the image that is there.
    fn terms(&self) -> Result<String> {
        let mut inspect = Command::new(paths::built("pitstop")?);
        let json = tools::output(inspect.args(["inspect", "--json"]).arg(self.scene.image()))?;
        let (_, digest) = json.split_once("\"digest\": \"").context("no digest")?;
        let (digest, _) = digest.split_once('"').context("no digest")?;
        Ok(format!(
            "attempts = 20\nfor = {{ mac = \"{MAC}\" }}\ndisks = [{{ serial = \"{SERIAL}\" }}]\n\
             digests = {{ \"{IMAGE}\" = \"{digest}\" }}\nnot-after = \"2099-01-01T00:00:00Z\"\nid = \"one\""
        ))
    }

    fn set(&self, terms: &str) -> Result<()> {
        self.scene.job("restore", terms)?;
        let file = self.scene.configuration().display().to_string();
        let trusted = ["-t", "lab7: go"];
        self.minisign(&[&["-S", "-W", "-s", "lab.sec", "-m", &file], &trusted[..]].concat())
    }
}

fn back_up(disk: &Path, image: &Path) -> Result<()> {
    let mut pitstop = Command::new(paths::built("pitstop")?);
    tools::output(pitstop.arg("backup").arg(disk).arg(image))?;
    Ok(())
}

/// Every other thing that can be wrong with a signed job is in `payload`'s tests.
#[test]
fn what_the_key_has_not_signed_and_what_was_done_already_is_not_done() -> Result<()> {
    let lab = Lab::new()?;
    let terms = lab.terms()?;
    let scene = &lab.scene;
    // One machine, which boots again after each refusal and finds the next job.
    scene.job("restore", &terms)?;
    let mut vm = Vm::start(lab.spec("signed", "")?.keep_going())?;
    expect_failure(&mut vm, "restore", &["it is not signed"])?;

    lab.set(&terms)?;
    vm.sees("the host file is signed: lab7: go")?;
    expect_success(&mut vm, "restore")?;
    compare::zcat_equals(&scene.image(), scene.disk.path())?;
    ensure!(
        !scene.configuration().exists(),
        "the job is done and still there"
    );

    // Whoever kept the file sets it again.
    lab.set(&terms)?;
    expect_failure(&mut vm, "restore", &["the job one was done at"])?;
    scene.logged(&["the job one was done at"])
}

#[test]
fn neither_a_command_line_nor_a_clock_that_nobody_set_gets_around_a_signature() -> Result<()> {
    let lab = Lab::new()?;
    lab.set(&lab.terms()?.replace("attempts = 20", "attempts = 1"))?;
    // A shell is a way around everything.
    let mut vm = Vm::start(lab.spec("signed-rescue", "pitstop.action=rescue")?)?;
    expect_failure(&mut vm, "rescue", &["pitstop.action is not taken"])?;
    vm.sees("rebooting in ")?;
    vm.press(&["ctrl", "alt", "delete"])?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);

    let spec = lab.spec("signed-clock", "")?;
    let mut vm = Vm::start(spec.extra(&["-rtc", "base=2010-01-01T00:00:00"]))?;
    expect_failure(&mut vm, "restore", &["this machine's clock is wrong"])?;
    // The only try has failed: it holds, and nobody gets a shell by that.
    vm.sees("rescue: no shell: this initramfs does signed jobs alone")?;
    ensure!(
        vm.wait_for_end(Duration::from_secs(5)).is_err(),
        "the machine did not hold"
    );
    lab.scene.disk_untouched()
}
